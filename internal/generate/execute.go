package generate

// Shapes: T, H, W latent frames, height, width; C channels. Host arrays are
// channels-first, as torch draws noise and as dumps are compared; tensors are
// channels-last.

import (
	"context"
	"fmt"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/noise"
	"github.com/wanrun/wanrun/internal/sampler"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// execution is one pass over the phases, real or planned.
type execution struct {
	*Run
	ctx     context.Context
	backend tensor.Backend
	space   *tensor.Space
	ranks   *ranks
	sink    Sink
	host    Host
	result  Result
	// hostWeights are those of the phase: see PhaseResult.
	hostWeights int64
	tally       tally

	// What passes between phases, on the host.
	context, negative []float32 // T5's output for the real tokens [L, TextDim]
	clipFea           []float32 // [ImageTokens, ClipDim]
	y                 []float32 // mask and image latent [4+16, T, H, W]
	latent            []float32 // [16, T, H, W]
}

// Execute runs all phases and hands the frames to sink in order, on the first rank.
// The result so far is returned with an error too. world are all ranks of the job,
// nil for one alone; an error of this rank ends them all. The caller closes it.
//
// Errors: tensor.ErrNoMemory and tensor.ErrArena, the sink's, comm's, and the cause
// of ctx; each names its phase.
func (r *Run) Execute(ctx context.Context, b tensor.Backend, space *tensor.Space, world comm.Group, sink Sink, host Host) (*Result, error) {
	e := &execution{Run: r, ctx: ctx, backend: b, space: space, sink: sink, host: host,
		result: Result{Width: r.Width(), Height: r.Height(), Frames: r.Frames()}}
	var err error
	if e.ranks, err = join(ctx, world, r.job.Spread, r.spec.DiT.NumHeads, r.lone); err == nil {
		err = e.phases()
	}
	if err != nil && world != nil {
		world.Abort(err)
	}
	if closeErr := e.ranks.close(); err == nil {
		err = closeErr
	}
	return &e.result, err
}

// phases runs one phase after the other.
func (e *execution) phases() error {
	for _, p := range []struct {
		name string
		run  func(ops tensor.Ops) error
		skip bool
	}{
		{PhaseTextEncode, e.textEncode, e.decodeOnly},
		{PhaseImageEncode, e.imageEncode, e.decodeOnly || !e.hasPicture()},
		{PhaseVAEEncode, e.vaeEncode, e.decodeOnly || !e.hasPicture()},
		{PhaseDenoise, e.denoise, e.decodeOnly},
		{PhaseVAEDecode, e.vaeDecode, false},
	} {
		if p.skip {
			continue
		}
		if err := e.phase(p.name, p.run); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// phase runs one phase on empty arenas and notes what it took.
func (e *execution) phase(name string, run func(tensor.Ops) error) error {
	start := e.host.Now()
	var marks [tensor.NumPurposes]int64
	for p, a := range e.space {
		marks[p] = a.Mark()
	}
	e.space.ResetPeaks()
	e.hostWeights = 0
	e.beginTally()
	if !e.ranks.alone() {
		e.ranks.world.Enter(comm.Place{Phase: name})
	}
	e.progress(name, 0, 1) // a rank that only waits in it is in the phase, too
	ops := tensor.NewOps(e.ctx, e.backend, e.space)
	err := run(ops)
	if err == nil {
		err = ops.Err()
	}
	if syncErr := e.backend.Sync(); err == nil {
		err = syncErr
	}
	e.result.Phases = append(e.result.Phases, PhaseResult{Name: name, Seconds: e.host.Now().Sub(start).Seconds(),
		Peak: e.space.Peaks(), HostWeights: e.hostWeights, RSSPeak: e.host.RSSPeak(), Work: e.endTally()})
	for p, a := range e.space {
		a.Release(marks[p])
	}
	return err
}

func (e *execution) progress(phase string, done, total int) {
	e.host.Progress(Progress{Phase: phase, Done: done, Total: total})
}

// textEncode runs both prompts through T5, a block's weights at a time: on all ranks
// together if T5 is sharded, else each prompt on one rank, with the node's threads.
func (e *execution) textEncode(ops tensor.Ops) error {
	prompts := [][]int32{e.ids, e.negativeIDs}
	contexts := make([][]float32, len(prompts))
	encode := func(ops tensor.Ops, w nn.Weights, which []int) error {
		ids := make([][]int32, len(which))
		for i, p := range which {
			ids[i] = prompts[p]
		}
		for i, c := range umt5.New(e.spec.T5, w, e.textDType()).Encode(ops, ids...) {
			contexts[which[i]] = ops.Floats(c)
		}
		return ops.Err()
	}
	progress := func(done, total int) { e.progress(PhaseTextEncode, done, total) }
	if e.job.Spread.ShardT5 && !e.ranks.alone() {
		err := e.withStore(ops, e.t5Units(), e.src.t5, e.textDType(),
			fsdp.Options{Group: e.ranks.weights, Rest: fsdp.InFile, Phase: PhaseTextEncode, OnAcquire: progress}, storedBF16,
			func(w nn.Weights) error { return encode(ops, w, []int{0, 1}) })
		if err != nil {
			return err
		}
	} else {
		store := weights.NewStream(e.t5Units(), e.src.t5, e.textDType())
		store.OnAcquire = progress
		e.owned(ops, len(prompts), func(ops tensor.Ops, which []int) {
			e.reads(e.t5Units(), storedBF16, e.textDType(), nn.Bytes(e.t5Units(), e.textDType()))
			ops.Fail(encode(ops, store, which))
		})
		if err := ops.Err(); err != nil {
			return err
		}
		for i, ids := range prompts {
			at := comm.Place{Phase: PhaseTextEncode, Purpose: "context"}
			contexts[i] = e.ranks.share(ops, at, contexts[i], len(ids)*e.spec.T5.Dim, e.ranks.owner(i))
		}
	}
	e.context, e.negative = contexts[0], contexts[1]
	e.job.Dump.floats("context", e.context, len(e.ids), e.spec.T5.Dim)
	e.job.Dump.floats("context_null", e.negative, len(e.negativeIDs), e.spec.T5.Dim)
	return ops.Err()
}

// textDType is the compute type of T5, whose FFN leaves the range of F16.
func (r *Run) textDType() tensor.DType {
	if r.job.DType == tensor.F16 {
		return tensor.BF16
	}
	return r.job.DType
}

// imageEncode runs the pictures, at their own size, through CLIP.
func (e *execution) imageEncode(ops tensor.Ops) error {
	c := e.spec.CLIP
	pictures := []picture.Planes{e.job.First}
	if e.job.Kind == "flf2v" {
		last, err := e.lastPicture()
		if err != nil {
			return ends.As(ends.BadInput, err)
		}
		pictures = append(pictures, last)
	}
	store := weights.NewStream(e.clipUnits(), e.src.clip, e.job.DType)
	store.OnAcquire = func(done, total int) { e.progress(PhaseImageEncode, done, total) }
	model := clip.New(c, store, e.job.DType)
	features := make([][]float32, len(pictures))
	e.owned(ops, len(pictures), func(ops tensor.Ops, which []int) {
		e.reads(e.clipUnits(), storedF32, e.job.DType, nn.Bytes(e.clipUnits(), e.job.DType)*int64(len(which)))
		for _, i := range which {
			ops.Scope(func() {
				features[i] = ops.Floats(model.Encode(ops, e.clipInput(pictures[i])))
			})
		}
	})
	for i := range pictures {
		at := comm.Place{Phase: PhaseImageEncode, Purpose: "features"}
		e.clipFea = append(e.clipFea, e.ranks.share(ops, at, features[i], c.NumTokens()*c.Dim, e.ranks.owner(i))...)
	}
	e.job.Dump.floats("clip_fea", e.clipFea, len(pictures), c.NumTokens(), c.Dim)
	return ops.Err()
}

// vaeEncode makes y: the mask, and the latent of a video whose first frame (and
// last) is the picture and whose other frames are mid-grey.
func (e *execution) vaeEncode(ops tensor.Ops) error {
	h, w, frames := e.Height(), e.Width(), e.job.FrameNum
	first := e.resize(e.job.First, h, w)
	last := -1
	var lastHWC []float32
	if e.job.Kind == "flf2v" {
		p, err := e.lastPicture()
		if err != nil {
			return ends.As(ends.BadInput, err)
		}
		lastHWC, last = e.fitLast(p, h, w), frames-1
	}
	e.reads(vae.EncoderUnits(e.spec.VAE), storedF32, tensor.F32, nn.Bytes(vae.EncoderUnits(e.spec.VAE), tensor.F32))
	e.holds(2*len(first) + len(lastHWC) + 2*e.spec.VAE.ZDim*e.latT*e.latH*e.latW)
	resident := weights.Load(ops, vae.EncoderUnits(e.spec.VAE), e.src.vae, tensor.F32)
	grey := make([]float32, h*w*3)
	encoder := vae.NewEncoder(e.spec.VAE, resident, tensor.F32)
	if !e.ranks.alone() {
		slabs, err := e.ranks.slabs(e.ctx, e.latH, PhaseVAEEncode)
		if err != nil {
			return err
		}
		defer func() { ops.Fail(slabs.Close()) }()
		encoder.Slabs = slabs
	}
	zTHWC := encoder.Encode(ops, frames, h, w, func(i int) (hwc []float32, same bool) {
		e.progress(PhaseVAEEncode, i, frames)
		switch i {
		case 0:
			return first, false
		case last:
			return lastHWC, false
		}
		return grey, i > 1
	})
	e.progress(PhaseVAEEncode, frames, frames)
	z := e.toHost(ops, zTHWC)
	e.y = append(maskI2V(frames, e.latH, e.latW, last >= 0), z...)
	e.job.Dump.floats("y", e.y, 4+e.spec.VAE.ZDim, e.latT, e.latH, e.latW)
	e.job.Dump.floats("y_latent", z, e.spec.VAE.ZDim, e.latT, e.latH, e.latW)
	return ops.Err()
}

// toHost returns x [T, H, W, C] as a host array [C, T, H, W].
func (e *execution) toHost(ops tensor.Ops, x tensor.Tensor) (host []float32) {
	ops.Scope(func() { host = ops.Floats(ops.Permute(x, 3, 0, 1, 2)) })
	return host
}

// toDevice returns a host array [C, T, H, W] as a tensor [T, H, W, C].
func (e *execution) toDevice(ops tensor.Ops, x []float32) tensor.Tensor {
	c := len(x) / (e.latT * e.latH * e.latW)
	dst := ops.Empty(tensor.F32, e.latT, e.latH, e.latW, c)
	ops.Scope(func() {
		ops.CopyTo(dst, ops.Permute(ops.FromFloats(x, c, e.latT, e.latH, e.latW), 1, 2, 3, 0))
	})
	return dst
}

// denoise runs the sampler from noise to the clean latent. Every rank runs the
// sampler on the same numbers; the predictions are made together.
func (e *execution) denoise(ops tensor.Ops) error {
	solver, err := sampler.New(e.job.Solver, e.job.Steps, e.job.Shift)
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	if e.resumed {
		err = e.restore(ops, solver)
	} else {
		e.drawNoise()
	}
	if err != nil {
		return err
	}
	e.holds(e.denoiseArrays() * len(e.latent))
	e.job.Dump.ints("timesteps", solver.Timesteps())
	e.progress(PhaseDenoise, e.from, e.job.Steps)

	model := wan.New(e.spec.DiT, nil, e.job.DType)
	model.Seq = e.ranks.sequence()
	var conds []*wan.Cond
	err = e.withDiT(ops, wan.PrepareUnits(e.spec.DiT), true, func(w nn.Weights) error {
		model.Weights = w
		conds = e.prepareContext(ops, model)
		return ops.Err()
	})
	if err != nil {
		return err
	}
	return e.withDiT(ops, wan.ForwardUnits(e.spec.DiT), false, func(w nn.Weights) error {
		model.Weights = w
		return e.sample(ops, model, conds, solver)
	})
}

// drawNoise makes the latent that the first step starts from.
func (e *execution) drawNoise() {
	e.latent = make([]float32, e.latentLen())
	if !e.planning {
		noise.Fill(e.latent, e.job.Seed, e.job.NoiseKind)
	}
	e.job.Dump.floats("noise", e.latent, e.latentShape()...)
}

func (e *execution) latentShape() []int { return []int{e.spec.DiT.OutDim, e.latT, e.latH, e.latW} }

// sample runs the steps. Conditional and unconditional predictions are two branches
// of one forward, or of one rank each.
func (e *execution) sample(ops tensor.Ops, model *wan.Model, conds []*wan.Cond, solver sampler.Solver) error {
	var yTHWC tensor.Tensor
	if e.y != nil {
		yTHWC = e.toDevice(ops.Using(tensor.Latents), e.y)
	}
	own := make([][]float32, len(conds))
	for b := range own {
		own[b] = make([]float32, len(e.latent))
	}
	e.beginSteps()
	for i, t := range solver.Timesteps() {
		if i < e.from {
			continue
		}
		if err := e.drained(solver); err != nil {
			return fmt.Errorf("before step %d of %d: %w", i+1, e.job.Steps, err)
		}
		e.job.Dump.step("latent_before_step", e.latent, e.latentShape()...)
		together := len(conds)
		if e.job.Spread.BranchesApart {
			together = 1
		}
		for first := 0; first < len(conds); first += together {
			e.predict(ops, model, yTHWC, i, t, conds[first:][:together], own[first:][:together])
		}
		pred := e.ranks.guide(ops, comm.Place{Phase: PhaseDenoise, Step: i + 1, Purpose: "guidance"}, own)
		if err := ops.Err(); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, e.job.Steps, err)
		}
		if e.planning {
			break // the sampler takes no memory of a backend
		}
		e.job.Dump.step("pred_cond", pred[0], e.latentShape()...)
		e.job.Dump.step("pred_uncond", pred[1], e.latentShape()...)
		sampler.ClassifierFreeGuidance(pred[0], pred[0], pred[1], float32(e.job.GuideScale))
		if err := solver.Step(i, e.latent, pred[0]); err != nil {
			return err
		}
		if err := finite(e.latent); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, e.job.Steps, err)
		}
		if err := e.save(solver); err != nil {
			return err
		}
		e.progress(PhaseDenoise, i+1, e.job.Steps)
	}
	e.job.Dump.floats("final_latent", e.latent, e.latentShape()...)
	return nil
}

