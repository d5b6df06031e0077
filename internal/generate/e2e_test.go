package generate

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/media/picture"
	"github.com/wanrun/wanrun/internal/noise"
	"github.com/wanrun/wanrun/internal/task"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// e2eCase is one run of the official generate().
type e2eCase struct {
	Name       string  `json:"name"`
	Ckpt       string  `json:"ckpt"`
	Kind       string  `json:"kind"`
	Prompt     string  `json:"prompt"`
	Negative   string  `json:"n_prompt"`
	FrameNum   int     `json:"frame_num"`
	Steps      int     `json:"sampling_steps"`
	Solver     string  `json:"sample_solver"`
	Shift      float64 `json:"shift"`
	Seed       int64   `json:"seed"`
	GuideScale float64 `json:"guide_scale"`
	Image      string  `json:"image"`
	LastImage  string  `json:"last_image"`
	MaxArea    int     `json:"max_area"`
	SizeWH     []int   `json:"size_w_h"`
}

func (c e2eCase) job(t *testing.T) Job {
	t.Helper()
	kind, err := noise.ParseKind("torch-cpu") // the reference ran on a CPU
	if err != nil {
		t.Fatal(err)
	}
	job := Job{Kind: c.Kind, Prompt: c.Prompt, NegativePrompt: c.Negative, MaxArea: c.MaxArea, FrameNum: c.FrameNum,
		Steps: c.Steps, Solver: c.Solver, Shift: c.Shift, GuideScale: c.GuideScale, Seed: c.Seed, NoiseKind: kind,
		DType: tensor.F32, Compat: true, Dump: NewDump()}
	if job.NegativePrompt == "" {
		job.NegativePrompt = task.Name(c.Kind + "-14B").NegativePrompt()
	}
	if c.SizeWH != nil {
		job.Width, job.Height = c.SizeWH[0], c.SizeWH[1]
	}
	job.First = readPicture(t, "../../testdata/images", c.Image)
	job.Last = readPicture(t, "../../testdata/images", c.LastImage)
	return job
}

func readPicture(t *testing.T, dir, name string) *picture.RGB {
	t.Helper()
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	p, err := picture.Decode(data, picture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// testHost is a host without a clock or a memory.
func testHost() Host {
	return Host{Now: func() time.Time { return time.Time{} }, RSSPeak: func() int64 { return 0 }, Progress: func(Progress) {}}
}

// execute plans the job, reserves what was planned, runs it and asserts that the
// plan was exact.
func execute(t *testing.T, dir string, job Job) *Result {
	t.Helper()
	ckpt, err := checkpoint.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ckpt.Close(); err != nil {
			t.Error(err)
		}
	}()
	run, err := Prepare(t.Context(), job, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	b := cpu.New(2)
	defer b.Close()
	plans, err := run.Plan(t.Context(), b, testHost())
	if err != nil {
		t.Fatal(err)
	}
	planned := plans[0]
	space, err := tensor.Reserve(b, planned.Peak())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	}()
	used, err := run.Execute(t.Context(), b, space, nil, Discard{}, testHost())
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range used.Phases {
		if q := planned.Phases[i]; p.Name != q.Name || p.Peak != q.Peak {
			t.Errorf("%s used %v, planned for %s %v", p.Name, p.Peak, q.Name, q.Peak)
		}
	}
	return used
}

// officialTolerances are for runs in float32: a few times the distance of the
// official code's float32 from its float64.
var officialTolerances = map[string]float32{
	"context": 3e-5, "context_null": 3e-5, "clip_fea": 1.5e-4, "y": 3e-5, "noise": 1e-5,
	"latent_before_step": 5e-4, "pred_cond": 5e-4, "pred_uncond": 5e-4, "final_latent": 5e-4, "video": 3e-4,
}

func readCase(t *testing.T, file string) (c e2eCase) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestOfficialRuns compares whole runs with the official code in float32. The
// official float32 differs from its float64 by up to 8e-5 in the final latent and
// 5e-5 in frames; every tolerance is a few times that.
func TestOfficialRuns(t *testing.T) {
	files, err := filepath.Glob("../../testdata/e2e/*f_*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d cases (%v)", len(files), err)
	}
	for _, file := range files {
		c := readCase(t, file)
		t.Run(c.Name, func(t *testing.T) {
			job := c.job(t)
			execute(t, "../../testdata/ckpt_"+c.Ckpt, job)
			want := golden.Load(t, "../../testdata/e2e/"+c.Name+".safetensors")
			compareDump(t, job.Dump, want, officialTolerances)
			compareFrames(t, job.Dump, want)
		})
	}
}

