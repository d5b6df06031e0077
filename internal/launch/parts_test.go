package launch

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/task"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func TestFindWorker(t *testing.T) {
	dir, onPath := t.TempDir(), t.TempDir()
	write := func(path string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	self := filepath.Join(dir, "wanrun")
	t.Setenv("PATH", onPath)
	check := func(name, given, want string, code ends.Code) {
		t.Helper()
		got, err := FindWorker(given, self)
		if ends.CodeOf(err) != code || (code == ends.Done && got != want) {
			t.Errorf("%s: %q, %v (class %v), want %q, class %v", name, got, err, ends.CodeOf(err), want, code)
		}
	}
	check("nowhere", "", "", ends.NotFound)
	inPath := write(filepath.Join(onPath, WorkerName), 0o755)
	check("in PATH", "", inPath, ends.Done)
	beside := write(filepath.Join(dir, WorkerName), 0o755)
	check("beside goes first", "", beside, ends.Done)
	check("given", inPath, inPath, ends.Done)
	check("given, not there", filepath.Join(dir, "none"), "", ends.NotFound)
	check("given, a folder", dir, "", ends.NotExecutable)
	check("given, no program", write(filepath.Join(dir, "text"), 0o644), "", ends.NotExecutable)
	if err := os.Chmod(beside, 0o644); err != nil {
		t.Fatal(err)
	}
	check("beside, no program", "", "", ends.NotExecutable)
}

func progress(phase string, done, total int32, elapsed float64) *wanrunv1.Progress {
	return &wanrunv1.Progress{Phase: phase, Done: done, Total: total, ElapsedSeconds: elapsed, DeviceBytes: 3 << 20, RssBytes: 200 << 20}
}

// conversation is what a short run sends, with some nonsense.
func conversation() []*wanrunv1.Progress {
	return []*wanrunv1.Progress{
		progress("tokenize", 0, 1, 0), progress("tokenize", 1, 1, 0.1),
		progress("denoise", 0, 12, 0.5), progress("denoise", 1, 12, 2.5), progress("denoise", 3, 12, 6.5), progress("denoise", 4, 12, 8.5), progress("denoise", 12, 12, 24.5),
		progress("vae_decode", 1, 4, 25), // its other messages were left out
		progress("vae\x1b[2J", 9, 3, 20), {Phase: strings.Repeat("x", 100), Done: -4, Total: -1, ElapsedSeconds: math.NaN(), RssBytes: -1},
	}
}

// rendered returns a renderer, and what it has shown, after which it is over.
func rendered(look Look) (Renderer, func() string) {
	var out bytes.Buffer
	console := output.NewConsole(output.Look{Stdout: output.Screen{W: io.Discard}, Stderr: output.Screen{W: &out}, Now: time.Now})
	return NewRenderer(console, look, nil), func() string {
		console.Close(10 * time.Second)
		return out.String()
	}
}

