package generate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/comm/local"
	commmeta "github.com/wanrun/wanrun/internal/comm/meta"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/task"
	"github.com/wanrun/wanrun/internal/tokenizer"
	"github.com/wanrun/wanrun/internal/tokenizer/clean"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Run is a job whose inputs have been read and checked: what is left needs
// memory and time, but no further input.
type Run struct {
	job  Job
	spec checkpoint.Spec
	src  sources
	// ids and negativeIDs are the prompts as the text encoder gets them.
	ids, negativeIDs []int32
	// latT, latH and latW are the size of the latent.
	latT, latH, latW int
	// dumping says that the run keeps what it computes. It moves more between ranks.
	dumping bool
	// resumed says that the run goes on before step from, with decodeOnly after the last;
	// saved is what from, on the first rank. See Continue.
	resumed, decodeOnly bool
	from                int
	saved               *Saved
	// planning says that no number matters, so that the host computes none. One step then
	// stands for wholeSteps.
	planning   bool
	wholeSteps int
	// Notices are remarks for the user on inputs that were changed.
	Notices []string
}

// sources are the open files of a checkpoint, each a model; nil when planning.
type sources struct {
	dit, t5, vae, clip checkpoint.Source
}

// Prepare reads and checks everything that a run takes in: the tokenizer, the
// names and shapes of all weights, the size and the pictures. Errors are of class
// ends.BadInput. The checkpoint must stay open for the run.
func Prepare(ctx context.Context, job Job, ckpt *checkpoint.Checkpoint) (*Run, error) {
	r := &Run{job: job, spec: ckpt.Spec, dumping: job.Dump != nil}
	for _, step := range []func() error{
		func() error { return r.openSources(ctx, ckpt) },
		func() error {
			files, err := ckpt.Tokenizer()
			if err != nil {
				return err
			}
			return r.tokenize(files)
		},
		r.size,
	} {
		if err := step(); err != nil {
			return nil, ends.As(ends.BadInput, errors.Join(err, r.Close()))
		}
	}
	return r, nil
}

// Width, Height and Frames are the size of the video.
func (r *Run) Width() int  { return r.latW * vae.SpaceStride }
func (r *Run) Height() int { return r.latH * vae.SpaceStride }
func (r *Run) Frames() int { return r.job.FrameNum }

func (r *Run) openSources(ctx context.Context, ckpt *checkpoint.Checkpoint) error {
	for _, m := range []struct {
		name   string
		open   func() (checkpoint.Source, error)
		to     *checkpoint.Source
		units  []nn.Unit
		ignore func(string) bool
		needed bool
	}{
		{"DiT", ckpt.DiT, &r.src.dit, r.ditUnits(), nil, true},
		{"T5", ckpt.T5, &r.src.t5, r.t5Units(), nil, true},
		{"VAE", ckpt.VAE, &r.src.vae, r.vaeUnits(), nil, true},
		{"CLIP", ckpt.CLIP, &r.src.clip, r.clipUnits(), r.unusedInCLIP, r.hasPicture()},
	} {
		if !m.needed {
			continue
		}
		src, err := m.open()
		if err != nil {
			return err
		}
		if err := weights.Check(m.name, m.units, src, m.ignore); err != nil {
			return err
		}
		if r.job.ScanWeights {
			if err := weights.Scan(ctx, src); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		r.Notices = append(r.Notices, checkpoint.Notes(m.name, src)...)
		*m.to = src
	}
	return nil
}

// unusedInCLIP says which tensors of the CLIP file the forward does without.
func (r *Run) unusedInCLIP(name string) bool { return clip.Unused(r.spec.CLIP, name) }

func (r *Run) hasPicture() bool { return r.job.Kind != "t2v" }

// tokenize turns both prompts into ids. An over-long prompt is cut, as the
// official code does, but not silently.
func (r *Run) tokenize(files fs.FS) error {
	tok, err := tokenizer.Open(files)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		what, text string
		ids        *[]int32
	}{{"prompt", r.job.Prompt, &r.ids}, {"negative prompt", r.job.NegativePrompt, &r.negativeIDs}} {
		text := clean.Prompt(p.text)
		e := tok.Encode(text, r.spec.T5.TextLen)
		*p.ids = e.IDs
		if e.Cut {
			r.Notices = append(r.Notices, fmt.Sprintf("the %s has %d tokens, %d are used; cut before %q",
				p.what, e.Total, r.spec.T5.TextLen, excerpt(text[max(e.CutAt, 0):])))
		}
		for _, id := range e.IDs {
			if int(id) >= r.spec.T5.VocabSize {
				return fmt.Errorf("tokenizer gives id %d, the text encoder has %d: they are not from one checkpoint", id, r.spec.T5.VocabSize)
			}
		}
	}
	return nil
}

