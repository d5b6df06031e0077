package cpu

import (
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// activateGo applies act to x in place. The functions are evaluated in float64,
// so that the results are correctly rounded but for rare ties.
func activateGo(x []float32, act tensor.Activation) {
	switch act {
	case tensor.GELUTanh:
		for i, v := range x {
			x[i] = geluTanh(v)
		}
	case tensor.GELUErf:
		for i, v := range x {
			x[i] = float32(0.5 * float64(v) * (1 + math.Erf(float64(v)*(1/math.Sqrt2))))
		}
	case tensor.SiLU:
		for i, v := range x {
			x[i] = float32(float64(v) / (1 + math.Exp(-float64(v))))
		}
	}
}

// The numbers of the tanh approximation of GELU.
const (
	geluScale = 0.79788456080286535587989 // sqrt(2/pi)
	geluCube  = 0.044715
)

// geluTanh uses 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)), which loses nothing where
// tanh u is near -1.
func geluTanh(v float32) float32 {
	f := float64(v)
	return float32(f / (1 + math.Exp(-2*geluScale*(f+geluCube*f*f*f))))
}
