package worker

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/media"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// launcher is the least handler: it gives one job and keeps what comes back.
type launcher struct {
	job *wanrunv1.Job

	mu         sync.Mutex
	progress   map[string]*wanrunv1.Progress // the last of each phase
	report     *wanrunv1.Report
	onProgress func(*wanrunv1.Progress)
	detached   chan error
}

func (l *launcher) Attached(*wanrunv1.Hello) (*wanrunv1.Job, error) { return l.job, nil }

func (l *launcher) Progress(_ int, p *wanrunv1.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress[p.GetPhase()] = p
	if l.onProgress != nil {
		l.onProgress(p)
	}
}

func (l *launcher) Report(_ int, r *wanrunv1.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report = r
}

func (l *launcher) Detached(_ int, err error) { l.detached <- err }
func (l *launcher) Refused(error)             {}

// demoJob is a short video of the demo model.
func demoJob(dir string) *wanrunv1.Job {
	return &wanrunv1.Job{Task: "i2v-14B", Prompt: "the red ball moves right", NegativePrompt: "blurry", Image: DemoImage,
		MaxArea: 4096, FrameNum: 5, Steps: 2, Solver: "unipc", Shift: 3, GuideScale: 3, Seed: 1, NoiseRng: "torch-cuda", Fps: 8,
		Dtype: "fp32", Device: "cpu", Output: filepath.Join(dir, "out.mp4"), Encoder: "builtin", SettingsJson: `{"seed":1}`, Threads: 1}
}

// run runs a worker of this process against a launcher of this process.
func run(t *testing.T, job *wanrunv1.Job, onProgress func(*control.Server, *wanrunv1.Progress)) (*launcher, error) {
	t.Helper()
	return runConfigured(t, job, onProgress, func(*Config) {})
}

func runConfigured(t *testing.T, job *wanrunv1.Job, onProgress func(*control.Server, *wanrunv1.Progress), configure func(*Config)) (*launcher, error) {
	t.Helper()
	l := &launcher{job: job, progress: map[string]*wanrunv1.Progress{}, detached: make(chan error, 1)}
	server, err := control.Serve(t.TempDir(), 1, "test", l)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	if onProgress != nil {
		l.onProgress = func(p *wanrunv1.Progress) { onProgress(server, p) }
	}
	config := Config{Socket: server.Socket(), Token: server.Token(), Size: 1, Build: "test", Log: zaptest.NewLogger(t)}
	configure(&config)
	err = Run(t.Context(), config)
	if detachErr := <-l.detached; detachErr != nil {
		t.Errorf("detached with %v", detachErr)
	}
	return l, err
}

func TestVideo(t *testing.T) {
	dir := t.TempDir()
	job := demoJob(dir)
	job.Dump, job.ContactSheet = filepath.Join(dir, "dump.safetensors"), filepath.Join(dir, "sheet.png")
	l, err := run(t, job, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := l.report
	if r.GetExitCode() != 0 || r.GetExitClass() != "done" || r.GetOutput() != job.GetOutput() || r.GetOutputBytes() == 0 {
		t.Errorf("report %v", r)
	}
	if r.GetUsedBytes() == 0 || r.GetUsedBytes() != r.GetPredictedBytes() || len(r.GetNotices()) != 0 {
		t.Errorf("used %d, predicted %d bytes; notices %q", r.GetUsedBytes(), r.GetPredictedBytes(), r.GetNotices())
	}
	names := []string{}
	for _, p := range r.GetPhases() {
		names = append(names, p.GetName())
		if !maps.Equal(p.GetPredictedBytes(), p.GetUsedBytes()) {
			t.Errorf("%s: predicted %v, used %v", p.GetName(), p.GetPredictedBytes(), p.GetUsedBytes())
		}
	}
	if got, want := strings.Join(names, " "), "tokenize text_encode image_encode vae_encode denoise vae_decode write"; got != want {
		t.Errorf("phases %q, want %q", got, want)
	}
	// The last message of a phase may be replaced by the next one's.
	if p := l.progress["denoise"]; p.GetDone() > 2 || (p.GetDone() > 0 && p.GetTotal() != 2) || p == nil {
		t.Errorf("denoise ended at %v", p)
	}
	settings, err := media.ReadMetadata(job.GetOutput())
	if err != nil || !json.Valid(settings) || !strings.Contains(string(settings), `"seed":1`) {
		t.Errorf("settings in the file: %q (%v)", settings, err)
	}
	dump := golden.Load(t, job.GetDump())
	if got := dump["video_uint8_FHWC"].Shape; len(got) != 4 || got[0] != 5 || got[1] != 64 {
		t.Errorf("dumped frames %v", got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("files %v (%v), want three", files, err)
	}
}

// TestBadJobs sees one class and one line for each bad input, and nothing left.
func TestBadJobs(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(j *wanrunv1.Job)
		code   ends.Code
		words  string
	}{
		{"no picture", func(j *wanrunv1.Job) { j.Image = "missing.png" }, ends.BadInput, "missing.png"},
		{"no checkpoint", func(j *wanrunv1.Job) { j.CkptDir = "missing" }, ends.BadInput, "missing"},
		{"other task", func(j *wanrunv1.Job) { j.CkptDir = "../../testdata/ckpt_t2v" }, ends.BadInput, "t2v checkpoint"},
		{"no folder", func(j *wanrunv1.Job) { j.Output = "missing/out.mp4" }, ends.OutputLost, "missing"},
		{"frames", func(j *wanrunv1.Job) { j.FrameNum = 6 }, ends.BadInput, "5"},
		{"dtype", func(j *wanrunv1.Job) { j.Dtype = "int4" }, ends.BadInput, "int4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			job := demoJob(dir)
			tc.change(job)
			l, err := run(t, job, nil)
			if got := ends.CodeOf(err); got != tc.code || ends.Code(l.report.GetExitCode()) != tc.code {
				t.Errorf("ended as %v, reported %v, want %v: %v", got, l.report.GetExitClass(), tc.code, err)
			}
			if text := l.report.GetError(); !strings.Contains(text, tc.words) || strings.Contains(text, "\n") {
				t.Errorf("error %q, want one line with %q", text, tc.words)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("left behind %v (%v)", files, err)
			}
		})
	}
}

