package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/generate"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/plan"
	"github.com/wanrun/wanrun/internal/task"
	"github.com/wanrun/wanrun/pkg/tensor"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// PlanMain reads a plan.Request from r and writes a plan.Answer to w.
func PlanMain(ctx context.Context, r io.Reader, w io.Writer) ends.Code {
	answer := plan.Answer{}
	var request plan.Request
	err := json.NewDecoder(io.LimitReader(r, plan.MaxRequest)).Decode(&request)
	if err != nil {
		err = ends.As(ends.Usage, fmt.Errorf("request: %w", err))
	} else {
		answer.Plan, err = Plan(ctx, request)
	}
	if err != nil {
		answer.Plan, answer.Error, answer.Code = nil, err.Error(), int(ends.CodeOf(err))
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		return ends.CannotStart
	}
	return ends.Code(answer.Code)
}

// Plan plans a job on the meta backend, without weights or devices, and searches for changes
// if the request asks for it. Errors: ends.BadInput.
func Plan(ctx context.Context, r plan.Request) (*plan.Plan, error) {
	p := &planner{ctx: ctx, request: r, job: &wanrunv1.Job{}, pictures: map[string]*picture.RGB{}}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(r.Job, p.job); err != nil {
		return nil, ends.As(ends.BadInput, fmt.Errorf("job: %w", err))
	}
	if err := p.open(); err != nil {
		return nil, ends.As(ends.BadInput, err)
	}
	base, err := p.plan(p.job)
	if err != nil {
		return nil, err
	}
	if r.Search == "" || (r.Search == searchFirst && base.Fits) {
		return base, nil
	}
	base.Remedies, err = p.search(base)
	return base, err
}

const searchFirst = "first"

type planner struct {
	ctx     context.Context
	request plan.Request
	job     *wanrunv1.Job
	spec    checkpoint.Spec
	sizes   string // where they come from
	// prompt and negative are how many tokens the prompts have.
	prompt, negative int
	pictures         map[string]*picture.RGB
	cpus             map[int]plan.Device // measured, by threads
}

// open finds the sizes of the models: from the whole checkpoint, if it is there, from its
// two small files, or the official ones.
func (p *planner) open() error {
	p.prompt, p.negative = umt5.Official().TextLen, umt5.Official().TextLen
	switch dir := p.job.GetCkptDir(); {
	case p.request.Demo:
		return p.openWhole(func() (*checkpoint.Checkpoint, error) {
			return checkpoint.OpenFS("demo model", examples.DemoCheckpoint())
		})
	case dir != "":
		if err := p.openWhole(func() (*checkpoint.Checkpoint, error) { return checkpoint.OpenDir(dir) }); err == nil {
			return nil
		}
		return p.openConfig(dir)
	default:
		return p.openOfficial()
	}
}

func (p *planner) openWhole(open func() (*checkpoint.Checkpoint, error)) (err error) {
	ckpt, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ckpt.Close()) }()
	job, err := p.typed(p.job)
	if err != nil {
		return err
	}
	run, err := generate.Prepare(p.ctx, job, ckpt)
	if err != nil {
		return err
	}
	p.spec, p.sizes = ckpt.Spec, "headers"
	p.prompt, p.negative = run.Tokens()
	return nil
}

func (p *planner) openConfig(dir string) error {
	const most = 1 << 20
	read := func(name string) ([]byte, error) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, most))
	}
	config, err := read("config.json")
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	spec, err := read("model_spec.json")
	if errors.Is(err, os.ErrNotExist) {
		spec, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	p.spec, err = checkpoint.ParseSpec(config, spec)
	p.sizes, p.prompt, p.negative = "config", p.spec.T5.TextLen, p.spec.T5.TextLen
	return err
}

func (p *planner) openOfficial() error {
	name, err := task.Parse(p.request.Official)
	if err != nil {
		return err
	}
	p.spec, p.sizes = checkpoint.Spec{T5: umt5.Official(), VAE: vae.Official(), CLIP: clip.Official()}, "official"
	switch {
	case name == task.T2V13B:
		p.spec.DiT = wan.OfficialT2V1B()
	case name.ModelType() == task.KindI2V:
		p.spec.DiT = wan.OfficialI2V14B()
	case name.ModelType() == task.KindFLF2V:
		p.spec.DiT = wan.OfficialFLF2V14B()
	default:
		p.spec.DiT = wan.OfficialT2V14B()
	}
	return nil
}