func TestPlainRenderer(t *testing.T) {
	r, out := rendered(Look{Format: "plain"})
	r.Log().Info("no --ckpt-dir")
	for _, p := range conversation() {
		r.Progress(0, p)
	}
	r.Log().Warn("hot")
	want := `wanrun: no --ckpt-dir
tokenize      done in 0.10 s, device 3.00 MiB, RSS 200 MiB
denoise       3/12, 2.00 s/step, ETA 18.0 s, device 3.00 MiB, RSS 200 MiB
denoise       12/12, 2.00 s/step, done in 24.0 s, device 3.00 MiB, RSS 200 MiB
vae_decode    4/4, 0.12 s/latent frame, done in 0.50 s, device 3.00 MiB, RSS 200 MiB
vae\x1b[2J    3/3, done in 0.00 s, device 3.00 MiB, RSS 200 MiB
wanrun: warn: hot
`
	if d := cmp.Diff(want, out()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestSeveralRanksShown: rank 0's progress is shown, with the most memory of any rank;
// JSON has every rank's own.
func TestSeveralRanksShown(t *testing.T) {
	messages := func(r Renderer) {
		r.Progress(0, progress("denoise", 0, 4, 1))
		big := progress("denoise", 1, 4, 2)
		big.DeviceBytes, big.RssBytes = 7<<20, 900<<20
		r.Progress(3, big)
		r.Progress(1, progress("text_encode", 1, 1, 1)) // behind the others
		r.Progress(0, progress("denoise", 4, 4, 9))
	}
	r, out := rendered(Look{Format: "plain"})
	messages(r)
	want := "denoise       4/4, 2.00 s/step, done in 8.00 s, device 7.00 MiB, RSS 900 MiB\n"
	if d := cmp.Diff(want, out()); d != "" {
		t.Errorf("plain (-want +got)\n%s", d)
	}
	drawn := &drawing{}
	messages(drawn.terminal(100))
	bar := "denoise       [                              ] 0/4, device 3.00 MiB, RSS 200 MiB"
	if d := cmp.Diff([]string{"bar: " + bar, "bar: ", strings.TrimSpace(want)}, drawn.all); d != "" {
		t.Errorf("terminal (-want +got)\n%s", d)
	}
	r, out = rendered(Look{Format: "json"})
	messages(r)
	all := out()
	for _, want := range []string{`"rank":3,"phase":"denoise","done":1`, `"rank":1,"phase":"text_encode"`, `"rank":0,"phase":"denoise","done":4,"total":4,"elapsed_seconds":9,"device_bytes":3145728`} {
		if !strings.Contains(all, want) {
			t.Errorf("JSON lacks %s:\n%s", want, all)
		}
	}
}

// drawing keeps what a terminal is told: lines, and bars.
type drawing struct{ all []string }

func (d *drawing) Write(p []byte) (int, error) {
	d.all = append(d.all, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (d *drawing) terminal(width int) *terminal {
	return &terminal{w: d, status: func(bar string) { d.all = append(d.all, "bar: "+bar) }, width: func() int { return width }}
}

func TestTerminalRenderer(t *testing.T) {
	drawn := &drawing{}
	r := drawn.terminal(100)
	for _, p := range conversation()[:5] {
		r.Progress(0, p)
	}
	r.width = func() int { return 40 }
	r.Progress(0, conversation()[5])
	r.Clear()
	want := []string{
		"bar: tokenize      device 3.00 MiB, RSS 200 MiB",
		"bar: ",
		"tokenize      done in 0.10 s, device 3.00 MiB, RSS 200 MiB",
		"bar: denoise       [                              ] 0/12, device 3.00 MiB, RSS 200 MiB",
		"bar: denoise       [==                            ] 1/12, 2.00 s/step, ETA 22.0 s, device 3.00 MiB, RSS ",
		"bar: denoise       [=======                       ] 3/12, 2.00 s/step, ETA 18.0 s, device 3.00 MiB, RSS ",
		"bar: denoise       4/12, 2.00 s/step, ETA 16",
		"bar: ",
	}
	if d := cmp.Diff(want, drawn.all); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	for _, line := range drawn.all {
		if bar, ok := strings.CutPrefix(line, "bar: "); ok && utf8.RuneCountInString(bar) >= 100 {
			t.Errorf("a bar of %d columns wraps", utf8.RuneCountInString(bar))
		}
	}
}

func TestJSONRenderer(t *testing.T) {
	r, out := rendered(Look{Format: "json"})
	r.Log().Info("hello")
	for _, p := range conversation() {
		r.Progress(0, p)
	}
	lines := strings.Split(strings.TrimSpace(out()), "\n")
	if len(lines) != len(conversation())+1 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	var m struct {
		Msg, Phase  string
		Done, Total int
		ETA         float64 `json:"eta_seconds"`
	}
	if err := json.Unmarshal([]byte(lines[5]), &m); err != nil || m.Msg != "progress" || m.Phase != "denoise" || m.Done != 3 || m.ETA != 18 {
		t.Errorf("%s gives %+v, %v", lines[5], m, err)
	}
}

func TestQuiet(t *testing.T) {
	for _, format := range []string{"plain", "terminal", "json"} {
		r, out := rendered(Look{Format: format, Quiet: true, Width: func() int { return 80 }})
		r.Log().Info("a notice")
		for _, p := range conversation() {
			r.Progress(0, p)
		}
		r.Clear()
		r.Log().Error("an error")
		if lines := strings.Split(strings.TrimSpace(out()), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "an error") {
			t.Errorf("%s printed %q, want the error alone", format, lines)
		}
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 1536: "1.50 KiB", 10 << 20: "10.0 MiB", 123 << 30: "123 GiB", math.MaxInt64: "8.00 EiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("formatBytes(%d) = %q, want %q", n, got, want)
		}
	}
	for s, want := range map[float64]string{0: "0.00 s", 2.345: "2.35 s", 23.45: "23.4 s", 59.9: "59.9 s", 61: "1m1s", 7322.4: "2h2m2s", -1: "?", math.Inf(1): "?"} {
		if got := formatSeconds(s); got != want {
			t.Errorf("formatSeconds(%v) = %q, want %q", s, got, want)
		}
	}
}

func someSettings() settings.Settings {
	return settings.Settings{Task: task.I2V14B, CkptDir: "/models/Wan2.1-I2V/", Prompt: "p\x1b", Negative: "n", Image: "/home/me/in.jpg",
		MaxArea: 4096, Frames: 13, FPS: 8, Steps: 12, Solver: "unipc", Shift: 3, Guide: 3, Seed: 42, Noise: "torch-cuda:h100", DType: "fp32",
		Device: "cpu", Nproc: 1, CFG: 1, Ring: 1, Ulysses: 1, OffloadDiT: "device", Output: "o.mp4", Threads: 2, Encoder: "auto", FFmpeg: "ff", ContactSheet: "c.png", Dump: "d.safetensors",
		Values: []settings.Value{{Name: "steps", Text: "12", From: "--steps"}}, Notices: []string{"a notice"}}
}

// TestJob sees that each field of the job is set from the settings.
func TestJob(t *testing.T) {
	s := someSettings()
	s.DiTFSDP, s.T5FSDP, s.CompatPadding, s.FSDPSize, s.CFGBranches = true, true, true, 2, settings.Auto
	s.FSDPSize, s.CFGBranches = 2, settings.Apart
	s.RunDir, s.SaveEvery, s.KeepRunDir, s.MemLimit = "run", 2, true, 1<<30
	s.Size, s.LastImage, s.ExifOrient, s.Compat, s.ScanWeights = task.Size{Width: 64, Height: 48}, "last.png", true, true, true
	job, err := Job(s, "b1")
	if err != nil {
		t.Fatal(err)
	}
	fields := job.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		switch fields.Get(i).Name() {
		case "world", "resume", "resume_args": // of the node's agent, and of `wanrun resume`
			continue
		}
		if !job.ProtoReflect().Has(fields.Get(i)) {
			t.Errorf("%s is not set", fields.Get(i).Name())
		}
	}
	var stored Stored
	if err := json.Unmarshal([]byte(job.GetSettingsJson()), &stored); err != nil {
		t.Fatal(err)
	}
	if stored.Checkpoint != "Wan2.1-I2V" || stored.Image != "in.jpg" || stored.Seed != 42 || stored.Build != "b1" || stored.Size != "64*48" || stored.Prompt != "p\x1b" {
		t.Errorf("stored %+v", stored)
	}
	if strings.Contains(job.GetSettingsJson(), "/home/me") {
		t.Error("the output tells the folders of the machine")
	}
	s.Prompt = strings.Repeat("红", settings.MaxPromptBytes/3)
	job, err = Job(s, "b1")
	if err != nil || len(job.GetSettingsJson()) > 2*maxStoredPrompt || job.GetPrompt() != s.Prompt || !utf8.ValidString(job.GetSettingsJson()) {
		t.Errorf("a long prompt stores %d bytes (%v)", len(job.GetSettingsJson()), err)
	}
}

func TestReportFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.json")
	good := Result{Started: time.Unix(0, 0).UTC(), Seconds: 3, Ranks: []RankResult{{Pid: 7, Ended: "exit code 0", Report: &wanrunv1.Report{
		Output: "o.mp4", OutputBytes: 31949, Width: 64, Height: 48, Frames: 13, Encoder: "builtin", Backend: "cpu", Seconds: 2.5, PredictedBytes: 10 << 20, UsedBytes: 10 << 20,
		RssPeakBytes: 99 << 20, Notices: []string{"from the worker"},
		Phases: []*wanrunv1.Phase{{Name: "denoise", Seconds: 2, PredictedBytes: map[string]int64{"weights": 1 << 20, "activations": 1 << 20},
			UsedBytes: map[string]int64{"weights": 1 << 20, "activations": 1 << 20}, RssPeakBytes: 99 << 20}, {Name: "write", Seconds: 0.25}}}}}}
	if err := CheckReport(path); err != nil {
		t.Fatal(err)
	}
	f := NewFile(good, someSettings(), "b1")
	if err := f.Write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back File
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(f, back); d != "" {
		t.Errorf("read back (-want +got)\n%s", d)
	}
	if back.Exit != (Exit{0, "done", "", "", nil}) || back.Output.FPS != 8 || back.Bytes != (Bytes{Predicted: 10 << 20, Used: 10 << 20, RSSPeak: 99 << 20}) ||
		len(back.Notices) != 2 || back.Settings["steps"].From != "--steps" || back.Ranks[0].Phases[0].Used["weights"] != 1<<20 {
		t.Errorf("report %s", data)
	}
	want := `o.mp4  64x48  13 frames  8 fps  builtin  31.2 KiB  seed 42
c.png  contact sheet
d.safetensors  dump

    phase  seconds  device planned  device used  RSS peak
  denoise     2.00        2.00 MiB     2.00 MiB  99.0 MiB
    write     0.25             0 B          0 B       0 B
      all     2.50        10.0 MiB     10.0 MiB  99.0 MiB
backend cpu
`
	if d := cmp.Diff(want, f.Summary()); d != "" {
		t.Errorf("summary (-want +got)\n%s", d)
	}

	died := Result{Code: ends.HostMemory, Error: "rank 0 was killed", Phase: "denoise", Ranks: []RankResult{{Pid: 7, Ended: "SIGKILL", Last: progress("denoise", 1, 2, 9)}}}
	for _, r := range []Result{died, {Code: ends.Usage, Error: "wrong flag"}} {
		f := NewFile(r, settings.Settings{}, "b1")
		if err := f.Write(path); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), r.Error) || !strings.Contains(string(data), r.Code.String()) || !strings.Contains(string(data), `"output": null`) {
			t.Errorf("%s (%v)", data, err)
		}
		if s := f.Summary(); s != "" {
			t.Errorf("summary of a run that failed: %q", s)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v (%v)", left, err)
	}
}

