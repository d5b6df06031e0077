package backendtest

import (
	"bytes"
	"fmt"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// rowSizes are lengths of rows: one, odd tails of vectors, real ones.
var rowSizes = []int{1, 3, 16, 61, 384, 1537}

func testPointwise(s *suite) {
	for _, n := range rowSizes {
		s.types(fmt.Sprint("mul/", n), func(e *env, d tensor.DType) {
			x, xs := e.random(d, 1, 5, n)
			y, ys := e.random(d, 1, 5, n)
			want := newResult(len(xs))
			for i := range xs {
				want.values[i] = xs[i] * ys[i]
			}
			e.check("mul", e.Mul(x, y), want, 0)
		})
		s.types(fmt.Sprint("add/", n), func(e *env, d tensor.DType) {
			g, gs := e.random(tensor.F32, 1, n)
			for _, gate := range []tensor.Tensor{g, {}} {
				// The stream is F32 where the official code keeps it so, whatever is added.
				for _, stream := range []tensor.DType{tensor.F32, d} {
					x, xs := e.random(stream, 1, 5, n)
					y, ys := e.random(d, 1, 5, n)
					want := newResult(len(xs))
					for i := range xs {
						add := ys[i]
						if !gate.IsNone() {
							add *= gs[i%n]
						}
						want.values[i] = xs[i] + add
						want.sizes[i] = math.Abs(add)
					}
					e.AddTo(x, y, gate)
					e.check(fmt.Sprintf("add %v to", d), x, want, 1) // the product's rounding
				}
			}
		})
		s.types(fmt.Sprint("affine/", n), func(e *env, d tensor.DType) {
			x, xs := e.random(d, 1, 5, n)
			a, as := e.random(tensor.F32, 1, n)
			b, bs := e.random(tensor.F32, 1, 1, n)
			for _, scale := range []tensor.Tensor{a, {}} {
				for _, shift := range []tensor.Tensor{b, {}} {
					const base = 1.25
					want := newResult(len(xs))
					for i := range xs {
						factor, add := base, 0.0
						if !scale.IsNone() {
							factor += as[i%n]
						}
						if !shift.IsNone() {
							add = bs[i%n]
						}
						want.values[i] = xs[i]*factor + add
						want.sizes[i] = math.Abs(xs[i]) * (base + math.Abs(factor))
					}
					// The factor's and the product's rounding.
					e.check("affine", e.Affine(x, scale, shift, base, d), want, 2)
					e.check("affine to F32", e.Affine(x, scale, shift, base, tensor.F32), want, 2)
				}
			}
		})
	}
	s.types("clamp", func(e *env, d tensor.DType) {
		x, xs := e.random(d, 2, 3, 100)
		for i, v := range xs {
			xs[i] = max(-1, min(v, 1))
		}
		e.check("clamp", e.Clamp(x, -1, 1), exact(xs), 0)
	})
}

// activationInputs are where activations go wrong: tiny, both tails, the places
// where exp overflows or tanh saturates, and a fine grid between.
func activationInputs() (xs []float64) {
	xs = []float64{0, 1e-38, -1e-38, 1e-20, -1e-20, 1e-7, -1e-7, 87, -87, 88.8, -88.8, 104, -104, 1e4, -1e4, 3e4, -3e4, 1e20, 3e38}
	for i := -12000; i <= 12000; i++ {
		xs = append(xs, float64(i)/1000)
	}
	return xs
}

func testActivation(s *suite) {
	for _, act := range []tensor.Activation{tensor.NoActivation, tensor.GELUTanh, tensor.GELUErf, tensor.SiLU} {
		s.types(fmt.Sprint(act), func(e *env, d tensor.DType) {
			xs := activationInputs()
			x := e.tensor(d, xs, len(xs))
			want := newResult(len(xs))
			for i, v := range xs {
				want.values[i] = activation(v, act)
				// In the negative tail the result is tiny beside x, and formulas with
				// 1 + tanh or 1 + erf cancel: errors count relative to x there.
				want.sizes[i] = min(math.Abs(v), 16)
			}
			e.check("activate", e.Activate(x, act), want, 2)
		})
	}
}

func testQuantize(s *suite) {
	s.types("quantize", func(e *env, d tensor.DType) {
		xs := []float64{-1, 1, 0, -2, 2, math.Inf(1), math.Inf(-1), 0.999, -0.999, 0.00392, -0.00392}
		for i := range 2000 {
			xs = append(xs, float64(i)/1000-1)
		}
		x := e.tensor(d, xs, len(xs))
		for _, round := range []bool{false, true} {
			want := make([]byte, len(xs))
			for i, v := range xs {
				// In F32, operation by operation, as the official code does: the
				// truncation makes the roundings before it visible.
				f := float32(max(-1, min(v, 1)))
				f = float32(float32(f+1)/2) * 255
				if round {
					f += 0.5
				}
				want[i] = byte(f)
			}
			if got := e.Bytes(e.Quantize(x, round)); !bytes.Equal(got, want) {
				for i := range got {
					if got[i] != want[i] {
						e.Fatalf("quantize, round %v: %v at %d became %d, want %d", round, xs[i], i, got[i], want[i])
					}
				}
			}
		}
	})
}