// predict runs one forward of step i at timestep t and puts the prediction of each
// branch on the host.
func (e *execution) predict(ops tensor.Ops, model *wan.Model, yTHWC tensor.Tensor, i int, t int64, conds []*wan.Cond, pred [][]float32) {
	if e.ranks.seq != nil {
		e.ranks.seq.Begin(PhaseDenoise, i+1, len(conds))
	}
	ops.Scope(func() {
		out := model.Forward(ops, e.toDevice(ops, e.latent), yTHWC, t, conds...)
		for b := range pred {
			ops.Scope(func() { ops.ReadFloats(pred[b], ops.Permute(out[b], 3, 0, 1, 2)) })
		}
	})
}

// prepareContext makes the keys and values of cross-attention of the branches that
// this rank runs. They stay for all steps; the features they are made of are freed.
func (e *execution) prepareContext(ops tensor.Ops, model *wan.Model) (conds []*wan.Cond) {
	ops.Scope(func() {
		var clipFea tensor.Tensor
		if e.clipFea != nil {
			clipFea = ops.FromFloats(e.clipFea, e.spec.DiT.ImageTokens(), e.spec.DiT.ClipDim)
		}
		d := e.spec.T5.Dim
		contexts := []tensor.Tensor{ops.FromFloats(e.context, len(e.ids), d), ops.FromFloats(e.negative, len(e.negativeIDs), d)}
		if e.ranks.branches != nil {
			contexts = contexts[e.ranks.coord.CFG:][:1]
		}
		conds = model.Prepare(ops, clipFea, contexts...)
	})
	return conds
}

