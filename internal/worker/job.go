package worker

import (
	"fmt"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/generate"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/noise"
	"github.com/wanrun/wanrun/internal/sampler"
	"github.com/wanrun/wanrun/internal/task"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// DemoImage stands for the embedded picture where a job names an image file.
const DemoImage = "demo:in.jpg"

var dtypes = map[string]tensor.DType{"fp32": tensor.F32, "bf16": tensor.BF16, "fp16": tensor.F16}

// typedJob checks the job that came over the wire and reads its pictures.
func (w *worker) typedJob() (generate.Job, error) {
	m := w.job
	name, err := task.Parse(m.GetTask())
	if err != nil {
		return generate.Job{}, err
	}
	kind, err := noise.ParseKind(m.GetNoiseRng())
	if err != nil {
		return generate.Job{}, err
	}
	dtype, ok := dtypes[m.GetDtype()]
	if !ok {
		return generate.Job{}, fmt.Errorf("unknown dtype %q", m.GetDtype())
	}
	if err := sampler.Check(m.GetSolver(), int(m.GetSteps()), m.GetShift()); err != nil {
		return generate.Job{}, err
	}
	if err := task.CheckFrames(int(m.GetFrameNum())); err != nil {
		return generate.Job{}, err
	}
	job := generate.Job{
		Kind: name.ModelType(), Prompt: m.GetPrompt(), NegativePrompt: m.GetNegativePrompt(),
		Width: int(m.GetWidth()), Height: int(m.GetHeight()), MaxArea: int(m.GetMaxArea()),
		FrameNum: int(m.GetFrameNum()), Steps: int(m.GetSteps()), Solver: m.GetSolver(), Shift: m.GetShift(),
		GuideScale: m.GetGuideScale(), Seed: m.GetSeed(), NoiseKind: kind, DType: dtype, Compat: m.GetCompat(), ScanWeights: m.GetScanWeights(),
		RoundPixels: name.Kind() == task.KindT2I,
	}
	if job.Spread, err = w.spread(); err != nil {
		return generate.Job{}, err
	}
	if job.First, err = w.picture(m.GetImage()); err != nil {
		return generate.Job{}, err
	}
	if job.Last, err = w.picture(m.GetLastImage()); err != nil {
		return generate.Job{}, err
	}
	if m.GetDump() != "" {
		job.Dump = generate.NewDump()
	}
	return job, nil
}

func (w *worker) picture(path string) (*picture.RGB, error) {
	if path == "" {
		return nil, nil
	}
	data := examples.DemoImage()
	if path != DemoImage {
		var err error
		if data, err = readPicture(path); err != nil {
			return nil, err
		}
	}
	p, err := picture.Decode(data, picture.Options{ExifOrient: w.job.GetExifOrient()})
	if err != nil {
		return nil, fmt.Errorf("picture %q: %w", path, err)
	}
	return p, nil
}

// How the branches of guidance run, as jobs name it.
const (
	branchesAuto     = "auto"
	branchesTogether = "together"
	branchesApart    = "apart"
)

// rests are the places where the DiT's weights may rest, as jobs name them.
var rests = map[string]fsdp.Rest{"": fsdp.OnDevice, "device": fsdp.OnDevice, "host": fsdp.OnHost, "file": fsdp.InFile}

// spread is how the job is spread over its ranks, of which there must be as many as
// were started.
func (w *worker) spread() (generate.Spread, error) {
	m := w.job
	rest, ok := rests[m.GetOffloadDit()]
	if !ok {
		return generate.Spread{}, fmt.Errorf("unknown place of rest %q for the DiT's weights", m.GetOffloadDit())
	}
	switch m.GetCfgBranches() {
	case "", branchesAuto, branchesTogether, branchesApart:
	default:
		return generate.Spread{}, fmt.Errorf("branches of guidance run %q; want auto, together or apart", m.GetCfgBranches())
	}
	mesh := sharding.Mesh{CFG: max(int(m.GetCfg()), 1), Ring: max(int(m.GetRing()), 1), Ulysses: max(int(m.GetUlysses()), 1), FSDP: int(m.GetFsdpSize())}
	if mesh.FSDP == 0 {
		mesh.FSDP = w.config.Size
	}
	if mesh.Size() != w.config.Size {
		return generate.Spread{}, fmt.Errorf("a job for %d ranks (%v), where %d were started", mesh.Size(), mesh, w.config.Size)
	}
	if n := mesh.FSDP; n < 1 || mesh.Size()%n != 0 {
		return generate.Spread{}, fmt.Errorf("weights sharded over groups of %d ranks, which do not divide %d", n, mesh.Size())
	}
	return generate.Spread{Mesh: mesh, Nodes: w.config.Nodes, ShardDiT: m.GetDitFsdp(), ShardT5: m.GetT5Fsdp(), Rest: rest, CompatPadding: m.GetCompatPadding(),
		BranchesApart: m.GetCfgBranches() == branchesApart}, nil
}