func excerpt(s string) string {
	const most = 40
	runes := []rune(s)
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// size sets the latent's size: from the first picture's aspect, or as asked.
func (r *Run) size() error {
	j := r.job
	r.latT = (j.FrameNum-1)/vae.TimeStride + 1
	if !r.hasPicture() {
		r.latH, r.latW = j.Height/vae.SpaceStride, j.Width/vae.SpaceStride
		return nil
	}
	if j.First == nil || (j.Kind == "flf2v" && j.Last == nil) {
		return fmt.Errorf("%s needs a first picture%s", j.Kind, map[bool]string{true: " and a last one"}[j.Kind == "flf2v"])
	}
	out, err := task.OutputSize(task.Size{Width: j.First.W, Height: j.First.H}, j.MaxArea)
	r.latH, r.latW = out.Height/vae.SpaceStride, out.Width/vae.SpaceStride
	return err
}

// Plan runs the job on the meta backend as like would run it, and returns the
// exact arena peaks of each phase, one result a rank. One step is planned: all
// steps are alike.
func (r *Run) Plan(ctx context.Context, like tensor.Backend, host Host) ([]*Result, error) {
	planned := *r
	planned.src = sources{}
	planned.planning, planned.wholeSteps, planned.job.Steps = true, r.job.Steps-r.from, 1
	planned.from, planned.saved = 0, nil
	planned.job.Dump = nil
	host.Progress = func(Progress) {}
	host.Wide, host.Save, host.Draining = nil, nil, nil
	size := max(r.job.Spread.Mesh.Size(), 1)
	if size == 1 {
		result, err := planned.Execute(ctx, meta.New(like), tensor.Unlimited(), nil, Discard{}, host)
		return []*Result{result}, err
	}
	// The ranks compare their collectives as real ones do.
	results, errs := make([]*Result, size), make([]error, size)
	var wg sync.WaitGroup
	for rank, world := range commmeta.New(size, nil) {
		wg.Go(func() {
			results[rank], errs[rank] = planned.Execute(ctx, meta.New(like), tensor.Unlimited(), world, Discard{}, host)
			if err := world.Close(); errs[rank] == nil {
				errs[rank] = err
			}
		})
	}
	wg.Wait()
	return results, firstCause(errs)
}

// lone returns the group of a rank that is alone.
func (r *Run) lone() comm.Group {
	if r.planning {
		return commmeta.New(1, nil)[0]
	}
	return local.New(1, nil)[0]
}

// firstCause returns the error of a rank that failed by itself, rather than because
// another did.
func firstCause(errs []error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, comm.ErrAborted) {
			return err
		}
	}
	return errors.Join(errs...)
}

// Discard is the sink of ranks that get no frames, and of plans.
type Discard struct{}

// WriteFrame drops the frame.
func (Discard) WriteFrame([]byte) error { return nil }

// lastPicture returns the last picture of flf2v as CLIP and the VAE get it: whole,
// or with Compat cropped to the first one's size as the official code does.
func (r *Run) lastPicture() (picture.Planes, error) {
	if !r.job.Compat {
		return r.job.Last, nil
	}
	return picture.CenterCropCompat(r.job.Last, r.job.First.W, r.job.First.H, picture.DefaultMaxPixels)
}
