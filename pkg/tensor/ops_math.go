package tensor

// rowVector reports whether v is none or an F32 vector [D] for the rows of x.
func rowVector(v, x Tensor) bool {
	return v.IsNone() || (v.dtype == F32 && v.packed == 0 && v.NumElements() == int64(x.Dim(-1)))
}

// compute reports whether every tensor has a type that ops compute on.
func compute(xs ...Tensor) bool {
	for _, x := range xs {
		if !x.dtype.IsCompute() || x.packed > 0 {
			return false
		}
	}
	return true
}

// Mul returns a * b elementwise in a's type and memory: a is overwritten.
func (o Ops) Mul(a, b Tensor) Tensor {
	if !o.ok("mul", a, b) {
		return Tensor{}
	}
	if !compute(a, b) || !a.shape.Equal(b.shape) {
		return o.failf("mul", "%v by %v", a, b)
	}
	o.do("mul", o.backend.Mul(a, a, b))
	return a
}

// AddTo adds y * gate to x in place; gate is an F32 vector over the last dim,
// or none for 1.
func (o Ops) AddTo(x, y, gate Tensor) {
	if !o.ok("add", x, y) {
		return
	}
	if !compute(x, y) || !x.shape.Equal(y.shape) || !rowVector(gate, x) {
		o.failf("add", "%v * %v to %v", y, gate, x)
		return
	}
	o.do("add", o.backend.AddScaled(x, y, gate))
}

// Affine returns x * (base + scale) + shift in type d, with F32 vectors over the
// last dim; a none scale or shift stands for 0.
func (o Ops) Affine(x, scale, shift Tensor, base float32, d DType) Tensor {
	if !o.ok("affine", x) {
		return Tensor{}
	}
	if !compute(x) || !d.IsCompute() || !rowVector(scale, x) || !rowVector(shift, x) {
		return o.failf("affine", "%v by %v and %v to %v", x, scale, shift, d)
	}
	dst := o.like(x, d)
	if o.err == nil {
		o.do("affine", o.backend.Affine(dst, x, scale, shift, base))
	}
	return dst
}

// Activate applies act to x in place and returns x.
func (o Ops) Activate(x Tensor, act Activation) Tensor {
	if !o.ok("activate", x) {
		return Tensor{}
	}
	if !compute(x) {
		return o.failf("activate", "%v", x)
	}
	o.do("activate", o.backend.Activate(x, x, act))
	return x
}

// Clamp limits x to [lo, hi] in place and returns x.
func (o Ops) Clamp(x Tensor, lo, hi float32) Tensor {
	if !o.ok("clamp", x) {
		return Tensor{}
	}
	if !compute(x) {
		return o.failf("clamp", "%v", x)
	}
	o.do("clamp", o.backend.Clamp(x, x, lo, hi))
	return x
}

// Quantize returns pictures in [-1, 1] as bytes, truncated as the official video
// writer does, or rounded as its picture writer does.
func (o Ops) Quantize(x Tensor, round bool) Tensor {
	if !o.ok("quantize", x) {
		return Tensor{}
	}
	if !compute(x) {
		return o.failf("quantize", "%v", x)
	}
	dst := o.like(x, U8)
	if o.err == nil {
		o.do("quantize", o.backend.Quantize(dst, x, round))
	}
	return dst
}

// RMSNorm returns x / sqrt(mean(x²) + eps) * weight over the last dim, in type d.
// Source: arXiv:1910.07467.
func (o Ops) RMSNorm(x, weight Tensor, eps float32, d DType) Tensor {
	if !o.ok("rms norm", x, weight) {
		return Tensor{}
	}
	if !compute(x) || !d.IsCompute() || !rowVector(weight, x) {
		return o.failf("rms norm", "%v by %v to %v", x, weight, d)
	}
	dst := o.like(x, d)
	if o.err == nil {
		o.do("rms norm", o.backend.RMSNorm(dst, x, weight, eps))
	}
	return dst
}

// L2Norm returns x / max(|x|₂, 1e-12) * sqrt(C) * weight over the last dim C, the
// VAE's RMS_norm, whose eps is a clamp on the norm.
func (o Ops) L2Norm(x, weight Tensor) Tensor {
	if !o.ok("l2 norm", x, weight) {
		return Tensor{}
	}
	if !compute(x) || !rowVector(weight, x) {
		return o.failf("l2 norm", "%v by %v", x, weight)
	}
	dst := o.like(x, x.dtype)
	if o.err == nil {
		o.do("l2 norm", o.backend.L2Norm(dst, x, weight))
	}
	return dst
}

// LayerNorm returns (x - mean) / sqrt(var + eps) * weight + bias over the last
// dim, in type d; weight and bias may be none.
func (o Ops) LayerNorm(x, weight, bias Tensor, eps float32, d DType) Tensor {
	if !o.ok("layer norm", x) {
		return Tensor{}
	}
	if !compute(x) || !d.IsCompute() || !rowVector(weight, x) || !rowVector(bias, x) {
		return o.failf("layer norm", "%v by %v and %v to %v", x, weight, bias, d)
	}
	dst := o.like(x, d)
	if o.err == nil {
		o.do("layer norm", o.backend.LayerNorm(dst, x, weight, bias, eps))
	}
	return dst
}

