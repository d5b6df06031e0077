package backendtest

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

func testNorm(s *suite) {
	for _, n := range rowSizes {
		s.types(fmt.Sprint(n), func(e *env, d tensor.DType) {
			const rows = 5
			x, xs := e.random(d, 2, rows, n)
			g, gs := e.random(tensor.F32, 1, n)
			b, bs := e.random(tensor.F32, 1, n)
			for i := range xs { // a mean that is large beside the spread
				xs[i] += 10
			}
			if n > 1 {
				for i := range n { // a row of zeros: eps alone stands in the way of 0/0
					xs[i] = 0
				}
			}
			if err := s.backend.Write(x, encode(d, xs)); err != nil {
				e.Fatal(err)
			}
			rms, l2, plain, affine := newResult(len(xs)), newResult(len(xs)), newResult(len(xs)), newResult(len(xs))
			const eps32 = float32(1e-6)
			eps := float64(eps32)
			for r := range rows {
				row := xs[r*n : (r+1)*n]
				mean, square := 0.0, 0.0
				for _, v := range row {
					mean += v / float64(n)
					square += v * v
				}
				variance := 0.0
				for _, v := range row {
					variance += (v - mean) * (v - mean) / float64(n)
				}
				deviation := math.Sqrt(variance + eps)
				for i, v := range row {
					at := r*n + i
					rms.values[at] = v / math.Sqrt(square/float64(n)+eps) * gs[i]
					l2.values[at] = v / max(math.Sqrt(square), 1e-12) * math.Sqrt(float64(n)) * gs[i]
					plain.values[at] = (v - mean) / deviation
					affine.values[at] = plain.values[at]*gs[i] + bs[i]
					rms.sizes[at], l2.sizes[at] = math.Abs(rms.values[at]), math.Abs(l2.values[at])
					// The mean is known to a rounding of itself.
					plain.sizes[at] = (math.Abs(v) + math.Abs(mean)) / deviation
					affine.sizes[at] = plain.sizes[at]*math.Abs(gs[i]) + math.Abs(bs[i])
				}
			}
			for _, out := range []tensor.DType{d, tensor.F32} {
				// The statistic, its root, its inverse and two products round once each;
				// sums in F32 partial sums add the rest.
				e.check("rms norm", e.RMSNorm(x, g, eps32, out), rms, 6)
				e.check("layer norm", e.LayerNorm(x, tensor.Tensor{}, tensor.Tensor{}, eps32, out), plain, 6)
				e.check("layer norm, affine", e.LayerNorm(x, g, b, eps32, out), affine, 6)
			}
			e.check("l2 norm", e.L2Norm(x, g), l2, 6)
		})
	}
}

func testRope(s *suite) {
	for _, tc := range [][3]int{{1, 1, 2}, {7, 3, 12}, {19, 12, 128}, {300, 5, 16}} {
		s.types(fmt.Sprint(tc), func(e *env, d tensor.DType) {
			tokens, heads, dim := tc[0], tc[1], tc[2]
			x, xs := e.random(d, 1, tokens, heads, dim)
			cos, sin := make([]float64, tokens*dim/2), make([]float64, tokens*dim/2)
			for i := range cos {
				sin[i], cos[i] = math.Sincos(e.rng.Float64() * 2 * math.Pi)
			}
			c, s := e.tensor(tensor.F32, cos, tokens, dim/2), e.tensor(tensor.F32, sin, tokens, dim/2)
			want := newResult(len(xs))
			for i := 0; i < len(xs); i += 2 {
				angle := i/(heads*dim)*(dim/2) + i%dim/2
				a, b := xs[i], xs[i+1]
				want.values[i] = a*cos[angle] - b*sin[angle]
				want.values[i+1] = a*sin[angle] + b*cos[angle]
				want.sizes[i] = math.Abs(a) + math.Abs(b)
				want.sizes[i+1] = want.sizes[i]
			}
			e.check("rope", e.Rope(x, c, s), want, 1) // two products
		})
	}
}
