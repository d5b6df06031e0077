package cpu

import (
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// RMSNorm sets dst = x / sqrt(mean(x²) + eps) * weight on rows.
func (b *Backend) RMSNorm(dst, x, weight tensor.Tensor, eps float32) error {
	to, xs, g := viewOf(dst), viewOf(x), viewOf(weight).floats()
	b.rows(dst, func(w *worker, at, n int64) {
		in := xs.load(w, bufIn, at, n)
		factor := float32(1 / math.Sqrt(sumSquares(in, 0)/float64(n)+float64(eps)))
		scaleRow(to, w, in, g, factor, at)
	})
	return nil
}

// L2Norm sets dst = x / max(|x|₂, 1e-12) * sqrt(C) * weight on rows.
func (b *Backend) L2Norm(dst, x, weight tensor.Tensor) error {
	to, xs, g := viewOf(dst), viewOf(x), viewOf(weight).floats()
	b.rows(dst, func(w *worker, at, n int64) {
		in := xs.load(w, bufIn, at, n)
		factor := float32(math.Sqrt(float64(n)) / max(math.Sqrt(sumSquares(in, 0)), 1e-12))
		scaleRow(to, w, in, g, factor, at)
	})
	return nil
}

func scaleRow(to view, w *worker, in, weight []float32, factor float32, at int64) {
	out := to.target(w, at, int64(len(in)))
	for i, v := range in {
		out[i] = v * factor * weight[i]
	}
	to.store(out, at)
}

// LayerNorm sets dst = (x - mean) / sqrt(var + eps) [* weight + bias] on rows.
func (b *Backend) LayerNorm(dst, x, weight, bias tensor.Tensor, eps float32) error {
	to, xs, g, add := viewOf(dst), viewOf(x), viewOf(weight).floats(), viewOf(bias).floats()
	b.rows(dst, func(w *worker, at, n int64) {
		in := xs.load(w, bufIn, at, n)
		mean := sum(in) / float64(n)
		factor := 1 / math.Sqrt(sumSquares(in, mean)/float64(n)+float64(eps))
		out := to.target(w, at, n)
		for i, v := range in {
			out[i] = float32((float64(v) - mean) * factor)
		}
		if g != nil {
			for i := range out {
				out[i] *= g[i]
			}
		}
		if add != nil {
			for i := range out {
				out[i] += add[i]
			}
		}
		to.store(out, at)
	})
	return nil
}

// sum adds x in float64, in four partial sums.
func sum(x []float32) float64 {
	var s0, s1, s2, s3 float64
	for len(x) >= 4 {
		s0 += float64(x[0])
		s1 += float64(x[1])
		s2 += float64(x[2])
		s3 += float64(x[3])
		x = x[4:]
	}
	for _, v := range x {
		s0 += float64(v)
	}
	return (s0 + s1) + (s2 + s3)
}

// sumSquares adds (x - mean)² in float64, in four partial sums.
func sumSquares(x []float32, mean float64) float64 {
	var s0, s1, s2, s3 float64
	for len(x) >= 4 {
		d0, d1, d2, d3 := float64(x[0])-mean, float64(x[1])-mean, float64(x[2])-mean, float64(x[3])-mean
		s0 += d0 * d0
		s1 += d1 * d1
		s2 += d2 * d2
		s3 += d3 * d3
		x = x[4:]
	}
	for _, v := range x {
		d := float64(v) - mean
		s0 += d * d
	}
	return (s0 + s1) + (s2 + s3)
}

// Rope rotates the adjacent pairs of each head of x [S, N, H]; all heads of a
// token turn by the same angles.
func (b *Backend) Rope(dst, x, cos, sin tensor.Tensor) error {
	to, xs, c, s := viewOf(dst), viewOf(x), viewOf(cos).floats(), viewOf(sin).floats()
	heads, half := x.Dim(1), x.Dim(2)/2
	token := heads * half * 2
	b.pool.ranges(int64(x.Dim(0)), grainElements/int64(token), func(w *worker, lo, hi int64) {
		for i := lo; i < hi; i++ {
			at := i * int64(token)
			in := xs.load(w, bufIn, at, int64(token))
			out := to.target(w, at, int64(token))
			cosRow, sinRow := c[int(i)*half:][:half], s[int(i)*half:][:half]
			for n := range heads {
				x, y := in[n*2*half:][:2*half], out[n*2*half:][:2*half]
				for j := range cosRow {
					a, b := x[2*j], x[2*j+1]
					y[2*j] = a*cosRow[j] - b*sinRow[j]
					y[2*j+1] = a*sinRow[j] + b*cosRow[j]
				}
			}
			to.store(out, at)
		}
	})
	return nil
}