// TestAbort stops a run in each phase, as Ctrl-C does.
func TestAbort(t *testing.T) {
	for _, phase := range []string{"text_encode", "vae_encode", "denoise", "vae_decode"} {
		t.Run(phase, func(t *testing.T) {
			var dir string
			var l *launcher
			var err error
			// A short phase's message may be replaced by the next one's before it is sent.
			for seen, try := false, 0; !seen && try < 10; try++ {
				dir = t.TempDir()
				l, err = run(t, demoJob(dir), func(s *control.Server, p *wanrunv1.Progress) {
					if p.GetPhase() == phase {
						seen = true
						go s.Abort(ends.Interrupted, "stopped by Ctrl-C")
					}
				})
			}
			if ends.CodeOf(err) != ends.Interrupted || l.report.GetError() != "stopped by Ctrl-C" {
				t.Errorf("ended with %v, reported %v", err, l.report)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
				t.Errorf("left behind %v (%v)", files, err)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	const status = "Name:\tx\nVmHWM:\t  123 kB\nVmRSS:\t45 kB\nBad:\n"
	for key, want := range map[string]int64{"VmHWM:": 123 << 10, "VmRSS:": 45 << 10, "VmSwap:": 0, "Bad:": 0} {
		if got := parseStatus([]byte(status), key); got != want {
			t.Errorf("parseStatus(%q) = %d, want %d", key, got, want)
		}
	}
}

// runRanks runs the ranks of a job as goroutines that talk as processes do.
func runRanks(t *testing.T, job *wanrunv1.Job, size int) (*ranksLauncher, []error) {
	t.Helper()
	return runRanksWith(t, job, size, nil)
}

func runRanksWith(t *testing.T, job *wanrunv1.Job, size int, onProgress func(*control.Server, int, *wanrunv1.Progress)) (*ranksLauncher, []error) {
	t.Helper()
	return runRanksAttempt(t, job, size, 0, onProgress)
}

func runRanksAttempt(t *testing.T, job *wanrunv1.Job, size, attempt int, onProgress func(*control.Server, int, *wanrunv1.Progress)) (*ranksLauncher, []error) {
	t.Helper()
	job.World = &wanrunv1.World{Secret: []byte("sixteen bytes and more"), Nodes: make([]int32, size), Attempt: int32(attempt)}
	l := &ranksLauncher{job: job, onProgress: onProgress, reports: make([]*wanrunv1.Report, size), detached: make(chan error, size)}
	server, err := control.Serve(t.TempDir(), size, "test", l)
	if err != nil {
		t.Fatal(err)
	}
	l.server = server
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	errs := make([]error, size)
	var wg sync.WaitGroup
	for rank := range size {
		wg.Go(func() {
			errs[rank] = Run(t.Context(), Config{Socket: server.Socket(), Token: server.Token(), Rank: rank, Size: size, Build: "test",
				Log: zaptest.NewLogger(t)})
		})
	}
	wg.Wait()
	return l, errs
}

type ranksLauncher struct {
	job      *wanrunv1.Job
	server   *control.Server
	reports  []*wanrunv1.Report
	detached chan error

	onProgress func(*control.Server, int, *wanrunv1.Progress)
}

func (l *ranksLauncher) Attached(*wanrunv1.Hello) (*wanrunv1.Job, error) { return l.job, nil }
func (l *ranksLauncher) Progress(rank int, p *wanrunv1.Progress) {
	if l.onProgress != nil {
		l.onProgress(l.server, rank, p)
	}
}
func (l *ranksLauncher) Report(rank int, r *wanrunv1.Report) {
	l.reports[rank] = r
	if r.GetExitCode() != 0 && r.GetExitCode() != int32(ends.Retry) { // a group dies together, but drains each for itself
		go l.server.Abort(ends.PeerLost, fmt.Sprintf("rank %d failed", rank))
	}
}
func (l *ranksLauncher) Detached(_ int, err error) { l.detached <- err }
func (l *ranksLauncher) Refused(error)             {}

// TestRanks sees that four ranks make the video of one, frame for frame, however the
// weights are kept, and that host memory is counted by the ranks that own it.
func TestRanks(t *testing.T) {
	dir := t.TempDir()
	one := demoJob(dir)
	one.Dump = filepath.Join(dir, "one.safetensors")
	if _, err := run(t, one, nil); err != nil {
		t.Fatal(err)
	}
	const frames = "video_uint8_FHWC"
	want := golden.Load(t, one.GetDump())[frames].U8
	for i, tc := range []struct {
		name     string
		change   func(*wanrunv1.Job)
		owners   string // ranks with weights in host memory
		branches string
		notice   string // of each rank
	}{
		{"sharded, at rest in host memory", func(j *wanrunv1.Job) { j.Cfg, j.Ulysses, j.DitFsdp, j.T5Fsdp, j.OffloadDit = 2, 2, true, true, "host" }, "1111", "", ""},
		{"whole, once in host memory", func(j *wanrunv1.Job) { j.Ulysses, j.OffloadDit, j.CfgBranches = 4, "host", "apart" }, "1000", "apart", ""},
		{"sharded in pairs, at rest in host memory", func(j *wanrunv1.Job) {
			j.Ulysses, j.DitFsdp, j.FsdpSize, j.OffloadDit, j.CfgBranches = 4, true, 2, "host", "together"
		}, "1100", "together", ""},
		{"branches as memory allows", func(j *wanrunv1.Job) { j.Ulysses, j.DitFsdp, j.FsdpSize, j.CfgBranches = 4, true, 4, "auto" }, "0000", "together", "branches of guidance together: the ranks will take"},
		{"from the file", func(j *wanrunv1.Job) { j.Ulysses, j.OffloadDit = 4, "file" }, "0000", "together", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			many := demoJob(dir)
			many.Output, many.Dump = filepath.Join(dir, fmt.Sprintf("%d.mp4", i)), filepath.Join(dir, fmt.Sprintf("%d.safetensors", i))
			tc.change(many)
			l, errs := runRanks(t, many, 4)
			owners := ""
			for rank, err := range errs {
				r := l.reports[rank]
				if err != nil || r.GetExitCode() != 0 || r.GetUsedBytes() == 0 || r.GetUsedBytes() != r.GetPredictedBytes() || r.GetUsedHostBytes() != r.GetPredictedHostBytes() {
					t.Fatalf("rank %d: %v; report %v", rank, err, r)
				}
				if (r.GetOutput() != "") != (rank == 0) {
					t.Errorf("rank %d wrote %q", rank, r.GetOutput())
				}
				owners += map[bool]string{true: "1", false: "0"}[r.GetUsedHostBytes() > 0]
				if notices := strings.Join(r.GetNotices(), "; "); r.GetCfgBranches() != tc.branches || !strings.Contains(notices, tc.notice) || strings.Contains(notices, "branches") != (tc.notice != "") {
					t.Errorf("rank %d: branches %q, notices %q, want %q and %q", rank, r.GetCfgBranches(), notices, tc.branches, tc.notice)
				}
			}
			if owners != tc.owners {
				t.Errorf("ranks with weights in host memory: %s, want %s", owners, tc.owners)
			}
			if got := golden.Load(t, many.GetDump())[frames].U8; string(got) != string(want) {
				t.Error("four ranks made other frames than one")
			}
		})
	}
}

// TestBadSpread: a job whose ranks cannot be arranged as it says is refused.
func TestBadSpread(t *testing.T) {
	for _, tc := range []struct {
		want   string
		change func(*wanrunv1.Job)
	}{
		{"a job for 4 ranks", func(j *wanrunv1.Job) { j.Ulysses = 4 }},
		{"over groups of 2 ranks", func(j *wanrunv1.Job) { j.FsdpSize = 2 }},
		{"over groups of -1 ranks", func(j *wanrunv1.Job) { j.FsdpSize = -1 }},
		{`branches of guidance run "twice"`, func(j *wanrunv1.Job) { j.CfgBranches = "twice" }},
		{`place of rest "shelf"`, func(j *wanrunv1.Job) { j.OffloadDit = "shelf" }},
	} {
		job := demoJob(t.TempDir())
		tc.change(job)
		if _, err := run(t, job, nil); ends.CodeOf(err) != ends.BadInput || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
}

// TestRankFails sees that the failure of one rank is told by it alone, and that
// the others name it.
func TestRankFails(t *testing.T) {
	job := demoJob(t.TempDir())
	job.Ulysses = 2
	job.Output = "missing/out.mp4" // which the first rank alone opens
	l, errs := runRanks(t, job, 2)
	if got := ends.CodeOf(errs[0]); got != ends.OutputLost {
		t.Errorf("rank 0 ended as %v: %v", got, errs[0])
	}
	if got := ends.CodeOf(errs[1]); got != ends.PeerLost || l.reports[1].GetError() != "rank 0 failed" {
		t.Errorf("rank 1 ended as %v: %v (%v)", got, errs[1], l.reports[1])
	}
}