// compareDump compares what the dump and the reference both have.
func compareDump(t *testing.T, dump *Dump, want map[string]golden.Tensor, tolerance map[string]float32) {
	t.Helper()
	compared := 0
	for name, w := range want {
		tol, ok := tolerance[name]
		if !ok {
			continue
		}
		compared++
		a, ok := dump.arrays[name]
		if !ok || !slices.Equal(a.shape, w.Shape) {
			t.Errorf("%s: dumped %v, want shape %v", name, a.shape, w.Shape)
			continue
		}
		golden.CompareShape(t, name, w.Shape, a.floats(), w.F32, tol)
	}
	if compared < 7 {
		t.Errorf("only %d arrays compared", compared)
	}
	a := dump.arrays["timesteps"]
	if w := want["timesteps"]; !slices.Equal(a.int64s(), w.I64) {
		t.Errorf("timesteps %v, want %v", a.int64s(), w.I64)
	}
}

// compareFrames allows 0.5 % of the bytes to differ, by 1: where a value lies
// within rounding of a step between two bytes.
func compareFrames(t *testing.T, dump *Dump, want map[string]golden.Tensor) {
	t.Helper()
	const name = "video_uint8_FHWC"
	got, w := dump.arrays[name], want[name]
	if !slices.Equal(got.shape, w.Shape) {
		t.Fatalf("frames %v, want %v", got.shape, w.Shape)
	}
	off := 0
	for i, b := range got.data {
		d := int(b) - int(w.U8[i])
		if d < -1 || d > 1 {
			t.Fatalf("frame byte %d is %d, want %d", i, b, w.U8[i])
		}
		if d != 0 {
			off++
		}
	}
	if 200*off > len(got.data) {
		t.Errorf("%d of %d frame bytes differ by 1; at most 0.5 %% may", off, len(got.data))
	}
}

// TestDemoCases compares the demo model with what the official classes made of
// it, and sees that the ball moves.
func TestDemoCases(t *testing.T) {
	dir := "../../examples/demo-model"
	var cases []struct {
		Name     string  `json:"name"`
		Image    string  `json:"image"`
		Prompt   string  `json:"prompt"`
		Negative string  `json:"n_prompt"`
		MaxArea  int     `json:"max_area"`
		FrameNum int     `json:"frame_num"`
		Seed     int64   `json:"seed"`
		Steps    int     `json:"sampling_steps"`
		Shift    float64 `json:"shift"`
		Guide    float64 `json:"guide_scale"`
		Solver   string  `json:"solver"`
		IDs      []int32 `json:"token_ids"`
	}
	data, err := os.ReadFile(dir + "/expected/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) != 3 {
		t.Fatalf("%d cases (%v)", len(cases), err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			job := e2eCase{Kind: "i2v", Prompt: c.Prompt, Negative: c.Negative, MaxArea: c.MaxArea, FrameNum: c.FrameNum,
				Seed: c.Seed, Steps: c.Steps, Shift: c.Shift, GuideScale: c.Guide, Solver: c.Solver}.job(t)
			job.First = readPicture(t, dir+"/inputs", c.Image)
			execute(t, dir+"/checkpoint", job)
			want := golden.Load(t, dir+"/expected/"+c.Name+".safetensors")
			// The names and leading dims of 1 are those of the demo model's own files.
			want["final_latent"], want["video_uint8_FHWC"] = want["latent"], want["frames"]
			first := want["cond_pred_first"].F32
			golden.Compare(t, "cond_pred_first", job.Dump.arrays["pred_cond"].floats()[:len(first)], first, 5e-4)
			for name, tol := range map[string]float32{"context": 3e-5, "context_null": 3e-5, "clip_fea": 1.5e-4, "y": 3e-5,
				"noise": 1e-5, "final_latent": 5e-4} {
				golden.Compare(t, name, job.Dump.arrays[name].floats(), want[name].F32, tol)
			}
			compareFrames(t, job.Dump, want)
		})
	}
}