// typed is the job with pictures: read once, or empty ones of the job's size.
func (p *planner) typed(m *wanrunv1.Job) (generate.Job, error) {
	m = proto.CloneOf(m)
	name, err := task.Parse(m.GetTask())
	if err != nil {
		return generate.Job{}, err
	}
	first, last := m.GetImage(), m.GetLastImage()
	if first == "" && name.FollowsPicture() { // so much more that rounding does not cut a row
		m.MaxArea = int64(m.GetWidth())*int64(m.GetHeight()) + int64(m.GetWidth())
	}
	m.Image, m.LastImage = "", ""
	ranks := max(int(m.GetCfg()), 1) * max(int(m.GetRing()), 1) * max(int(m.GetUlysses()), 1)
	w := &worker{job: m, config: Config{Size: ranks, Nodes: p.nodes(ranks)}}
	job, err := w.typedJob()
	if err != nil || !name.FollowsPicture() {
		return job, err
	}
	if job.First, err = p.picture(first, m); err != nil {
		return job, err
	}
	if name.Kind() == task.KindFLF2V {
		job.Last, err = p.picture(last, m)
	}
	return job, err
}

func (p *planner) picture(path string, m *wanrunv1.Job) (*picture.RGB, error) {
	if path == "" {
		if m.GetWidth() < 1 || m.GetHeight() < 1 {
			return nil, errors.New("neither a picture nor its size")
		}
		return &picture.RGB{W: int(m.GetWidth()), H: int(m.GetHeight())}, nil
	}
	if known, ok := p.pictures[path]; ok {
		return known, nil
	}
	pic, err := (&worker{job: m}).picture(path)
	if err == nil {
		p.pictures[path] = pic
	}
	return pic, err
}

func (p *planner) nodes(ranks int) []int {
	per := p.request.PerNode
	if per < 1 || ranks <= per {
		return nil
	}
	nodes := make([]int, ranks)
	for i := range nodes {
		nodes[i] = i / per
	}
	return nodes
}

// plan plans one job. Where the branches of guidance are free to run together or apart, they
// run apart if that alone fits.
func (p *planner) plan(m *wanrunv1.Job) (*plan.Plan, error) {
	together, err := p.planAs(m, m.GetCfgBranches() == branchesApart)
	if err != nil || together.Fits || m.GetCfg() > 1 || m.GetCfgBranches() == branchesTogether || m.GetCfgBranches() == branchesApart {
		return together, err
	}
	apart, err := p.planAs(m, true)
	if err != nil || !apart.Fits {
		return together, err
	}
	return apart, nil
}

func (p *planner) planAs(m *wanrunv1.Job, apart bool) (*plan.Plan, error) {
	job, err := p.typed(m)
	if err != nil {
		return nil, ends.As(ends.BadInput, err)
	}
	job.Spread.BranchesApart = apart
	run, err := generate.Sketch(job, p.spec, p.prompt, p.negative)
	if err != nil {
		return nil, err
	}
	ranks := job.Spread.Mesh.Size()
	out := &plan.Plan{Schema: plan.Schema, Task: m.GetTask(), Width: run.Width(), Height: run.Height(), Frames: run.Frames(), Steps: int(m.GetSteps()),
		DType: m.GetDtype(), Sizes: p.sizes, Devices: p.devices(ranks), DeviceIsHost: len(p.request.Devices) == 0}
	if m.GetCfg() <= 1 {
		out.Branches = map[bool]string{false: branchesTogether, true: branchesApart}[apart]
	}
	like := meta.RowMajor("planned device")
	if out.DeviceIsHost {
		b := cpu.New(1)
		defer b.Close()
		like = b
	}
	host := generate.Host{Now: func() time.Time { return time.Time{} }, RSSPeak: func() int64 { return 0 }}
	results, err := run.Plan(p.ctx, like, host)
	if err != nil {
		return nil, err
	}
	for rank, r := range results {
		node := 0
		if job.Spread.Nodes != nil {
			node = job.Spread.Nodes[rank]
		}
		out.Ranks = append(out.Ranks, rankOf(rank, node, r))
	}
	out.Finish()
	out.Judge(p.request.Limits)
	return out, nil
}

func rankOf(rank, node int, r *generate.Result) plan.Rank {
	out := plan.Rank{Rank: rank, Node: node, DeviceReservedBytes: r.Peak().Total()}
	for _, q := range r.Phases {
		phase := plan.Phase{Name: q.Name, DevicePeakBytes: q.Peak.Total(), DeviceBytes: purposes(q.Peak), HostSharedBytes: q.HostWeights,
			HostAnonymousBytes: processBytes + 2*q.Work.HostArrays, HostFileBytes: q.Work.FileBytes, FLOPs: q.Work.FLOPs(),
			Work: plan.Work{MatMulFLOPs: q.Work.MatMulFLOPs, AttentionFLOPs: q.Work.AttentionFLOPs, ConvFLOPs: q.Work.ConvFLOPs,
				OtherFLOPs: q.Work.OtherFLOPs, MemoryBytes: q.Work.BytesMoved, FromFileBytes: q.Work.FromFile, FromHostBytes: q.Work.FromHost}}
		for _, t := range q.Work.Traffic {
			phase.Collectives = append(phase.Collectives, plan.Collective{Op: t.Op.String(), Purpose: t.Purpose, Calls: t.Calls,
				SentBytes: t.Sent, ReceivedBytes: t.Received})
		}
		out.Phases = append(out.Phases, phase)
	}
	return out
}

