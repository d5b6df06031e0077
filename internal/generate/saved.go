package generate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/sampler"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Saved is a run between two steps: with it, and with the same inputs, another process
// makes the same video.
type Saved struct {
	Solver sampler.State // at its Next step
	Latent []float32     // [16, T, H, W] before that step
	// Apart says how the branches of guidance run: see Spread.BranchesApart.
	Apart bool
}

// ErrDrained marks the end of a run that Host.Draining has stopped between two steps.
var ErrDrained = errors.New("the run was asked to save and to end")

// Continue has the run go on from what saved says, which the first rank has; nil, or one
// before the first step, is a run from the beginning. Errors: saved is of another run.
//
// It is a collective of world, nil for one rank, and comes before Plan.
func (r *Run) Continue(ctx context.Context, world comm.Group, saved *Saved) error {
	code := int64(0) // 1 + 2*next + apart
	if saved != nil && saved.Solver.Next > 0 {
		if err := r.accepts(*saved); err != nil {
			return ends.As(ends.BadInput, err)
		}
		r.saved = saved
		code = 1 + 2*int64(saved.Solver.Next)
		if saved.Apart {
			code++
		}
	}
	codes, err := gatherBytes(ctx, world, code)
	if err != nil {
		return fmt.Errorf("agree on where to go on: %w", err)
	}
	if code = codes[0] - 1; code < 0 {
		return nil
	}
	r.resumed, r.from = true, int(code/2)
	r.decodeOnly = r.from >= r.job.Steps
	r.job.Spread.BranchesApart = code%2 == 1
	return nil
}

// accepts holds a state to the job.
func (r *Run) accepts(s Saved) error {
	solver, err := sampler.New(r.job.Solver, r.job.Steps, r.job.Shift)
	if err == nil {
		err = solver.Restore(s.Solver)
	}
	if err != nil {
		return fmt.Errorf("the saved run cannot go on: %w", err)
	}
	n := r.latentLen()
	for _, x := range append(history(&s.Solver), &s.Latent) {
		if len(*x) != n {
			return fmt.Errorf("the saved run cannot go on: its latent has %d elements, this run's %d", len(*x), n)
		}
	}
	return finite(s.Latent)
}

// history are the arrays that a solver of the state's kind keeps.
func history(s *sampler.State) []*[]float32 {
	if s.Kind == sampler.DPMPP {
		return []*[]float32{&s.X0}
	}
	return []*[]float32{&s.X0, &s.PrevX0, &s.Sample}
}

// Resumed is the step from which the run goes on, 0 for one from the beginning.
func (r *Run) Resumed() int { return r.from }

func (r *Run) latentLen() int { return r.spec.DiT.OutDim * r.latT * r.latH * r.latW }

// restore takes latent and solver up from the saved state of the first rank. A plan does
// so with nothing in them.
func (e *execution) restore(ops tensor.Ops, solver sampler.Solver) error {
	state := sampler.State{Kind: e.job.Solver, Steps: e.job.Steps, Shift: e.job.Shift, Next: e.from}
	var own sampler.State
	if e.saved != nil {
		own = e.saved.Solver
	}
	own.Kind = state.Kind
	e.takeLatent(ops, PhaseDenoise)
	from := history(&own)
	for i, x := range history(&state) {
		*x = e.shareSaved(ops, PhaseDenoise, *from[i])
	}
	if err := ops.Err(); err != nil || e.from == 0 {
		return err
	}
	return solver.Restore(state)
}

// takeLatent takes the saved latent.
func (e *execution) takeLatent(ops tensor.Ops, phase string) {
	var own []float32
	if e.saved != nil {
		own = append(own, e.saved.Latent...) // steps overwrite it
	}
	e.latent = e.shareSaved(ops, phase, own)
}

func (e *execution) shareSaved(ops tensor.Ops, phase string, x []float32) []float32 {
	n := e.latentLen()
	if x == nil {
		x = make([]float32, n)
	}
	return e.ranks.share(ops, comm.Place{Phase: phase, Purpose: "saved"}, x, n, 0)
}

// save hands the first rank's state to the host.
func (e *execution) save(solver sampler.Solver) error {
	if e.host.Save == nil || e.ranks.rank() != 0 {
		return nil
	}
	return e.host.Save(Saved{Solver: solver.State(), Latent: e.latent, Apart: e.job.Spread.BranchesApart})
}

// drained ends the run before a step if any rank has been asked for it: all of them end at
// the same.
func (e *execution) drained(solver sampler.Solver) error {
	asked := int64(0)
	if e.host.Draining != nil && e.host.Draining() {
		asked = 1
	}
	all, err := gatherBytes(e.ctx, e.ranks.world, asked)
	if err != nil {
		return err
	}
	if !slices.Contains(all, 1) {
		return nil
	}
	if err := e.save(solver); err != nil {
		return err
	}
	// A rank that ends aborts the group. None does before the state is saved; those that it
	// then overtakes here know as well why they end.
	_, _ = gatherBytes(e.ctx, e.ranks.world, 0)
	return ErrDrained
}

// Facts are what the video depends on, by name, so that a saved run does not go on with
// others. Of weights they hold a digest of names, shapes and the ends of each tensor,
// which tells checkpoints apart without reading all of them.
func (r *Run) Facts() map[string]string {
	j := r.job
	facts := map[string]string{
		"task": j.Kind, "prompt": digest([]byte(j.Prompt)), "negative prompt": digest([]byte(j.NegativePrompt)),
		"size": fmt.Sprintf("%d*%d", r.Width(), r.Height()), "frames": strconv.Itoa(j.FrameNum), "steps": strconv.Itoa(j.Steps),
		"solver": j.Solver, "shift": number(j.Shift), "guide scale": number(j.GuideScale), "seed": strconv.FormatInt(j.Seed, 10),
		"noise": j.NoiseKind.String(), "dtype": j.DType.String(), "compat": strconv.FormatBool(j.Compat),
		"compat padding": strconv.FormatBool(j.Spread.CompatPadding),
	}
	for _, p := range []struct {
		name string
		p    *picture.RGB
	}{{"the first picture", j.First}, {"the last picture", j.Last}} {
		if p.p != nil {
			facts[p.name] = fmt.Sprintf("%dx%d %s", p.p.W, p.p.H, digest(p.p.Pix))
		}
	}
	for _, m := range []struct {
		name string
		src  checkpoint.Source
	}{{"DiT weights", r.src.dit}, {"T5 weights", r.src.t5}, {"VAE weights", r.src.vae}, {"CLIP weights", r.src.clip}} {
		if m.src != nil {
			facts[m.name] = digestWeights(m.src)
		}
	}
	return facts
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// digest tells contents apart.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func digestWeights(src checkpoint.Source) string {
	const ends = 32 // bytes of each tensor's
	h := sha256.New()
	for _, name := range src.Names() {
		e, _ := src.Lookup(name)
		fmt.Fprintf(h, "%q %v %v %d\n", name, e.DType, e.Shape, len(e.Data))
		h.Write(e.Data[:min(ends, len(e.Data))])
		h.Write(e.Data[max(0, len(e.Data)-ends):])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
