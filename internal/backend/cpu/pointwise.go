package cpu

import "github.com/wanrun/wanrun/pkg/tensor"

// Mul sets dst = a * b.
func (b *Backend) Mul(dst, x, y tensor.Tensor) error {
	to, xs, ys := viewOf(dst), viewOf(x), viewOf(y)
	b.pool.ranges(dst.NumElements(), grainElements, func(w *worker, lo, hi int64) {
		p, q := xs.load(w, bufIn, lo, hi-lo), ys.load(w, bufIn2, lo, hi-lo)
		out := to.target(w, lo, hi-lo)
		for i := range out {
			out[i] = p[i] * q[i]
		}
		to.store(out, lo)
	})
	return nil
}

// AddScaled adds y * gate to dst.
func (b *Backend) AddScaled(dst, y, gate tensor.Tensor) error {
	to, ys, g := viewOf(dst), viewOf(y), viewOf(gate).floats()
	b.rows(dst, func(w *worker, at, n int64) {
		sum, add := to.load(w, bufIn, at, n), ys.load(w, bufIn2, at, n)
		out := to.target(w, at, n)
		if g == nil {
			for i := range out {
				out[i] = sum[i] + add[i]
			}
		} else {
			for i := range out {
				out[i] = sum[i] + add[i]*g[i]
			}
		}
		to.store(out, at)
	})
	return nil
}

// Affine sets dst = x * (base + scale) + shift.
func (b *Backend) Affine(dst, x, scale, shift tensor.Tensor, base float32) error {
	to, xs := viewOf(dst), viewOf(x)
	factor, add := viewOf(scale).floats(), viewOf(shift).floats()
	b.rows(dst, func(w *worker, at, n int64) {
		in := xs.load(w, bufIn, at, n)
		out := to.target(w, at, n)
		switch {
		case factor != nil && add != nil:
			for i := range out {
				out[i] = in[i]*(base+factor[i]) + add[i]
			}
		case factor != nil:
			for i := range out {
				out[i] = in[i] * (base + factor[i])
			}
		case add != nil:
			for i := range out {
				out[i] = in[i]*base + add[i]
			}
		default:
			for i := range out {
				out[i] = in[i] * base
			}
		}
		to.store(out, at)
	})
	return nil
}

// Activate applies act.
func (b *Backend) Activate(dst, x tensor.Tensor, act tensor.Activation) error {
	to, xs := viewOf(dst), viewOf(x)
	b.pool.ranges(dst.NumElements(), grainElements, func(w *worker, lo, hi int64) {
		out := to.target(w, lo, hi-lo)
		copy(out, xs.load(w, bufIn, lo, hi-lo))
		b.kernels.activate(out, act)
		to.store(out, lo)
	})
	return nil
}

// Clamp limits x to [lo, hi]; a NaN stays a NaN.
func (b *Backend) Clamp(dst, x tensor.Tensor, lo, hi float32) error {
	to, xs := viewOf(dst), viewOf(x)
	b.pool.ranges(dst.NumElements(), grainElements, func(w *worker, from, end int64) {
		in := xs.load(w, bufIn, from, end-from)
		out := to.target(w, from, end-from)
		for i, v := range in {
			out[i] = max(lo, min(v, hi))
		}
		to.store(out, from)
	})
	return nil
}

// Quantize maps [-1, 1] to bytes; a NaN becomes 0.
func (b *Backend) Quantize(dst, x tensor.Tensor, round bool) error {
	to, xs := viewOf(dst).bytes, viewOf(x)
	half := float32(0)
	if round {
		half = 0.5
	}
	b.pool.ranges(dst.NumElements(), grainElements, func(w *worker, lo, hi int64) {
		for i, v := range xs.load(w, bufIn, lo, hi-lo) {
			v = max(-1, min(v, 1))
			if v != v {
				v = -1
			}
			// The conversion keeps the product apart from the sum: a fused
			// multiply-add would round elsewhere than the official code does.
			to[lo+int64(i)] = uint8(float32((v+1)/2*255) + half)
		}
	})
	return nil
}

// rows calls run for every row of x with its first element and length.
func (b *Backend) rows(x tensor.Tensor, run func(w *worker, at, n int64)) {
	n := int64(x.Dim(-1))
	b.pool.ranges(x.Rows(), grainElements/n, func(w *worker, lo, hi int64) {
		for i := lo; i < hi; i++ {
			run(w, i*n, n)
		}
	})
}
