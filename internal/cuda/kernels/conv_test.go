package kernels

import (
	"bytes"
	"fmt"
	"math"
)

// oracle is the convolution of float64s; history and bias may be nil.
func (c ConvCall) oracle(x, history, w, bias []float64) result {
	out := newResult(c.Out[0] * c.Out[1] * c.Out[2] * c.Cout)
	for i := range out.values {
		o, p := i%c.Cout, i/c.Cout
		px, p := p%c.Out[2], p/c.Out[2]
		py, pt := p%c.Out[1], p/c.Out[1]
		at := o * len(w) / c.Cout
		for kt := range c.Kernel[0] {
			for ky := range c.Kernel[1] {
				for kx := range c.Kernel[2] {
					t, row, col := pt*c.Stride[0]+kt-c.PadT, py*c.Stride[1]+ky-c.PadTop, px*c.Stride[2]+kx-c.PadLeft
					from, frame := x, t
					if t < 0 {
						from, frame = history, t+c.Past
					}
					inside := frame >= 0 && row >= 0 && row < c.In[1] && col >= 0 && col < c.In[2]
					for e := range c.Cin {
						if inside {
							p := from[((frame*c.In[1]+row)*c.In[2]+col)*c.Cin+e] * w[at+e]
							out.values[i] += p
							out.sizes[i] += math.Abs(p)
						}
					}
					at += c.Cin
				}
			}
		}
		if bias != nil {
			out.values[i] += bias[o]
			out.sizes[i] += math.Abs(bias[o])
		}
	}
	return out
}

// sized sets Out of the padding behind as well as before.
func (c ConvCall) sized(padBottom, padRight int) ConvCall {
	pads := [3]int{c.PadT, c.PadTop + padBottom, c.PadLeft + padRight}
	for i := range c.Out {
		c.Out[i] = (c.In[i]+pads[i]-c.Kernel[i])/c.Stride[i] + 1
	}
	return c
}

func testConv(h *host) {
	one, cube := [3]int{1, 1, 1}, [3]int{3, 3, 3}
	for _, tc := range []struct {
		name                string
		call                ConvCall
		padBottom, padRight int
	}{
		{"3x3x3", ConvCall{In: [3]int{3, 5, 7}, Cin: 8, Cout: 12, Past: 2, Kernel: cube, Stride: one, PadT: 2, PadTop: 1, PadLeft: 1}, 1, 1},
		{"3x3x3_short_history", ConvCall{In: [3]int{1, 4, 4}, Cin: 20, Cout: 70, Past: 1, Kernel: cube, Stride: one, PadT: 2, PadTop: 1, PadLeft: 1}, 1, 1},
		{"3x3x3_from_rgb", ConvCall{In: [3]int{2, 9, 6}, Cin: 3, Cout: 16, Kernel: cube, Stride: one, PadT: 2, PadTop: 1, PadLeft: 1}, 1, 1},
		{"3x3x3_to_rgb", ConvCall{In: [3]int{1, 6, 13}, Cin: 16, Cout: 3, Past: 3, Kernel: cube, Stride: one, PadT: 2, PadTop: 1, PadLeft: 1}, 1, 1},
		{"1x3x3_down", ConvCall{In: [3]int{2, 7, 9}, Cin: 16, Cout: 5, Kernel: [3]int{1, 3, 3}, Stride: [3]int{1, 2, 2}}, 1, 1},
		{"3x1x1_down", ConvCall{In: [3]int{4, 3, 5}, Cin: 10, Cout: 10, Past: 1, Kernel: [3]int{3, 1, 1}, Stride: [3]int{2, 1, 1}, PadT: 1}, 0, 0},
		{"1x2x2_patch", ConvCall{In: [3]int{2, 6, 8}, Cin: 36, Cout: 65, Kernel: [3]int{1, 2, 2}, Stride: [3]int{1, 2, 2}}, 0, 0},
		{"odd", ConvCall{In: [3]int{4, 7, 8}, Cin: 3, Cout: 5, Past: 2, Kernel: [3]int{2, 4, 3}, Stride: [3]int{3, 2, 1}, PadT: 3, PadTop: 2, PadLeft: 3}, 0, 2},
	} {
		for _, d := range allTypes {
			for _, precision := range []Precision{Full, TF32} {
				if d != F32 && precision == TF32 {
					continue
				}
				h.each(fmt.Sprintf("%s_%v_%d", tc.name, d, precision), func(h *host) {
					c := tc.call.sized(tc.padBottom, tc.padRight)
					c.Type, c.Precision = d, precision
					testConvOf(h, c)
				})
			}
		}
	}
	h.each("in_pieces", testConvPieces)
}

