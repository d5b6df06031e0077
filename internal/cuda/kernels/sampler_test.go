package kernels

import "fmt"

func floats(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// same compares bits: each operation rounds as the host's solver does.
func (h *host) same(what string, at Address, want []float32) {
	h.Helper()
	got := h.read(Buffer{at, F32}, len(want))
	for i, w := range want {
		if float32(got[i]) != w {
			h.Errorf("%s: element %d of %d is %v, want %v", what, i, len(want), got[i], w)
			return
		}
	}
}

func testSampler(h *host) {
	const n = 1000
	h.each("guidance", func(h *host) {
		cond, c := h.vector(n, 1)
		uncond, u := h.vector(n, 1)
		want := make([]float32, n)
		for i := range want {
			want[i] = float32(u[i]) + float32(5.25*(float32(c[i])-float32(u[i])))
		}
		h.launch(Guidance(uncond, cond, uncond, n, 5.25))
		h.same("guidance", uncond, want)
	})
	for _, orders := range [][2]int{{0, 1}, {1, 2}, {2, 2}, {2, 1}} {
		h.each(fmt.Sprint("unipc_", orders), func(h *host) {
			s := UniPCStep{Sigma: 0.83, RhoD1: -0.07, RhoNow: 0.4,
				Correct: Interval{orders[0], 0.91, -0.13, -1.2}, Predict: Interval{orders[1], 0.87, -0.19, -0.9}}
			at, v := [5]Address{}, [5][]float32{}
			for i := range at {
				a, values := h.vector(n, 1)
				at[i], v[i] = a, floats(values)
			}
			latent, out, x0s, prevs, samples := v[0], v[1], v[2], v[3], v[4]
			for i := range latent {
				x := latent[i]
				x0, prev := x-float32(s.Sigma*out[i]), x0s[i]
				if orders[0] > 0 {
					higher := float32(s.RhoNow * (x0 - prev))
					if orders[0] == 2 {
						higher = float32(s.RhoD1*((prevs[i]-prev)/s.Correct.Ratio)) + higher
					}
					x = float32(s.Correct.Keep*samples[i]) - float32(s.Correct.Move*prev) - float32(s.Correct.Move*higher)
				}
				prevs[i], x0s[i], samples[i] = prev, x0, x
				next := float32(s.Predict.Keep*x) - float32(s.Predict.Move*x0)
				if orders[1] == 2 {
					next -= float32(s.Predict.Move * float32(0.5*((prev-x0)/s.Predict.Ratio)))
				}
				latent[i] = next
			}
			h.launch(UniPC(at[0], at[1], at[2], at[3], at[4], n, s))
			for i, name := range []string{"latent", "output", "x0", "previous x0", "sample"} {
				h.same(name, at[i], v[i])
			}
		})
	}
	for _, order := range []int{1, 2} {
		h.each(fmt.Sprint("dpmpp_", order), func(h *host) {
			s := DPMStep{0.83, 0.91, -0.13, order, 1.3, -0.065}
			latent, ls := h.vector(n, 1)
			output, os := h.vector(n, 1)
			x0s, xs := h.vector(n, 1)
			l, o, x := floats(ls), floats(os), floats(xs)
			for i := range l {
				x0 := l[i] - float32(s.Sigma*o[i])
				next := float32(s.Keep*l[i]) - float32(s.Move*x0)
				if order == 2 {
					next -= float32(s.HalfMove * float32(s.Slope*(x0-x[i])))
				}
				x[i], l[i] = x0, next
			}
			h.launch(DPM(latent, output, x0s, n, s))
			h.same("latent", latent, l)
			h.same("x0", x0s, x)
		})
	}
}