// TestReportOfSeveralRanks: all ranks are in the file; the summary has rank 0's times and
// the largest sizes.
func TestReportOfSeveralRanks(t *testing.T) {
	s := someSettings()
	s.World, s.Nproc, s.CFG, s.Ulysses, s.DiTFSDP, s.T5FSDP, s.OffloadDiT, s.FSDPSize = 4, 4, 2, 2, true, true, settings.OnHost, 2
	r := Result{Started: time.Unix(100, 0).UTC(), Seconds: 3}
	for rank := range 4 {
		n := int64(rank+1) << 20
		r.Ranks = append(r.Ranks, RankResult{Rank: rank, Pid: 7 + rank, Ended: "exit code 0", Last: progress("denoise", 2, 2, 9), LastAt: time.Unix(102, 0), Report: &wanrunv1.Report{
			Seconds: float64(rank) + 1, PredictedBytes: 2 * n, UsedBytes: n, PredictedHostBytes: 2 << 20, UsedHostBytes: 1 << 20, CfgBranches: "apart", RssPeakBytes: 3 * n, Notices: []string{"the same", "of rank " + string(rune('0'+rank))},
			Phases: []*wanrunv1.Phase{{Name: "denoise", Seconds: float64(rank) + 0.5, PredictedBytes: map[string]int64{"weights": n, "gathered": n}, UsedBytes: map[string]int64{"weights": n}, RssPeakBytes: n}}}})
	}
	f := NewFile(r, s, "b1")
	want := `4 ranks: cfg 2 x ulysses 2; DiT and T5 sharded over groups of 2, DiT at rest in host memory; branches of guidance apart; seconds are rank 0's, sizes the largest of any rank
    phase  seconds  device planned  device used  RSS peak
  denoise     0.50        8.00 MiB     4.00 MiB  4.00 MiB
      all     1.00        8.00 MiB     4.00 MiB  12.0 MiB
weights at rest in host memory, of all ranks: planned 8.00 MiB, used 4.00 MiB
`
	if d := cmp.Diff(want, f.Summary()); d != "" {
		t.Errorf("summary (-want +got)\n%s", d)
	}
	if f.Bytes.HostPredicted != 8<<20 || f.Bytes.HostUsed != 4<<20 || f.Ranks[1].Bytes.HostUsed != 1<<20 {
		t.Errorf("host weights %+v", f.Bytes)
	}
	if len(f.Ranks) != 4 || f.Ranks[3].Phases[0].Seconds != 3.5 || *f.Ranks[3].Last != (Last{"denoise", 2, 2, 2}) || len(f.Notices) != 6 ||
		f.Plan != (Plan{Ranks: 4, CFG: 2, Ring: 1, Ulysses: 2, DiTFSDP: true, T5FSDP: true, FSDPSize: 2, OffloadDiT: "host", CFGBranches: "apart"}) {
		t.Errorf("report %+v", f)
	}

	two := 2
	r.Failed, r.Code, r.Error = &two, ends.Bug, "rank 2: it broke"
	r.Ranks[2].Report = &wanrunv1.Report{ExitCode: 70, Error: "it broke", Phase: "denoise"}
	data, err := json.Marshal(NewFile(r, s, "b1"))
	if err != nil || !strings.Contains(string(data), `"rank":2},"output"`) || !strings.Contains(string(data), `"error":"it broke"`) {
		t.Errorf("report of a failure (%v): %s", err, data)
	}
}

func TestReportCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none", "r.json"), dir} {
		if err := CheckReport(path); ends.CodeOf(err) != ends.OutputLost {
			t.Errorf("check %s: %v", path, err)
		}
		if err := (File{}).Write(path); ends.CodeOf(err) != ends.OutputLost {
			t.Errorf("write %s: %v", path, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}
