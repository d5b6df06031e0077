package golden

import (
	"fmt"
	"math"
	"testing"
)

// Compare fails the test unless got and want have the same length and every
// element of got is within tol of its counterpart. NaN on either side fails, and
// an infinity equals itself alone. The message names the worst element: its
// place, both values, and how many others are out of tolerance.
func Compare(t testing.TB, name string, got, want []float32, tol float32) {
	t.Helper()
	CompareShape(t, name, []int{len(want)}, got, want, tol)
}

// CompareShape is Compare, which names the worst element's place by its index
// in each dim of shape.
func CompareShape(t testing.TB, name string, shape []int, got, want []float32, tol float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d elements, want %d", name, len(got), len(want))
		return
	}
	if n := (Tensor{Shape: shape}).Len(); n != len(want) {
		t.Errorf("%s: shape %v has %d elements, compared are %d", name, shape, n, len(want))
		return
	}
	worst, worstDiff, numBad, sumSquares := -1, -1.0, 0, 0.0
	for i := range want {
		d := difference(got[i], want[i])
		if d > worstDiff {
			worst, worstDiff = i, d
		}
		if d > float64(tol) || math.IsInf(d, 1) {
			numBad++
		}
		sumSquares += d * d
	}
	if numBad == 0 && !math.IsNaN(float64(tol)) {
		return
	}
	t.Errorf("%s: worst element at %s: got %v, want %v, difference %.3g, tolerance %.3g; %d of %d out of tolerance, rms difference %.3g",
		name, place(worst, shape), got[worst], want[worst], worstDiff, tol, numBad, len(want), math.Sqrt(sumSquares/float64(len(want))))
}

// MaxDiff is the largest difference between two slices of equal length, +Inf
// where NaN or only one infinity is in a pair. It is for logging what was
// measured beside what is allowed.
func MaxDiff(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	worst := 0.0
	for i := range want {
		worst = max(worst, difference(got[i], want[i]))
	}
	return worst
}

// Permute returns the elements of x, a row-major tensor of the given shape, in
// the row-major order of the tensor whose dim i is dim perm[i] of x. A [C, T, H, W]
// reference becomes [T, H, W, C] by Permute(x, shape, 1, 2, 3, 0).
func Permute(x []float32, shape []int, perm ...int) []float32 {
	strides := make([]int, len(shape))
	for i, s := len(shape)-1, 1; i >= 0; i-- {
		strides[i] = s
		s *= shape[i]
	}
	out := make([]float32, 0, len(x))
	var walk func(level, at int)
	walk = func(level, at int) {
		if level == len(perm) {
			out = append(out, x[at])
			return
		}
		for i := range shape[perm[level]] {
			walk(level+1, at+i*strides[perm[level]])
		}
	}
	walk(0, 0)
	return out
}

func difference(a, b float32) float64 {
	if a == b {
		return 0
	}
	d := math.Abs(float64(a) - float64(b))
	if math.IsNaN(d) {
		return math.Inf(1)
	}
	return d
}

// place writes a flat index as one index per dim; a vector has only the one.
func place(flat int, shape []int) string {
	index := make([]int, len(shape))
	rest := flat
	for i := len(shape) - 1; i >= 0; i-- {
		index[i] = rest % shape[i]
		rest /= shape[i]
	}
	if len(shape) == 1 {
		return fmt.Sprint(index)
	}
	return fmt.Sprintf("%v of %v (flat %d)", index, shape, flat)
}