// finite returns an error that names the first NaN or infinity: no later step
// would mend it.
func finite(x []float32) error {
	for i, v := range x {
		if v-v != 0 {
			return ends.Errorf(ends.BadInput, "the latent has %v at element %d: the weights or the compute type cannot be right", v, i)
		}
	}
	return nil
}

// vaeDecode hands the frames on as they are finished: each rank decodes its rows,
// the first collects the frames, as bytes, and writes them.
func (e *execution) vaeDecode(ops tensor.Ops) error {
	e.reads(vae.DecoderUnits(e.spec.VAE), storedF32, tensor.F32, nn.Bytes(vae.DecoderUnits(e.spec.VAE), tensor.F32))
	if e.decodeOnly {
		e.takeLatent(ops, PhaseVAEDecode)
		e.job.Dump.floats("final_latent", e.latent, e.latentShape()...)
	}
	resident := weights.Load(ops, vae.DecoderUnits(e.spec.VAE), e.src.vae, tensor.F32)
	zTHWC := e.toDevice(ops.Using(tensor.Latents), e.latent)
	decoder := vae.NewDecoder(e.spec.VAE, resident, tensor.F32)
	if !e.ranks.alone() {
		slabs, err := e.ranks.slabs(e.ctx, e.latH, PhaseVAEDecode)
		if err != nil {
			return err
		}
		defer func() { ops.Fail(slabs.Close()) }()
		decoder.Slabs = slabs
	}
	var video []float32 // [F, H, W, 3], only for a dump
	done := 0
	e.progress(PhaseVAEDecode, 0, e.latT)
	err := decoder.Decode(ops, zTHWC, func(framesTHWC tensor.Tensor) error {
		if e.dumping {
			if whole := decoder.Slabs.Collect(ops, framesTHWC); !whole.IsNone() && e.job.Dump != nil {
				video = append(video, ops.Floats(whole)...)
			}
		}
		whole := decoder.Slabs.Collect(ops, ops.Quantize(framesTHWC, e.job.RoundPixels))
		done++
		e.progress(PhaseVAEDecode, done, e.latT)
		if whole.IsNone() {
			return ops.Err()
		}
		return e.writeFrames(ops, whole)
	})
	if err == nil && e.job.Dump != nil && len(video) > 0 {
		e.job.Dump.floats("video", channelsFirst(video, e.job.FrameNum, e.Height()*e.Width()), 3, e.job.FrameNum, e.Height(), e.Width())
	}
	return err
}

// writeFrames hands byte frames [F, H, W, 3] to the sink.
func (e *execution) writeFrames(ops tensor.Ops, frames tensor.Tensor) error {
	rgb := ops.Bytes(frames)
	if err := ops.Err(); err != nil {
		return err
	}
	e.tally.work.HostArrays = max(e.tally.work.HostArrays, int64(len(rgb)))
	e.job.Dump.frames(rgb, e.Height(), e.Width())
	frame := 3 * e.Height() * e.Width()
	for i := 0; i < len(rgb); i += frame {
		if err := e.sink.WriteFrame(rgb[i : i+frame]); err != nil {
			return err
		}
	}
	return nil
}

// channelsFirst turns [F, pixels, 3] into [3, F, pixels].
func channelsFirst(x []float32, frames, pixels int) []float32 {
	out := make([]float32, len(x))
	for i := range frames * pixels {
		for c := range 3 {
			out[c*frames*pixels+i] = x[3*i+c]
		}
	}
	return out
}