// Rope rotates the adjacent pairs of x [S, N, H] in place by the angles of each
// token, cos and sin [S, H/2] F32, and returns x. Source: arXiv:2104.09864.
func (o Ops) Rope(x, cos, sin Tensor) Tensor {
	if !o.ok("rope", x, cos, sin) {
		return Tensor{}
	}
	want := Shape{x.Dim(0), x.Dim(2) / 2}
	if !compute(x) || x.Rank() != 3 || x.Dim(2)%2 != 0 || cos.dtype != F32 || sin.dtype != F32 ||
		!cos.shape.Equal(want) || !sin.shape.Equal(want) {
		return o.failf("rope", "%v by %v and %v", x, cos, sin)
	}
	o.do("rope", o.backend.Rope(x, x, cos, sin))
	return x
}

// MatMul returns act(x · wᵀ + bias) in type d: x [.., K], w [N, K], bias [N] F32
// or none, result [.., N].
func (o Ops) MatMul(x, w, bias Tensor, act Activation, d DType) Tensor {
	if !o.ok("matmul", x, w) {
		return Tensor{}
	}
	k, n := x.Dim(-1), w.Dim(0)
	if !compute(x) || !w.dtype.IsCompute() || !d.IsCompute() || w.Rank() != 2 || w.Dim(1) != k ||
		(!bias.IsNone() && (bias.dtype != F32 || bias.NumElements() != int64(n))) {
		return o.failf("matmul", "%v by %v and bias %v to %v", x, w, bias, d)
	}
	shape := append(Shape(nil), x.shape...)
	shape[len(shape)-1] = n
	dst := o.Empty(d, shape...)
	if o.err == nil {
		o.do("matmul", o.backend.MatMul(dst, x, w, bias, act))
	}
	return dst
}

// Attention returns softmax(q·kᵀ·scale + bias)·v per head, in q's type, without
// ever holding the Sq x Sk logits: q [Sq, N, H], k and v [Sk, N, H], result
// [Sq, N, H]. Source: FlashAttention, arXiv:2205.14135, online softmax.
func (o Ops) Attention(q, k, v Tensor, spec AttentionSpec) Tensor {
	if !o.ok("attention", q, k, v) {
		return Tensor{}
	}
	n, h := q.Dim(1), q.Dim(2)
	relBias, lse := spec.RelBias, spec.LSE
	switch {
	case !compute(q, k, v) || q.Rank() != 3 || !k.shape.Equal(v.shape) || !k.shape.Equal(Shape{k.Dim(0), n, h}):
		return o.failf("attention", "q %v, k %v, v %v", q, k, v)
	case spec.KeyLen <= 0 || spec.KeyLen > k.Dim(0):
		return o.failf("attention", "key length %d of %d keys", spec.KeyLen, k.Dim(0))
	case !relBias.IsNone() && (relBias.dtype != F32 || !relBias.shape.Equal(Shape{n, q.Dim(0) + k.Dim(0) - 1})):
		return o.failf("attention", "relative bias %v for q %v and k %v", relBias, q, k)
	case !lse.IsNone() && (lse.dtype != F32 || !lse.shape.Equal(Shape{q.Dim(0), n})):
		return o.failf("attention", "lse %v for q %v", lse, q)
	}
	dst := o.like(q, q.dtype)
	if o.err == nil {
		o.do("attention", o.backend.Attention(dst, q, k, v, spec))
	}
	return dst
}

// Conv3D returns the convolution of x [T, H, W, Cin] with w [Cout, kT, kH, kW, Cin]
// plus bias [Cout] F32 or none. In time it is causal: history [any, H, W, Cin], or
// none, holds the frames before x, and spec.PadT of them (zeros where there are
// fewer) precede it. Result [T', H', W', Cout] in x's type.
func (o Ops) Conv3D(x, history, w, bias Tensor, spec ConvSpec) Tensor {
	if !o.ok("conv3d", x, w) {
		return Tensor{}
	}
	var out [3]int
	valid := compute(x) && w.dtype.IsCompute() && x.Rank() == 4 && w.Rank() == 5 && x.Dim(3) == w.Dim(4) &&
		(bias.IsNone() || (bias.dtype == F32 && bias.NumElements() == int64(w.Dim(0)))) &&
		(history.IsNone() || (history.dtype == x.dtype && history.Rank() == 4 && history.packed == 0 &&
			history.shape[1:].Equal(x.shape[1:])))
	pads := [3]int{spec.PadT, spec.PadTop + spec.PadBottom, spec.PadLeft + spec.PadRight}
	valid = valid && min(spec.PadT, spec.PadTop, spec.PadBottom, spec.PadLeft, spec.PadRight) >= 0
	for i := range out {
		valid = valid && spec.Stride[i] >= 1
		if valid {
			out[i] = (x.Dim(i)+pads[i]-w.Dim(i+1))/spec.Stride[i] + 1
			valid = x.Dim(i)+pads[i] >= w.Dim(i+1)
		}
	}
	if !valid {
		return o.failf("conv3d", "%v after %v by %v and bias %v, %+v", x, history, w, bias, spec)
	}
	dst := o.Empty(x.dtype, out[0], out[1], out[2], w.Dim(0))
	if o.err == nil {
		o.do("conv3d", o.backend.Conv3D(dst, x, history, w, bias, spec))
	}
	return dst
}

// Upsample2x returns x [T, H, W, C] with each pixel repeated to 2x2.
func (o Ops) Upsample2x(x Tensor) Tensor {
	if !o.ok("upsample", x) {
		return Tensor{}
	}
	if !compute(x) || x.Rank() != 4 {
		return o.failf("upsample", "%v", x)
	}
	dst := o.Empty(x.dtype, x.Dim(0), 2*x.Dim(1), 2*x.Dim(2), x.Dim(3))
	if o.err == nil {
		o.do("upsample", o.backend.Upsample2x(dst, x))
	}
	return dst
}
