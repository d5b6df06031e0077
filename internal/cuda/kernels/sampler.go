package kernels

// Guidance sets out = uncond + scale (cond - uncond), n elements F32; out may be either.
func Guidance(out, cond, uncond Address, n int64, scale float32) Launch {
	return striding(Sampler, "guidance", n, 1, out, cond, uncond, n, scale)
}

// Interval is what a solver keeps of the sample and moves along the data
// prediction, from one sigma to a lower one, and the ratio of the step before.
type Interval struct {
	Order             int // 0: none, for the corrector of the first step
	Keep, Move, Ratio float32
}

// UniPCStep are the coefficients of a step of UniPC-B2.
type UniPCStep struct {
	Sigma         float32
	Correct       Interval
	RhoD1, RhoNow float32
	Predict       Interval
}

// UniPC makes a step: latent, the model's output and the state x0s, prevX0s and samples
// have n elements F32; all but the output are updated.
func UniPC(latent, output, x0s, prevX0s, samples Address, n int64, s UniPCStep) Launch {
	return striding(Sampler, "unipc", n, 1, latent, output, x0s, prevX0s, samples, n, s.Sigma, s.Correct.Order,
		s.Correct.Keep, s.Correct.Move, s.Correct.Ratio, s.RhoD1, s.RhoNow,
		s.Predict.Order, s.Predict.Keep, s.Predict.Move, s.Predict.Ratio)
}

// DPMStep are the coefficients of a step of DPM-Solver++ 2M.
type DPMStep struct {
	Sigma, Keep, Move float32
	Order             int // 1 or 2
	Slope, HalfMove   float32
}

// DPM makes a step: latent, the model's output and x0s have n elements F32.
func DPM(latent, output, x0s Address, n int64, s DPMStep) Launch {
	return striding(Sampler, "dpmpp", n, 1, latent, output, x0s, n, s.Sigma, s.Keep, s.Move, s.Order, s.Slope, s.HalfMove)
}
