package kernels

import (
	"fmt"
	"math"
)

func testNorm(h *host) {
	for _, from := range allTypes {
		for i, c := range []int{1, 7, 96, 258, 1536} {
			to := allTypes[(i+int(from))%3]
			h.each(fmt.Sprintf("%v_%v_%d", from, to, c), func(h *host) { testNormOf(h, from, to, 4, c) })
		}
	}
}

func testNormOf(h *host, from, to Type, rows, c int) {
	n := rows * c
	_, xs := h.random(from, n, 2)
	for i := range xs {
		xs[i] += 10 // a mean that is large beside the spread
		if i < c && c > 1 {
			xs[i] = 0 // eps alone stands in the way of 0/0
		}
	}
	x := h.values(from, xs)
	w, ws := h.vector(c, 1)
	b, bs := h.vector(c, 1)
	scale, scales := h.vector(c, 1)
	shift, shifts := h.vector(c, 1)
	rms, l2, plain, full := newResult(n), newResult(n), newResult(n), newResult(n)
	const eps = float32(1e-6)
	for r := range rows {
		row := xs[r*c : (r+1)*c]
		mean, square, variance := 0.0, 0.0, 0.0
		for _, v := range row {
			mean += v / float64(c)
			square += v * v
		}
		for _, v := range row {
			variance += (v - mean) * (v - mean) / float64(c)
		}
		deviation := math.Sqrt(variance + float64(eps))
		for i, v := range row {
			at := r*c + i
			rms.values[at] = v / math.Sqrt(square/float64(c)+float64(eps)) * ws[i]
			l2.values[at] = v / max(math.Sqrt(square), 1e-12) * math.Sqrt(float64(c)) * ws[i]
			rms.sizes[at], l2.sizes[at] = math.Abs(rms.values[at]), math.Abs(l2.values[at])
			plain.values[at] = (v - mean) / deviation
			plain.sizes[at] = (math.Abs(v) + math.Abs(mean)) / deviation // the mean is known to a rounding of itself
			affine := plain.values[at]*ws[i] + bs[i]
			full.values[at] = affine*(1+scales[i]) + shifts[i]
			full.sizes[at] = (plain.sizes[at]*math.Abs(ws[i])+math.Abs(bs[i]))*(1+math.Abs(scales[i])) + math.Abs(shifts[i])
		}
	}
	// The statistic, its root, its inverse and two products round once each; sums in
	// F32 of up to c/64 terms in a thread and then pairs add the rest.
	y := h.empty(to, n)
	h.launch(RMSNorm(y, x, w, rows, c, eps))
	h.check("rms_norm", y, rms, 8, 0)
	y = h.empty(to, n)
	h.launch(L2Norm(y, x, w, rows, c))
	h.check("l2_norm", y, l2, 8, 0)
	y = h.empty(to, n)
	h.launch(LayerNorm(y, x, LayerNormWeights{}, rows, c, eps))
	h.check("layer_norm", y, plain, 8, 0)
	y = h.empty(to, n)
	h.launch(LayerNorm(y, x, LayerNormWeights{w, b, scale, shift}, rows, c, eps))
	h.check("layer_norm with all", y, full, 10, 0)
	if from == to {
		h.launch(RMSNorm(x, x, w, rows, c, eps))
		h.check("rms_norm in place", x, rms, 8, 0)
	}
}

func testRope(h *host) {
	for _, d := range allTypes {
		for _, tc := range [][3]int{{1, 1, 2}, {7, 3, 12}, {5, 3, 6}, {9, 12, 128}} {
			h.each(fmt.Sprintf("%v_%v", d, tc), func(h *host) {
				s, n, dim := tc[0], tc[1], tc[2]
				x, xs := h.random(d, s*n*dim, 1)
				w, ws := h.vector(n*dim, 1)
				cos, sin := make([]float64, s*dim/2), make([]float64, s*dim/2)
				for i := range cos {
					sin[i], cos[i] = math.Sincos(h.rng.Float64() * 2 * math.Pi)
				}
				c, si := h.values(F32, cos).At, h.values(F32, sin).At
				plain, fused, normed := newResult(len(xs)), newResult(len(xs)), newResult(len(xs))
				const eps = float32(1e-6)
				for t := range s {
					row, square := xs[t*n*dim:(t+1)*n*dim], 0.0
					for _, v := range row {
						square += v * v
					}
					factor := 1 / math.Sqrt(square/float64(n*dim)+float64(eps))
					for i := 0; i < n*dim; i += 2 {
						k, at := t*dim/2+i%dim/2, t*n*dim+i
						turn := func(r result, a, b float64) {
							r.values[at], r.values[at+1] = a*cos[k]-b*sin[k], a*sin[k]+b*cos[k]
							r.sizes[at] = math.Abs(a) + math.Abs(b)
							r.sizes[at+1] = r.sizes[at]
						}
						a, b := row[i]*factor*ws[i], row[i+1]*factor*ws[i+1]
						turn(plain, row[i], row[i+1])
						turn(fused, a, b)
						normed.values[at], normed.values[at+1] = a, b
						normed.sizes[at], normed.sizes[at+1] = math.Abs(a), math.Abs(b)
					}
				}
				y := h.empty(F32, len(xs))
				h.launch(NormRope(y, x, 0, c, si, s, n, dim, eps))
				h.check("rotation alone", y, plain, 2, 0)
				y = h.empty(BF16, len(xs))
				h.launch(NormRope(y, x, w, 0, 0, s, n, dim, eps))
				h.check("norm alone", y, normed, 8, 0)
				h.launch(NormRope(x, x, w, c, si, s, n, dim, eps))
				h.check("in place", x, fused, 10, 0)
			})
		}
	}
}
