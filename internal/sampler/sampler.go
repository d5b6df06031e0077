// Package sampler holds the flow-matching solvers of the official code, step for
// step: which noise level each step has, which timestep the network sees, and
// how a latent moves when the network has answered.
//
// All arithmetic on latents, and the coefficients of it, are float32 in the
// official order of operations.
package sampler

import (
	"fmt"
	"slices"
)

// The kinds of solver, as the official command line names them.
const (
	UniPC = "unipc" // UniPC, B2(h), order 2, with corrector. Source: arXiv:2302.04867
	DPMPP = "dpm++" // DPM-Solver++ 2M, midpoint. Source: arXiv:2211.01095
)

// Kinds lists the solvers; the first is the default.
func Kinds() []string { return []string{UniPC, DPMPP} }

// Solver takes a latent from noise to picture. Make one for each run.
type Solver interface {
	// Timesteps is what the network is given at each step: len = steps. The
	// whole number is part of the definition; the solver uses Sigmas.
	Timesteps() []int64

	// Sigmas are the noise levels, strictly falling: that before each step and, last, 0. len = steps+1.
	Sigmas() []float32

	// Step moves latent from Sigmas[i] to Sigmas[i+1] in place; modelOut is the
	// guided velocity that the network predicted for it. Steps run once and in
	// order. Every call has the same number of elements; the first allocates
	// the history.
	Step(i int, latent, modelOut []float32) error

	// State is what a later run needs to go on from here, beside the latent.
	// The slices are the solver's own: the next Step overwrites them.
	State() State

	// Restore takes over, by copy, the state of a solver of the same kind, steps and shift.
	Restore(State) error
}

// State is a solver between two steps.
type State struct {
	Kind  string
	Steps int
	Shift float64

	// Next is the first step not yet run; 0 <= Next <= Steps.
	Next int

	// X0 is the clean latent predicted at step Next-1, PrevX0 that of step
	// Next-2, and Sample the latent that step Next-1 started from, corrected.
	// All are nil before the first step; dpm++ has X0 alone.
	X0, PrevX0, Sample []float32
}

// New returns a solver at its first step.
// Errors name the nearest value that is accepted: see Check.
func New(kind string, steps int, shift float64) (Solver, error) {
	if err := Check(kind, steps, shift); err != nil {
		return nil, err
	}
	c := core{schedule: newSchedule(kind, steps, shift), state: State{Kind: kind, Steps: steps, Shift: shift}}
	if kind == DPMPP {
		return &dpmpp{c}, nil
	}
	return &unipc{c}, nil
}

// core is what both solvers share: the schedule, and the bookkeeping of steps.
type core struct {
	schedule
	state State
}

func (c *core) Timesteps() []int64 { return slices.Clone(c.timesteps) }
func (c *core) Sigmas() []float32  { return slices.Clone(c.sigmas) }
func (c *core) State() State       { return c.state }

// begin checks a call of Step and lets buffers reach the latent's size on the first.
func (c *core) begin(i int, latent, modelOut []float32, buffers ...*[]float32) error {
	if i != c.state.Next || i >= c.state.Steps {
		return fmt.Errorf("step %d of %d was asked for; next is %d", i, c.state.Steps, c.state.Next)
	}
	if len(latent) != len(modelOut) {
		return fmt.Errorf("latent has %d elements, model output has %d", len(latent), len(modelOut))
	}
	for _, b := range buffers {
		if i == 0 {
			*b = make([]float32, len(latent))
		} else if len(*b) != len(latent) {
			return fmt.Errorf("latent has %d elements, steps before had %d", len(latent), len(*b))
		}
	}
	return nil
}

// restore checks a state and copies it. buffers point at the slices that this
// kind of solver keeps; the rest of the state's must be nil.
func (c *core) restore(s State, buffers func(*State) []*[]float32) error {
	if s.Kind != c.state.Kind || s.Steps != c.state.Steps || s.Shift != c.state.Shift {
		return fmt.Errorf("solver state is of %s with %d steps and shift %v, this run has %s with %d steps and shift %v",
			s.Kind, s.Steps, s.Shift, c.state.Kind, c.state.Steps, c.state.Shift)
	}
	if s.Next < 0 || s.Next > s.Steps {
		return fmt.Errorf("solver state stands before step %d of %d", s.Next, s.Steps)
	}
	restored := State{Kind: s.Kind, Steps: s.Steps, Shift: s.Shift, Next: s.Next}
	if s.Next > 0 {
		from, to := buffers(&s), buffers(&restored)
		for i := range from {
			if len(*from[i]) == 0 || len(*from[i]) != len(*from[0]) {
				return fmt.Errorf("solver state before step %d has history of %d and %d elements", s.Next, len(*from[0]), len(*from[i]))
			}
			*to[i] = slices.Clone(*from[i])
		}
	}
	c.state = restored
	return nil
}

// ClassifierFreeGuidance writes uncond + scale*(cond-uncond), each operation rounded
// to float32 as the official code does it, also for scale 1. dst may be cond or uncond.
func ClassifierFreeGuidance(dst, cond, uncond []float32, scale float32) {
	for i, u := range uncond {
		dst[i] = u + float32(scale*(cond[i]-u))
	}
}