// devices are those of the ranks: given, or the processors, measured.
func (p *planner) devices(ranks int) []plan.Device {
	if given := p.request.Devices; len(given) > 0 {
		out := make([]plan.Device, ranks)
		for i := range out {
			out[i] = given[i%len(given)] // more ranks than devices are refused before
		}
		return out
	}
	threads := p.request.Threads
	if threads == 0 {
		threads = max(1, runtime.GOMAXPROCS(0)/min(ranks, max(p.request.PerNode, 1)))
	}
	d, ok := p.cpus[threads]
	if !ok {
		d = measureCPU(threads)
		if p.cpus == nil {
			p.cpus = map[int]plan.Device{}
		}
		p.cpus[threads] = d
	}
	return slices.Repeat([]plan.Device{d}, ranks)
}

// measureCPU times a matrix product on so many threads; what else there is to know of the
// processors is estimated from it.
func measureCPU(threads int) plan.Device {
	const m, n, k = 256, 1024, 1024
	b := cpu.New(threads)
	defer b.Close()
	d := plan.Device{Name: fmt.Sprintf("%d threads of the processors", threads), MemoryRate: 8e9, LinkRate: 4e9, FetchRate: 8e9, FileRate: 1e9, From: "measured matrix products, the rest estimated"}
	var sizes [tensor.NumPurposes]int64
	sizes[tensor.Weights], sizes[tensor.Activations] = 16<<20, 16<<20
	space, err := tensor.Reserve(b, sizes)
	if err != nil {
		d.From = "unknown"
		return d
	}
	ops := tensor.NewOps(context.Background(), b, space)
	w := ops.Using(tensor.Weights).EmptyWeight(tensor.MatrixWeight, tensor.F32, n, k)
	ops.Fail(b.WriteWeight(w, tensor.MatrixWeight, make([]byte, 4*n*k)))
	x := ops.FromFloats(make([]float32, m*k), m, k)
	best := time.Duration(0)
	for range 3 { // the first warms up
		start := time.Now()
		ops.Scope(func() { ops.MatMul(x, w, tensor.Tensor{}, tensor.NoActivation, tensor.F32) })
		ops.Fail(b.Sync())
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	if err := errors.Join(ops.Err(), space.Close()); err != nil || best <= 0 {
		d.From = "unknown"
		return d
	}
	d.MatMulFLOPs = 2 * m * n * k / best.Seconds()
	d.PeakFLOPs, d.AttentionFLOPs, d.ConvFLOPs = d.MatMulFLOPs, d.MatMulFLOPs/2, d.MatMulFLOPs/2
	return d
}

// search looks for choices around the job.
func (p *planner) search(base *plan.Plan) ([]plan.Option, error) {
	m := p.job
	s := plan.Search{Fixed: map[string]bool{}, MaxRanks: p.request.MaxRanks, Heads: p.spec.DiT.NumHeads, Most: p.request.Most, First: p.request.Search == searchFirst,
		Tokens: p.spec.DiT.NumTokens((base.Frames-1)/vae.TimeStride+1, base.Height/vae.SpaceStride, base.Width/vae.SpaceStride),
		Base: plan.Choice{CFG: max(int(m.GetCfg()), 1), Ring: max(int(m.GetRing()), 1), Ulysses: max(int(m.GetUlysses()), 1), DiTFSDP: m.GetDitFsdp(), T5FSDP: m.GetT5Fsdp(),
			Offload: m.GetOffloadDit(), DType: m.GetDtype(), Width: base.Width, Height: base.Height, Frames: base.Frames, Steps: base.Steps}}
	if s.Base.Offload == "" {
		s.Base.Offload = "device"
	}
	for _, name := range p.request.Fixed {
		s.Fixed[name] = true
	}
	return s.Run(func(c plan.Choice) (*plan.Plan, error) {
		return p.plan(choose(m, s.Base, c))
	})
}

// choose is the job m with what c changes of base.
func choose(m *wanrunv1.Job, base, c plan.Choice) *wanrunv1.Job {
	m = proto.CloneOf(m)
	m.Cfg, m.Ring, m.Ulysses, m.DitFsdp, m.T5Fsdp = int32(c.CFG), int32(c.Ring), int32(c.Ulysses), c.DiTFSDP, c.T5FSDP
	m.OffloadDit, m.Dtype, m.FrameNum, m.Steps = c.Offload, c.DType, int32(c.Frames), int32(c.Steps)
	if c.Ranks() != base.Ranks() {
		m.FsdpSize = 0 // groups of all
	}
	if c.Width == base.Width && c.Height == base.Height {
		return m
	}
	if m.GetMaxArea() > 0 {
		m.MaxArea = int64(c.Width) * int64(c.Height)
	}
	if m.GetWidth() > 0 {
		m.Width, m.Height = int32(c.Width), int32(c.Height)
	}
	return m
}
