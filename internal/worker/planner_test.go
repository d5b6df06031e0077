package worker

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/plan"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func planJob(t *testing.T, change func(*wanrunv1.Job, *plan.Request)) plan.Request {
	t.Helper()
	job := &wanrunv1.Job{Task: "i2v-14B", Width: 832, Height: 480, MaxArea: 832 * 480, FrameNum: 81, Steps: 40, Solver: "unipc", Shift: 5, GuideScale: 5,
		NoiseRng: "torch-cuda", Dtype: "bf16", Cfg: 1, Ring: 1, Ulysses: 1, CfgBranches: "auto", OffloadDit: "device"}
	r := plan.Request{Official: "i2v-14B", PerNode: 1, MaxRanks: 1}
	var err error
	if r.Devices, err = plan.ParseDevices("24GiB"); err != nil {
		t.Fatal(err)
	}
	change(job, &r)
	if r.Job, err = protojson.Marshal(job); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPlan: what does not fit is refused with a change that does, of which the plan agrees.
func TestPlan(t *testing.T) {
	whole := planJob(t, func(_ *wanrunv1.Job, r *plan.Request) { r.Search = searchFirst })
	p, err := Plan(t.Context(), whole)
	if err != nil {
		t.Fatal(err)
	}
	if p.Fits || p.Width != 832 || p.Height != 480 || len(p.Short) != 1 || len(p.Remedies) == 0 {
		t.Fatalf("fits %v, %d*%d, short of %v, remedies %v", p.Fits, p.Width, p.Height, p.Short, p.Remedies)
	}
	if got := strings.Join(p.Remedies[0].Changes, " "); got != "--offload dit=file" {
		t.Errorf("remedy %q, want --offload dit=file, which takes no longer and no host memory", got)
	}
	p, err = Plan(t.Context(), planJob(t, func(m *wanrunv1.Job, _ *plan.Request) { m.OffloadDit = "file" }))
	if err != nil || !p.Fits {
		t.Errorf("with the remedy: fits %v (%v)", p.Fits, err)
	}
	for _, phase := range p.Ranks[0].Phases {
		if phase.FLOPs <= 0 || phase.Seconds <= 0 || phase.DevicePeakBytes <= 0 || phase.HostAnonymousBytes <= 0 {
			t.Errorf("phase %+v", phase)
		}
	}
}

// TestPlanFromConfig: config.json and model_spec.json are enough.
func TestPlanFromConfig(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{"config.json": examples.DemoConfig(), "model_spec.json": examples.DemoSpec()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	small := func(m *wanrunv1.Job, r *plan.Request) {
		m.CkptDir, m.Width, m.Height, m.MaxArea, m.FrameNum, m.Prompt = dir, 64, 64, 4096, 9, "p"
		r.Official, r.Devices = "", nil
	}
	p, err := Plan(t.Context(), planJob(t, small))
	if err != nil || p.Sizes != "config" || !p.DeviceIsHost || !p.Fits {
		t.Fatalf("%+v (%v)", p, err)
	}
	whole, err := Plan(t.Context(), planJob(t, func(m *wanrunv1.Job, r *plan.Request) {
		small(m, r)
		m.CkptDir, r.Demo = "", true
	}))
	if err != nil || whole.Sizes != "headers" {
		t.Fatalf("%+v (%v)", whole, err)
	}
	if a, b := p.Ranks[0].DeviceReservedBytes, whole.Ranks[0].DeviceReservedBytes; a < b {
		t.Errorf("%d bytes from the config, where prompts are as long as can be, and %d from the files", a, b)
	}
}

func TestPlanMain(t *testing.T) {
	for _, tc := range []struct {
		in   string
		code ends.Code
		want string
	}{
		{"", ends.Usage, "request"},
		{"[]", ends.Usage, "request"},
		{`{"job": {"task": "i2v-14B"}, "official": "x"}`, ends.BadInput, "unknown task"},
		{`{"job": 5, "official": "i2v-14B"}`, ends.BadInput, "job"},
		{`{"job": {"task": "i2v-14B"}, "official": "i2v-14B"}`, ends.BadInput, ""},
	} {
		var out bytes.Buffer
		code := PlanMain(t.Context(), strings.NewReader(tc.in), &out)
		var a plan.Answer
		if err := json.Unmarshal(out.Bytes(), &a); err != nil || code != tc.code || a.Plan != nil || !strings.Contains(a.Error, tc.want) || a.Error == "" {
			t.Errorf("%q: %d, %s (%v), want %d, %q", tc.in, code, out.String(), err, tc.code, tc.want)
		}
	}
}

// TestMemLimit: a reservation that may not be used whole ends the run in the phase that needs
// more, with the class of host memory.
func TestMemLimit(t *testing.T) {
	job := demoJob(t.TempDir())
	job.MemLimit = 1 << 20
	l, err := run(t, job, nil)
	if ends.CodeOf(err) != ends.HostMemory {
		t.Errorf("class %v (%v), want %v", ends.CodeOf(err), err, ends.HostMemory)
	}
	if r := l.report; r == nil || r.GetPhase() != "vae_encode" || r.GetExitCode() != int32(ends.HostMemory) {
		t.Errorf("report %v", r)
	}
}
