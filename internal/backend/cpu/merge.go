package cpu

import (
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// MergeAttention weighs acc and part by their shares of the sum of exponentials.
func (b *Backend) MergeAttention(acc, lse, part, partLSE tensor.Tensor) error {
	to, parts := viewOf(acc).floats(), viewOf(part)
	sums, partSums := viewOf(lse).floats(), viewOf(partLSE).floats()
	dim := int64(acc.Dim(2))
	b.pool.ranges(int64(len(sums)), max(grainElements/dim, 1), func(w *worker, lo, hi int64) {
		for row := lo; row < hi; row++ {
			old, added, sum := mergeWeights(sums[row], partSums[row])
			sums[row] = sum
			dst := to[row*dim : (row+1)*dim]
			for i, v := range parts.load(w, bufIn, row*dim, dim) {
				dst[i] = dst[i]*old + v*added
			}
		}
	})
	return nil
}

// mergeWeights returns exp(a) and exp(b) divided by their sum, and the log of it.
// Two empty sums stay empty: the first keeps its results.
func mergeWeights(a, b float32) (wa, wb, sum float32) {
	top := max(a, b)
	if top == negInf {
		return 1, 0, negInf
	}
	ea, eb := math.Exp(float64(a)-float64(top)), math.Exp(float64(b)-float64(top))
	return float32(ea / (ea + eb)), float32(eb / (ea + eb)), float32(float64(top) + math.Log(ea+eb))
}