func testConvOf(h *host, c ConvCall) {
	frame, depth := c.In[1]*c.In[2]*c.Cin, c.Kernel[0]*c.Kernel[1]*c.Kernel[2]*c.Cin
	x, xs := h.random(c.Type, c.In[0]*frame, 1)
	w, ws := h.random(c.Type, c.Cout*depth, 1/math.Sqrt(float64(depth)))
	var history Buffer
	var hs []float64
	if c.Past > 0 {
		history, hs = h.random(c.Type, c.Past*frame, 1)
	}
	c.X, c.Weight, c.History = x.At, w.At, history.At
	extra := 0.0
	if c.Type == F32 && c.Precision == TF32 {
		extra = 0x1p-10 // both factors rounded to 11 bits
	}
	ulps := math.Sqrt(float64(depth)) + 8
	n := c.Out[0] * c.Out[1] * c.Out[2] * c.Cout
	c.Y = h.empty(c.Type, n).At
	h.launch(c.Launch())
	h.check("without bias", Buffer{c.Y, c.Type}, c.oracle(xs, hs, ws, nil), ulps, extra)
	bias, bs := h.vector(c.Cout, 1)
	c.Y, c.Bias = h.empty(c.Type, n).At, bias
	h.launch(c.Launch())
	h.check("with bias", Buffer{c.Y, c.Type}, c.oracle(xs, hs, ws, bs), ulps, extra)
}

// testConvPieces feeds a clip in pieces with the frames before as history: the same bits.
func testConvPieces(h *host) {
	c := ConvCall{Type: BF16, In: [3]int{5, 4, 5}, Cin: 8, Cout: 9, Kernel: [3]int{3, 3, 3}, Stride: [3]int{1, 1, 1},
		PadT: 2, PadTop: 1, PadLeft: 1}.sized(1, 1)
	const frame, outFrame = 4 * 5 * 8 * 2, 4 * 5 * 9 * 2
	x, _ := h.random(BF16, 5*frame/2, 1)
	w, _ := h.random(BF16, 9*27*8, 0.1)
	c.X, c.Weight, c.Y = x.At, w.At, h.empty(BF16, 5*outFrame/2).At
	h.launch(c.Launch())
	whole := h.readBytes(c.Y, 5*outFrame)
	var got []byte
	start := 0
	for _, n := range []int{1, 1, 3} {
		p := c
		p.In[0], p.Out[0], p.Past = n, n, min(start, 2)
		p.X = x.At + Address(start*frame)
		if p.Past > 0 {
			p.History = p.X - Address(p.Past*frame)
		}
		p.Y = h.empty(BF16, n*outFrame/2).At
		h.launch(p.Launch())
		got = append(got, h.readBytes(p.Y, n*outFrame)...)
		start += n
	}
	if !bytes.Equal(got, whole) {
		h.equal("pieces", got, whole)
	}
}

func testMatMul(h *host) {
	for _, d := range allTypes {
		h.each(fmt.Sprint(d), func(h *host) {
			const m, n, k = 70, 67, 96
			x, xs := h.random(d, m*k, 1)
			w, ws := h.random(d, n*k, 0.1)
			bias, bs := h.vector(n, 1)
			y := h.empty(d, m*n)
			want := newResult(m * n)
			for i := range want.values {
				want.values[i], want.sizes[i] = bs[i%n], math.Abs(bs[i%n])
				for e := range k {
					p := xs[i/n*k+e] * ws[i%n*k+e]
					want.values[i] += p
					want.sizes[i] += math.Abs(p)
				}
			}
			h.launch(MatMul(d, Full, y.At, x.At, w.At, bias, m, n, k))
			h.check("matmul", y, want, 18, 0)
		})
	}
}
