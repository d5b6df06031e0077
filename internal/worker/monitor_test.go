package worker

import (
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/generate"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// heard keeps what a monitor says.
type heard struct {
	mu  sync.Mutex
	all []*wanrunv1.Progress
}

func (h *heard) send(p *wanrunv1.Progress) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, p)
}

func (h *heard) last(t *testing.T) *wanrunv1.Progress {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		t.Fatal("nothing was said")
	}
	return h.all[len(h.all)-1]
}

// fakeNVML builds vram's test double.
func fakeNVML(t *testing.T) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build the fake library with")
	}
	path := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if out, err := exec.Command(gcc, "-shared", "-fPIC", "-o", path, "../vram/testdata/fakenvml.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// Without a GPU nothing of one is said, and why; never zero.
func TestMonitorWithoutGPU(t *testing.T) {
	for _, tc := range []struct{ device, library, why string }{
		{"cpu", "", "computes on the CPU"},
		{"cuda", filepath.Join(t.TempDir(), "none.so"), "no NVML"},
	} {
		var h heard
		m := watchMemory(gpuConfig{Library: tc.library}, tc.device, h.send, zaptest.NewLogger(t), func(err error) { t.Error(err) }, time.Now())
		m.say(&wanrunv1.Progress{Phase: "plan", Total: 1})
		m.planIs(plannedBytes(&generate.Result{Phases: []generate.PhaseResult{{Name: "denoise", Peak: generate.Bytes{1 << 20}, HostWeights: 5}}}, "cpu"))
		m.say(&wanrunv1.Progress{Phase: "denoise", Done: 1, Total: 2})
		m.tick()
		m.close()
		p := h.last(t)
		x := p.GetMemory()
		if x.Gpu != nil || !strings.Contains(x.GetGpuUnknown(), tc.why) {
			t.Errorf("%s: GPU %v, why %q", tc.device, x.Gpu, x.GetGpuUnknown())
		}
		if p.GetPhase() != "denoise" || p.GetDone() != 1 || p.GetRssBytes() <= 0 || x.GetRssAnonymous() <= 0 || x.RssFile == nil || x.RssShared == nil {
			t.Errorf("%s: %v", tc.device, p)
		}
		if x.GetPlanned() != 1<<20 || x.GetHeld() != 1<<20 || x.GetExpectedAnonymous() != 1<<20+5+processBytes {
			t.Errorf("%s: plan in %v", tc.device, x)
		}
		if first := h.all[0].GetMemory(); first.Planned != nil || first.Held != nil || first.ExpectedAnonymous != nil {
			t.Errorf("%s: a plan before there is one: %v", tc.device, first)
		}
		if anonymous, own, used := m.peaksOf("denoise"); anonymous == nil || own != nil || used != nil {
			t.Errorf("%s: peaks %v %v %v", tc.device, anonymous, own, used)
		}
	}
}

func TestMonitorGPU(t *testing.T) {
	t.Setenv("FAKE_NVML_PID", "self")
	var h heard
	visible := "GPU-fa"
	m := watchMemory(gpuConfig{Library: fakeNVML(t), Visible: &visible}, "cuda", h.send, zaptest.NewLogger(t), func(err error) { t.Error(err) }, time.Now())
	m.planIs(plannedBytes(&generate.Result{Phases: []generate.PhaseResult{{Name: "denoise", Peak: generate.Bytes{1 << 20}}}}, "cuda"))
	m.say(&wanrunv1.Progress{Phase: "denoise", Done: 1, Total: 2})
	m.close()
	g := h.last(t).GetMemory().GetGpu()
	if g.GetUuid() != "GPU-fake" || g.GetTotal() != 1000<<20 || g.GetUsed() != 400<<20 || g.GetFree() != 600<<20 || g.GetOwn() != 300<<20 || g.GetOwnPeak() != 300<<20 ||
		g.GetUsedPeak() != 400<<20 || g.GetExpectedOwn() != 1<<20 {
		t.Errorf("%v", g)
	}
	if g.UtilizationPercent != nil || g.TemperatureCelsius != nil || g.EccUncorrected != nil || g.NvlinksUp != nil {
		t.Errorf("what the library lacks is known: %v", g)
	}
	if _, own, used := m.peaksOf("denoise"); own == nil || *own != 300<<20 || used == nil || *used != 400<<20 {
		t.Errorf("peaks %v %v", own, used)
	}
	if got := m.holders(); got != "GPU-fake has 600 of 1000 MiB free" {
		t.Errorf("holders %q", got)
	}
}

func TestMonitorForeignProcess(t *testing.T) {
	t.Setenv("FAKE_NVML_PID", "1")
	var h heard
	m := watchMemory(gpuConfig{Library: fakeNVML(t)}, "cuda", h.send, zaptest.NewLogger(t), func(err error) { t.Error(err) }, time.Now())
	m.say(&wanrunv1.Progress{Phase: "plan", Total: 1})
	m.close()
	g := h.last(t).GetMemory().GetGpu()
	if g.Own != nil || len(g.GetOthers()) != 1 || g.GetOthers()[0].GetPid() != 1 || g.GetOthers()[0].GetBytes() != 300<<20 {
		t.Errorf("%v", g)
	}
	if got := m.holders(); !strings.Contains(got, "process 1 (") || !strings.HasSuffix(got, "has 300 MiB") {
		t.Errorf("holders %q", got)
	}
}

// An error after which the GPU cannot be trusted ends the worker within a second, with its
// number, meaning and advice.
func TestWorkerEndsOnXID(t *testing.T) {
	t.Setenv("FAKE_NVML_XID", "79")
	job := demoJob(t.TempDir())
	job.Device, job.Steps, job.FrameNum = "cuda", 1000, 81
	begun := time.Now()
	l, err := runConfigured(t, job, nil, func(c *Config) { c.NVML = fakeNVML(t) })
	if ends.CodeOf(err) != ends.DeviceFailure {
		t.Fatalf("ended with %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if r := l.report; r.GetExitCode() != int32(ends.DeviceFailure) || !strings.Contains(r.GetError(), "XID 79 on GPU-fake: the GPU has fallen off the bus: restart the node") {
		t.Errorf("report %v", r)
	}
}
