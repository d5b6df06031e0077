package sampler

// dpmpp is multistep DPM-Solver++ of order 2 in its midpoint form. The first step
// is of order 1 for want of history, the last because sigma 0 ends it.
//
// The first sigma is exactly 1, so that alpha is 0 and lambda -Inf: step 0 then has h = +Inf
// and exp(-h) = 0, and step 1 has r0 = +Inf and so no second-order term. IEEE arithmetic
// gives these limits in the order of operations below, and no NaN.
type dpmpp struct{ core }

func (s *dpmpp) history(state *State) []*[]float32 { return []*[]float32{&state.X0} }

func (s *dpmpp) Restore(state State) error { return s.restore(state, s.history) }

func (s *dpmpp) Step(i int, latent, modelOut []float32) error {
	if err := s.begin(i, latent, modelOut, s.history(&s.state)...); err != nil {
		return err
	}
	sigma, nextSigma := s.sigmas[i], s.sigmas[i+1]
	lambda := halfLogSNR(sigma)
	h := halfLogSNR(nextSigma) - lambda
	keep := nextSigma / sigma
	move := (1 - nextSigma) * (exp32(-h) - 1)

	history := s.state.X0
	if i == 0 || i == s.state.Steps-1 {
		for k, v := range modelOut {
			x := latent[k]
			x0 := x - float32(sigma*v)
			history[k] = x0
			latent[k] = float32(keep*x) - float32(move*x0)
		}
	} else {
		r0 := (lambda - halfLogSNR(s.sigmas[i-1])) / h
		slope, halfMove := 1/r0, 0.5*move
		for k, v := range modelOut {
			x := latent[k]
			x0 := x - float32(sigma*v)
			d1 := slope * (x0 - history[k])
			history[k] = x0
			latent[k] = float32(keep*x) - float32(move*x0) - float32(halfMove*d1)
		}
	}
	s.state.Next++
	return nil
}
