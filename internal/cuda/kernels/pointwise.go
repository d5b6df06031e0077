package kernels

// Activation is an elementwise nonlinearity, as pointwise.cu numbers them.
type Activation int

// The activations, in tensor.Activation's order.
const (
	None Activation = iota
	GELUTanh
	GELUErf
	SiLU
)

// Cast sets y = x, n elements.
func Cast(y, x Buffer, n int64) Launch {
	return striding(Pointwise, "cast", n, 4, y.At, x.At, y.Type, x.Type, n)
}

// Fill sets n elements to v.
func Fill(y Buffer, n int64, v float32) Launch {
	return striding(Pointwise, "fill", n, 1, y.At, y.Type, n, v)
}

// Multiply sets y = a * b elementwise; y may be a or b.
func Multiply(y, a, b Buffer, n int64) Launch {
	return striding(Pointwise, "multiply", n, 4, y.At, a.At, b.At, y.Type, a.Type, b.Type, n)
}

// AddScaled adds y * gate to x, n elements in rows of c; gate [c] F32, or 0 for 1.
func AddScaled(x, y Buffer, gate Address, n int64, c int) Launch {
	return striding(Pointwise, "add_scaled", n, 4, x.At, y.At, gate, x.Type, y.Type, n, c)
}

// Affine sets y = x * (base + scale) + shift, n elements in rows of c; scale and shift
// [c] F32, or 0. y may be x.
func Affine(y, x Buffer, scale, shift Address, n int64, c int, base float32) Launch {
	return striding(Pointwise, "affine", n, 4, y.At, x.At, scale, shift, y.Type, x.Type, n, c, base)
}

// BiasActivate sets y = act(x + bias), n elements in rows of c; bias [c] F32, or 0. y may be x.
func BiasActivate(y, x Buffer, bias Address, n int64, c int, act Activation) Launch {
	return striding(Pointwise, "bias_act", n, 4, y.At, x.At, bias, y.Type, x.Type, n, c, int(act))
}

// Clamp limits x to [lo, hi]. y may be x.
func Clamp(y, x Buffer, n int64, lo, hi float32) Launch {
	return striding(Pointwise, "clamp", n, 4, y.At, x.At, y.Type, x.Type, n, lo, hi)
}

// Quantize sets y, bytes, to [-1, 1] as 0..255, truncated or rounded half up.
func Quantize(y Address, x Buffer, n int64, round bool) Launch {
	r := 0
	if round {
		r = 1
	}
	return striding(Pointwise, "quantize", n, 1, y, x.At, x.Type, n, r)
}
