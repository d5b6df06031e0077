package kernels

import (
	"fmt"
	"math"
	"testing"
)

func testPointwise(h *host) {
	for _, from := range allTypes {
		for _, to := range allTypes {
			for _, n := range []int{1, 3, 8, 1030} {
				h.each(fmt.Sprintf("%v_%v_%d", from, to, n), func(h *host) { testPointwiseOf(h, from, to, n) })
			}
		}
	}
	h.each("misaligned", func(h *host) {
		// A slice may begin anywhere; four at a time must not.
		x, xs := h.random(BF16, 1033, 1)
		y := h.empty(F32, 1031)
		h.launch(Cast(y, Buffer{x.At + 4, BF16}, 1031))
		h.check("cast", y, exact(xs[2:1033]), 0, 0)
	})
	h.each("nan", func(h *host) {
		x := h.values(F32, []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0.5, math.NaN()})
		y := h.empty(BF16, 5)
		h.launch(Clamp(y, x, 5, -1, 1))
		h.check("clamp", y, exact([]float64{math.NaN(), 1, -1, 0.5, math.NaN()}), 0, 0)
	})
}

func exact(v []float64) result { return result{values: v, sizes: make([]float64, len(v))} }

func testPointwiseOf(h *host, from, to Type, n int) {
	x, xs := h.random(from, n, 1)
	other, others := h.random(to, n, 1)
	y := h.empty(to, n)
	h.launch(Cast(y, x, int64(n)))
	h.check("cast", y, exact(xs), 0, 0)

	c := n // one row, or rows of 5 where they fit
	if n%5 == 0 {
		c = 5
	}
	gate, gates := h.vector(c, 1)
	shift, shifts := h.vector(c, 1)
	product, sum, affine, plain := newResult(n), newResult(n), newResult(n), newResult(n)
	for i := range n {
		product.values[i] = xs[i] * others[i]
		product.sizes[i] = math.Abs(product.values[i])
		sum.values[i] = others[i] + xs[i]*gates[i%c]
		sum.sizes[i] = math.Abs(others[i]) + math.Abs(xs[i]*gates[i%c])
		affine.values[i] = xs[i]*(1+gates[i%c]) + shifts[i%c]
		affine.sizes[i] = math.Abs(xs[i])*(1+math.Abs(gates[i%c])) + math.Abs(shifts[i%c])
		plain.values[i] = xs[i] * 0.5
		plain.sizes[i] = math.Abs(xs[i])
	}
	y = h.empty(to, n)
	h.launch(Multiply(y, x, other, int64(n)))
	h.check("multiply", y, product, 1, 0)
	y = h.empty(to, n)
	h.launch(Affine(y, x, gate, shift, int64(n), c, 1))
	h.check("affine", y, affine, 3, 0)
	h.launch(Affine(y, x, 0, 0, int64(n), c, 0.5))
	h.check("affine without vectors", y, plain, 1, 0)
	h.launch(AddScaled(other, x, gate, int64(n), c))
	h.check("add_scaled", other, sum, 2, 0)
	h.launch(Fill(y, int64(n), 0.75))
	for i := range n {
		plain.values[i] = 0.75
	}
	h.check("fill", y, exact(plain.values), 0, 0)
	for _, round := range []bool{false, true} {
		bytes := h.bytesAt(make([]byte, n))
		h.launch(Quantize(bytes, x, int64(n), round))
		got := h.readBytes(bytes, n)
		for i, v := range xs {
			f := (min(max(float32(v), -1), 1) + 1) * 0.5 * 255
			if round {
				f += 0.5
			}
			if got[i] != byte(f) {
				h.Errorf("quantize, round %v: element %d, %v, is %d, want %d", round, i, v, got[i], byte(f))
			}
		}
	}
}

func activation(x float64, act Activation) float64 {
	switch act {
	case GELUTanh:
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case GELUErf:
		return 0.5 * x * math.Erfc(-x/math.Sqrt2)
	case SiLU:
		return x / (1 + math.Exp(-x))
	}
	return x
}

func testActivation(h *host) {
	for _, act := range []Activation{None, GELUTanh, GELUErf, SiLU} {
		h.each(fmt.Sprint(int(act)), func(h *host) {
			var xs []float64
			for v := -30.0; v <= 30; v += 1.0 / 32 {
				xs = append(xs, v)
			}
			xs = append(xs, -1e4, 1e4, -1e-6, 1e-6, 0, math.NaN())
			n := len(xs)
			x, y := h.values(F32, xs), h.empty(F32, n)
			want := newResult(n)
			for i, v := range xs {
				want.values[i], want.sizes[i] = activation(v, act), math.Abs(v)
			}
			h.launch(BiasActivate(y, x, 0, int64(n), n, act))
			h.check("without bias", y, want, 4, 0)
			bias, biases := h.vector(n, 1)
			for i, v := range xs {
				want.values[i], want.sizes[i] = activation(v+biases[i], act), math.Abs(v)+math.Abs(biases[i])
			}
			y = h.empty(BF16, n)
			h.launch(BiasActivate(y, x, bias, int64(n), n, act))
			h.check("with bias", y, want, 6, 0)
		})
	}
}

func TestRefusesPermute(t *testing.T) {
	if _, err := Permute(0, 0, 8, []int{1}, []int{0}); err == nil {
		t.Error("Permute took elements of 8 bytes")
	}
	if _, err := Permute(0, 0, 4, make([]int, 7), make([]int, 7)); err == nil {
		t.Error("Permute took 7 dims")
	}
}
