package kernels

// Precision is how a convolution of F32 tensors multiplies.
type Precision int

// The precisions. Those of 16 bits multiply exactly and sum in F32.
const (
	Full Precision = iota // F32
	TF32                  // factors of 11 bits
)

// ConvCall is a causal convolution, channels last: X [T, H, W, Cin] after History
// [Past, H, W, Cin] (or 0), weight [Cout, kT, kH, kW, Cin], Bias [Cout] F32 (or 0), Y
// [out.., Cout], all but the bias of one Type.
type ConvCall struct {
	Type                  Type
	Precision             Precision
	Y, X, History, Weight Address
	Bias                  Address
	In                    [3]int // T, H, W
	Cin, Cout, Past       int
	Kernel, Stride        [3]int
	PadT, PadTop, PadLeft int
	Out                   [3]int
}

const convTile = 64

// Launch returns the kernel of the call.
func (c ConvCall) Launch() Launch {
	name, row := "conv_f32", 32*4+16
	switch {
	case c.Type == BF16:
		name, row = "conv_bf16", 32*2+16
	case c.Type == F16:
		name, row = "conv_f16", 32*2+16
	case c.Precision == TF32:
		name = "conv_tf32"
	}
	past := c.Past
	if c.History == 0 {
		past = 0
	}
	pixels := c.Out[0] * c.Out[1] * c.Out[2]
	grid := [3]int{(pixels + convTile - 1) / convTile, (c.Cout + convTile - 1) / convTile, 1}
	return newLaunch(Conv, name, grid, 128, 4*convTile*row, c.Y, c.X, c.History, c.Weight, c.Bias,
		c.In[0], c.In[1], c.In[2], c.Cin, past, c.Kernel[0], c.Kernel[1], c.Kernel[2], c.Cout,
		c.Stride[0], c.Stride[1], c.Stride[2], c.PadT, c.PadTop, c.PadLeft, c.Out[0], c.Out[1], c.Out[2])
}

// MatMul sets y [m, n] = x [m, k] w [n, k]ᵀ + bias as a convolution of one tap: for
// shapes that a library refuses, and where there is none.
func MatMul(t Type, p Precision, y, x, w, bias Address, m, n, k int) Launch {
	one := [3]int{1, 1, 1}
	return ConvCall{Type: t, Precision: p, Y: y, X: x, Weight: w, Bias: bias, In: [3]int{1, 1, m}, Cin: k, Cout: n,
		Kernel: one, Stride: one, Out: [3]int{1, 1, m}}.Launch()
}
