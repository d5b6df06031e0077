package sampler

import "math"

// unipc is UniPC with B2(h) = exp(h)-1 on data predictions: order 2, with the
// corrector from the second step on.
//
// A step first corrects the latent that the step before predicted, with the
// network's answer at the uncorrected latent, and then predicts the next. The
// corrector has the order of the step before.
type unipc struct{ core }

func (s *unipc) history(state *State) []*[]float32 {
	return []*[]float32{&state.X0, &state.PrevX0, &state.Sample}
}

func (s *unipc) Restore(state State) error { return s.restore(state, s.history) }

// order of step i: 1 for the first, which has no history, and for the last, which ends at sigma 0.
func (s *unipc) order(i int) int {
	return min(2, s.state.Steps-i, i+1)
}

func (s *unipc) Step(i int, latent, modelOut []float32) error {
	if err := s.begin(i, latent, modelOut, s.history(&s.state)...); err != nil {
		return err
	}
	sigma := s.sigmas[i]
	predict := newInterval(sigma, s.sigmas[i+1])
	predictOrder, predictRatio := s.order(i), float32(1)
	if predictOrder == 2 {
		predictRatio = predict.ratio(s.sigmas[i-1])
	}
	var correct interval
	correctOrder, correctRatio := 0, float32(1)
	var rhoD1, rhoNow float32
	if i > 0 {
		correct = newInterval(s.sigmas[i-1], sigma)
		correctOrder, rhoNow = s.order(i-1), 0.5
		if correctOrder == 2 {
			correctRatio = correct.ratio(s.sigmas[i-2])
			rhoD1, rhoNow = correct.weights(correctRatio)
		}
	}

	x0s, prevX0s, samples := s.state.X0, s.state.PrevX0, s.state.Sample
	for k, v := range modelOut {
		x := latent[k]
		x0 := x - float32(sigma*v) // of the uncorrected latent
		prevX0 := x0s[k]
		switch correctOrder {
		case 1:
			x = correct.first(samples[k], prevX0) - float32(correct.second*float32(rhoNow*(x0-prevX0)))
		case 2:
			d1 := (prevX0s[k] - prevX0) / correctRatio
			x = correct.first(samples[k], prevX0) - float32(correct.second*(float32(rhoD1*d1)+float32(rhoNow*(x0-prevX0))))
		}
		prevX0s[k], x0s[k], samples[k] = prevX0, x0, x
		next := predict.first(x, x0)
		if predictOrder == 2 {
			d1 := (prevX0 - x0) / predictRatio
			next -= float32(predict.second * float32(0.5*d1))
		}
		latent[k] = next
	}
	s.state.Next++
	return nil
}

// interval holds the coefficients of going from one sigma to a lower one.
type interval struct {
	lambda float32 // at the start
	h      float32 // step in lambda; +Inf when it ends at sigma 0
	keep   float32 // of the sample
	move   float32 // of the data prediction at the start
	second float32 // alpha*B(h), of the higher-order terms
}

func newInterval(from, to float32) interval {
	lambda := halfLogSNR(from)
	h := halfLogSNR(to) - lambda
	move := (1 - to) * expm132(-h)
	return interval{lambda, h, to / from, move, move} // for B2(h), move and second are equal
}

func (v interval) first(x, x0 float32) float32 {
	return float32(v.keep*x) - float32(v.move*x0)
}

// ratio is r of an earlier sigma: where it lies, in lambda, in units of h from the start. It is negative.
func (v interval) ratio(earlier float32) float32 {
	return (halfLogSNR(earlier) - v.lambda) / v.h
}

// weights are those of the order-2 corrector for the difference before the
// start, at ratio r, and for that at the end. They solve
//
//	[1 1] [rhoD1 ]   [b1]
//	[r 1] [rhoNow] = [b2]
//
// in float32 with the larger pivot first, where b_n = n!*hh*phi_(n+1)(hh) / B(hh) and hh = -h.
func (v interval) weights(r float32) (rhoD1, rhoNow float32) {
	hh := -v.h
	b := expm132(hh)
	phi := b/hh - 1
	b1 := phi / b
	phi = phi/hh - 0.5
	b2 := phi * 2 / b
	if math.Abs(float64(r)) > 1 {
		l := 1 / r
		rhoNow = (b1 - float32(l*b2)) / (1 - l)
		return (b2 - rhoNow) / r, rhoNow
	}
	rhoNow = (b2 - float32(r*b1)) / (1 - r)
	return b1 - rhoNow, rhoNow
}
