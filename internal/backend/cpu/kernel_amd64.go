package cpu

import (
	"math"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// haveAVX2 says whether the kernels in assembly can run: 8-float vectors, fused
// multiply-add and, which every such machine has, half conversions.
var haveAVX2 = cpu.X86.HasAVX2 && cpu.X86.HasFMA

// fastKernels returns the kernels in assembly, false if the machine lacks them.
func fastKernels() (kernels, bool) {
	return kernels{tileAVX2, softmaxAVX2, activateAVX2}, haveAVX2
}

//go:noescape
func tileAVX2(c *float32, stride int, factors *[tileRows]float32, rows **float32, taps, k int, panel *float32)

//go:noescape
func widenBF16AVX2(dst *float32, src *uint16, n int)

//go:noescape
func widenF16AVX2(dst *float32, src *uint16, n int)

//go:noescape
func narrowBF16AVX2(dst *uint16, src *float32, n int)

//go:noescape
func narrowF16AVX2(dst *uint16, src *float32, n int)

//go:noescape
func scaleMaxAVX2(row *float32, n int, scale float32, bias *float32) float32

//go:noescape
func expSumAVX2(row *float32, n int, top float32) float32

//go:noescape
func gateAVX2(x *float32, n int, c1, c3 float64)

// widenFast converts as many elements as the vectors take and returns their number.
func widenFast(dst []float32, d tensor.DType, src []uint16) int {
	n := len(dst) &^ 15
	switch {
	case n == 0 || !haveAVX2:
		return 0
	case d == tensor.BF16:
		widenBF16AVX2(&dst[0], &src[0], n)
	default:
		widenF16AVX2(&dst[0], &src[0], n)
	}
	return n
}

// narrowFast rounds as many elements as the vectors take and returns their number.
func narrowFast(dst []uint16, d tensor.DType, src []float32) int {
	n := len(src) &^ 15
	switch {
	case n == 0 || !haveAVX2:
		return 0
	case d == tensor.BF16:
		narrowBF16AVX2(&dst[0], &src[0], n)
	default:
		narrowF16AVX2(&dst[0], &src[0], n)
	}
	return n
}

// softmaxAVX2 is softmaxGo with vectors. Its exponentials are good to 1.5 units
// in the last place.
func softmaxAVX2(logits []float32, scale float32, bias []float32, peak, sum *float32) (factor float32) {
	top := *peak
	n := len(logits) &^ 7
	if n > 0 {
		top = max(top, scaleMaxAVX2(&logits[0], n, scale, unsafe.SliceData(bias)))
	}
	for i := n; i < len(logits); i++ {
		logits[i] *= scale
		if bias != nil {
			logits[i] += bias[i]
		}
		top = max(top, logits[i])
	}
	if top == negInf {
		clear(logits)
		return 1
	}
	padded := (len(logits) + 7) &^ 7
	tail := logits[len(logits):padded]
	for i := range tail {
		tail[i] = negInf
	}
	factor = float32(math.Exp(float64(*peak) - float64(top)))
	*sum = *sum*factor + expSumAVX2(&logits[0], padded, top)
	*peak = top
	return factor
}

// activateAVX2 is activateGo with vectors of float64 for all but the rare erf.
func activateAVX2(x []float32, act tensor.Activation) {
	n := len(x) &^ 3
	if n == 0 || act == tensor.GELUErf || act == tensor.NoActivation {
		activateGo(x, act)
		return
	}
	if act == tensor.SiLU {
		gateAVX2(&x[0], n, -1, 0)
	} else {
		gateAVX2(&x[0], n, -2*geluScale, -2*geluScale*geluCube)
	}
	activateGo(x[n:], act)
}