// centroid returns where the pixels of a frame [h, w, 3] that are much redder than
// green and blue lie, on average.
func centroid(rgb []byte, w int) (x, y float64, count int) {
	for i := 0; i < len(rgb); i += 3 {
		if int(rgb[i]) > int(rgb[i+1])+80 && int(rgb[i]) > int(rgb[i+2])+80 {
			x += float64(i / 3 % w)
			y += float64(i / 3 / w)
			count++
		}
	}
	return x / float64(count), y / float64(count), count
}

// TestRedBallMoves sees in the pixels that the prompt is obeyed, with the noise of
// the default generator.
func TestRedBallMoves(t *testing.T) {
	for _, tc := range []struct {
		prompt string
		dx, dy float64 // the least move over the clip, in pixels
	}{
		{"the red ball moves right", 14, 0},
		{"the red ball moves up", 0, -14},
	} {
		t.Run(tc.prompt, func(t *testing.T) {
			job := e2eCase{Kind: "i2v", Prompt: tc.prompt, MaxArea: 4096, FrameNum: 13, Seed: 42, Steps: 12, Shift: 3, GuideScale: 3,
				Solver: "unipc"}.job(t)
			job.NoiseKind = noise.Kind{}
			job.First = readPicture(t, "../../examples", "in.jpg")
			execute(t, "../../examples/demo-model/checkpoint", job)
			frames := job.Dump.arrays["video_uint8_FHWC"]
			size := 64 * 64 * 3
			x0, y0, n0 := centroid(frames.data[:size], 64)
			x1, y1, n1 := centroid(frames.data[12*size:], 64)
			if n0 < 50 || n1 < 50 {
				t.Fatalf("the ball has %d pixels in the first frame, %d in the last", n0, n1)
			}
			dx, dy := x1-x0, y1-y0
			if tc.dx > 0 && (dx < tc.dx || abs(dy) > 5) || tc.dy < 0 && (dy > tc.dy || abs(dx) > 5) {
				t.Errorf("the ball moved by (%.1f, %.1f)", dx, dy)
			}
		})
	}
}

func abs(x float64) float64 { return max(x, -x) }

// TestCancel sees that a run ends with the reason that it was given.
func TestCancel(t *testing.T) {
	ckpt, err := checkpoint.OpenDir("../../examples/demo-model/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ckpt.Close(); err != nil {
			t.Error(err)
		}
	}()
	job := e2eCase{Kind: "i2v", Prompt: "x", MaxArea: 4096, FrameNum: 5, Steps: 2, Shift: 3, GuideScale: 3, Solver: "unipc"}.job(t)
	job.First = readPicture(t, "../../examples", "in.jpg")
	run, err := Prepare(t.Context(), job, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	b := cpu.New(1)
	defer b.Close()
	space, err := tensor.Reserve(b, [tensor.NumPurposes]int64{1 << 28, 1 << 20, 1 << 28, 1 << 28, 1 << 28, 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancelCause(t.Context())
	host := testHost()
	host.Progress = func(p Progress) {
		if p.Phase == PhaseDenoise && p.Done == 1 {
			cancel(errStop)
		}
	}
	result, err := run.Execute(ctx, b, space, nil, Discard{}, host)
	if err == nil || !errors.Is(err, errStop) || result.Phases[len(result.Phases)-1].Name != PhaseDenoise {
		t.Errorf("ended in %v with %v", result.Phases, err)
	}
}
