package tensor

// Activation is an elementwise nonlinearity.
type Activation uint8

// The activations of the Wan models.
const (
	NoActivation Activation = iota
	GELUTanh                // 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
	GELUErf                 // 0.5 x (1 + erf(x / sqrt 2))
	SiLU                    // x / (1 + exp(-x))
)

// AttentionSpec are the numbers of an attention.
type AttentionSpec struct {
	// Scale multiplies q·k before the bias.
	Scale float32
	// KeyLen is how many keys count; keys from KeyLen on are masked.
	// 0 < KeyLen <= the length of k.
	KeyLen int
	// RelBias [N, Sq+Sk-1] F32, or none, is added to the scaled logits of head n,
	// query i and key j at column j - i + Sq - 1: a bias of the distance alone.
	RelBias Tensor
	// LSE [Sq, N] F32, or none, receives the log of the sum of exp(logits) of each
	// query and head: what merging partial attentions needs.
	LSE Tensor
}

// ConvSpec are the numbers of a convolution over [T, H, W].
type ConvSpec struct {
	// Stride of each dim, at least 1.
	Stride [3]int
	// PadT is the number of frames before the first: taken from the history,
	// newest last, and zeros where the history is shorter. Nothing is added behind.
	PadT int
	// PadTop, PadBottom, PadLeft and PadRight are zeros around each frame.
	PadTop, PadBottom, PadLeft, PadRight int
}

// WeightKind says which op a weight is for, as backends pack them differently.
type WeightKind uint8

// The kinds of weights.
const (
	VectorWeight WeightKind = iota // biases, norms, tables: row-major F32, never packed
	MatrixWeight                   // [N, K] of a MatMul
	ConvWeight                     // [Cout, kT, kH, kW, Cin] of a Conv3D
)

// Backend computes ops. Every method fills dst, which Ops has shaped and
// allocated and which overlaps no input unless a method says so; inputs have
// been checked against the shape rules documented at Ops. Arithmetic is F32,
// whatever the storage; a row is a vector along the last dim.
//
// Methods are called from one goroutine and may return before the work is
// done, but never out of order; Read and Sync wait.
type Backend interface {
	// Name identifies the backend in reports and errors.
	Name() string
	// Reserve returns bytes of memory. Errors: ErrNoMemory.
	Reserve(bytes int64, p Purpose) (Memory, error)
	// PackedBytes returns the bytes of the packed layout of a weight, 0 to keep
	// it row-major.
	PackedBytes(kind WeightKind, d DType, shape Shape) int64
	// WriteWeight packs src, row-major in dst's dtype, into a weight.
	WriteWeight(dst Tensor, kind WeightKind, src []byte) error
	// Write copies host bytes, row-major in dst's dtype, to dst.
	Write(dst Tensor, src []byte) error
	// Read copies src to host bytes and waits for it.
	Read(dst []byte, src Tensor) error
	// Sync waits for all work and returns its error.
	Sync() error

	// Copy casts src to dst's type; same number of elements.
	Copy(dst, src Tensor) error
	// CopyRows copies rows of run bytes: row i from srcOffset + i*srcStride to
	// dstOffset + i*dstStride, all in bytes relative to the tensors.
	CopyRows(dst, src Tensor, rows, run, dstOffset, dstStride, srcOffset, srcStride int64) error
	// Permute sets dst's dim i to src's dim perm[i].
	Permute(dst, src Tensor, perm []int) error
	// Fill sets every element.
	Fill(dst Tensor, v float32) error

	// Mul sets dst = a * b elementwise. dst may be a or b.
	Mul(dst, a, b Tensor) error
	// AddScaled adds y * gate to dst, row by row; a none gate stands for 1.
	AddScaled(dst, y, gate Tensor) error
	// Affine sets dst = x * (base + scale) + shift, row by row; a none scale or
	// shift stands for 0. dst may be x.
	Affine(dst, x, scale, shift Tensor, base float32) error
	// Activate applies act. dst may be x.
	Activate(dst, x Tensor, act Activation) error
	// Clamp limits x to [lo, hi]. dst may be x.
	Clamp(dst, x Tensor, lo, hi float32) error
	// Quantize maps [-1, 1] to the bytes 0..255 after clamping: (x+1)/2*255,
	// truncated, or rounded half up.
	Quantize(dst, x Tensor, round bool) error

	// RMSNorm sets dst = x / sqrt(mean(x²) + eps) * weight on rows. dst may be x.
	RMSNorm(dst, x, weight Tensor, eps float32) error
	// L2Norm sets dst = x / max(|x|₂, 1e-12) * sqrt(C) * weight on rows of C. dst may be x.
	L2Norm(dst, x, weight Tensor) error
	// LayerNorm sets dst = (x - mean) / sqrt(var + eps) [* weight + bias] on rows;
	// weight and bias may be none. dst may be x.
	LayerNorm(dst, x, weight, bias Tensor, eps float32) error
	// Rope rotates the adjacent pairs (2i, 2i+1) of x [S, N, H] by the angles
	// whose cosines and sines are [S, H/2] F32. dst may be x.
	Rope(dst, x, cos, sin Tensor) error

	// MatMul sets dst [.., N] = act(x [.., K] · w [N, K]ᵀ + bias [N]).
	MatMul(dst, x, w, bias Tensor, act Activation) error
	// Attention sets dst [Sq, N, H] = softmax(q·kᵀ*scale + bias)·v per head.
	Attention(dst, q, k, v Tensor, spec AttentionSpec) error
	// MergeAttention takes part [Sq, N, H], whose log-sum-exps are partLSE [Sq, N],
	// into acc [Sq, N, H] F32 and lse [Sq, N] F32, in place.
	MergeAttention(acc, lse, part, partLSE Tensor) error
	// Conv3D convolves x [T, H, W, Cin], preceded in time by history (or none),
	// with w [Cout, kT, kH, kW, Cin] and adds bias [Cout] (or none).
	Conv3D(dst, x, history, w, bias Tensor, spec ConvSpec) error
	// Upsample2x doubles H and W of x [T, H, W, C] by repeating pixels.
	Upsample2x(dst, x Tensor) error
}
