package sampler

import "math"

// The coefficients of the solvers are float32 scalars in the official code. Each
// function rounds once, after float64.

func log32(x float32) float32   { return float32(math.Log(float64(x))) }
func exp32(x float32) float32   { return float32(math.Exp(float64(x))) }
func expm132(x float32) float32 { return float32(math.Expm1(float64(x))) }

// halfLogSNR is lambda = ln(alpha) - ln(sigma) with alpha = 1 - sigma. It is
// -Inf at sigma 1 and +Inf at sigma 0; what uses it must bear both.
func halfLogSNR(sigma float32) float32 {
	return log32(1-sigma) - log32(sigma)
}
