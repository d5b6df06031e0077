package launch

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/internal/ends"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// watcher is a renderer that keeps what it is shown.
type watcher struct {
	lines      []string
	progress   []*wanrunv1.Progress
	onProgress func()
	onLine     func(string)
	onRankLine func(rank int, text string)
}

func (w *watcher) Progress(_ int, p *wanrunv1.Progress) {
	w.progress = append(w.progress, p)
	if w.onProgress != nil {
		w.onProgress()
	}
}
func (w *watcher) Line(rank int, stream, text string) {
	w.lines = append(w.lines, stream+": "+text)
	if w.onRankLine != nil {
		w.onRankLine(rank, text)
	}
	if w.onLine != nil {
		w.onLine(text)
	}
}
func (w *watcher) Clear()           {}
func (w *watcher) Log() *zap.Logger { return zap.NewNop() }

// runFake runs a fake worker; change alters the options before.
func runFake(t *testing.T, mode string, w *watcher, change func(*Options)) Result {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	outputs := t.TempDir()
	o := Options{Job: &wanrunv1.Job{Prompt: "p", Output: filepath.Join(outputs, "o.mp4"), Seed: 42}, Worker: self, Build: build, TempDir: dir,
		Env: append(os.Environ(), "LAUNCH_TEST="+mode), Grace: 20 * time.Second, Now: time.Now, Root: os.DirFS("/"), Show: w, Log: zap.NewNop()}
	if change != nil {
		change(&o)
	}
	start := time.Now()
	r := Run(o)
	for _, d := range []string{dir, outputs} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind %v (%v)", mode, left, err)
		}
	}
	for _, rank := range r.Ranks {
		if rank.Pid > 0 && alive(rank.Pid) {
			t.Errorf("%s: process %d of rank %d is still there", mode, rank.Pid, rank.Rank)
		}
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("%s: took %v", mode, took)
	}
	return r
}

// alive says whether a process is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestHappyRun(t *testing.T) {
	w := &watcher{}
	r := runFake(t, "happy", w, nil)
	if r.Code != ends.Done || r.Error != "" || r.Phase != "" || r.Ranks[0].Ended != "exit code 0" || filepath.Base(r.Report().GetOutput()) != "o.mp4" || r.Report().GetSeed() != 42 {
		t.Errorf("result %+v", r)
	}
	if len(w.progress) != 1 || w.progress[0].GetDone() != 3 || len(w.lines) != 0 {
		t.Errorf("progress %v, lines %q", w.progress, w.lines)
	}
}

// TestEnds is the table of how workers end, and what is made of it.
func TestEnds(t *testing.T) {
	for _, tc := range []struct {
		mode  string
		code  ends.Code
		phase string
		words string
	}{
		{"bad-input", ends.BadInput, "tokenize", `picture "a.jpg": truncated; at byte 7\x1b[2J (in tokenize)`},
		{"wild-code", ends.Bug, "denoise", "x (in denoise)"},
		{"liar", ends.Bug, "denoise", "reported success and then ended with exit code 5"},
		{"panic", ends.Bug, "denoise", "exit code 2 and without a report in denoise (3 of 12)"},
		{"terminated", 143, "denoise", "killed by SIGTERM in denoise (3 of 12)"},
		{"killed-writing", 137, "denoise", "killed by SIGKILL"},
		{"killed", 137, "denoise", "killed by SIGKILL in denoise (3 of 12)"},
		{"killed-early", 137, "", "killed by SIGKILL: "},
		{"exit0", ends.Bug, "", "exit code 0 and without a report"},
		{"exit3", ends.Bug, "", "exit code 3 and without a report"},
		{"wrong-build", ends.CannotStart, "", `worker build "another", launcher build "test-build"`},
		{"wrong-token", ends.CannotStart, "", "wrong token"},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			t.Parallel()
			w := &watcher{}
			r := runFake(t, tc.mode, w, nil)
			if r.Code != tc.code || r.Phase != tc.phase || !strings.Contains(r.Error, tc.words) {
				t.Errorf("code %d in %q: %q; want %d in %q with %q; first lines %q", r.Code, r.Phase, r.Error, tc.code, tc.phase, tc.words, w.lines[:min(3, len(w.lines))])
			}
			if strings.ContainsAny(r.Error, "\n\x1b") {
				t.Errorf("not one plain line: %q", r.Error)
			}
		})
	}
}

// TestStops: the first signal asks, the grace's end tells, the second signal kills.
func TestStops(t *testing.T) {
	for _, tc := range []struct {
		mode    string
		signals []syscall.Signal
		grace   time.Duration
		code    ends.Code
		ended   string
	}{
		{"obedient", []syscall.Signal{syscall.SIGINT}, time.Minute, 130, "exit code 130"},
		{"obedient", []syscall.Signal{syscall.SIGTERM}, time.Minute, 143, "exit code 143"},
		{"obedient", []syscall.Signal{syscall.SIGHUP}, time.Minute, 129, "exit code 129"},
		{"terminable", []syscall.Signal{syscall.SIGINT}, 50 * time.Millisecond, 130, "SIGTERM"},
		{"deaf", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, time.Minute, 130, "SIGKILL"},
		{"deaf", []syscall.Signal{syscall.SIGTERM}, 50 * time.Millisecond, 143, "SIGKILL"},
	} {
		t.Run(fmt.Sprintf("%s %v", tc.mode, tc.signals), func(t *testing.T) {
			t.Parallel()
			signals := make(chan os.Signal, 4)
			send := func() {
				for _, sig := range tc.signals {
					signals <- sig
				}
			}
			w := &watcher{onProgress: send}
			if tc.mode == "deaf" { // it says when it is
				w = &watcher{onLine: func(string) { send() }}
			}
			r := runFake(t, tc.mode, w, func(o *Options) { o.Signals, o.Grace = signals, tc.grace })
			if r.Code != tc.code || r.Ranks[0].Ended != tc.ended || !strings.Contains(r.Error, "stopped by SIG") {
				t.Errorf("code %d, ended by %s, %q; want %d by %s", r.Code, r.Ranks[0].Ended, r.Error, tc.code, tc.ended)
			}
		})
	}
}

// TestStopBeforeHello: a worker that has not attached yet is stopped too, and gets no job.
func TestStopBeforeHello(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGINT
	r := runFake(t, "mute", &watcher{}, func(o *Options) { o.Signals, o.Grace = signals, 10*time.Millisecond })
	if r.Code != ends.Interrupted {
		t.Errorf("code %d: %s", r.Code, r.Error)
	}
}

// TestStuckWorkers: what does not end by itself is ended.
func TestStuckWorkers(t *testing.T) {
	for mode, want := range map[string]struct {
		code  ends.Code
		words string
	}{
		"lingering": {ends.Hang, "did not end after its report"},
		"lost":      {ends.PeerLost, "closed its stream without a report in denoise (3 of 12); its process did not end and was killed"},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := runFake(t, mode, &watcher{}, func(o *Options) { o.Grace = 0 })
			if r.Code != want.code || !strings.Contains(r.Error, want.words) {
				t.Errorf("code %d: %q, want %d with %q", r.Code, r.Error, want.code, want.words)
			}
		})
	}
}

// TestNothingStays: what a worker left running in its group ends with it, although it
// holds the output open.
func TestNothingStays(t *testing.T) {
	w := &watcher{}
	r := runFake(t, "grandchild", w, nil)
	if r.Code != ends.Done {
		t.Errorf("code %d: %s", r.Code, r.Error)
	}
	if len(w.lines) != 1 {
		t.Fatalf("lines %q", w.lines)
	}
	pid, err := strconv.Atoi(strings.TrimPrefix(w.lines[0], "stdout: grandchild "))
	if err != nil {
		t.Fatal(err)
	}
	if !eventually(func() bool { return !alive(pid) }) {
		t.Errorf("grandchild %d lives on", pid)
	}
}

func eventually(ok func() bool) bool {
	for range 200 {
		if ok() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestOutputIsShown(t *testing.T) {
	w := &watcher{}
	if r := runFake(t, "noisy", w, nil); r.Code != ends.Done {
		t.Fatalf("code %d: %s", r.Code, r.Error)
	}
	all := strings.Join(w.lines, "\n")
	for _, want := range []string{"stdout: one", "stdout: t    b", `stdout: two \x1b[31mred\x1b[0m`, `stdout: \xff\xfe`, "stdout: last without end", "stderr: to stderr", strings.Repeat("红", 100)} {
		if !strings.Contains(all, want) {
			t.Errorf("no line %q", want)
		}
	}
	numA, numHan := strings.Count(all, "a")-strings.Count("last without end", "a"), strings.Count(all, "红")
	if numA != 3*maxLine || numHan != maxLine || strings.Contains(all, "\ufffd") {
		t.Errorf("of long lines %d and %d letters came, want %d and %d", numA, numHan, 3*maxLine, maxLine)
	}
}

// TestLastWords: what a worker said right before it was killed is shown, whole.
func TestLastWords(t *testing.T) {
	w := &watcher{}
	r := runFake(t, "burst", w, nil)
	if r.Code != 137 || len(w.lines) != 2000 || w.lines[1999] != "stdout: line 1999" {
		t.Errorf("code %d, %d lines", r.Code, len(w.lines))
	}
}

// TestOOMKill: with counters that say so, a SIGKILL is the kernel's for want of memory.
func TestOOMKill(t *testing.T) {
	counter := fstest.MapFS{"proc/self/cgroup": {Data: []byte("0::/job\n")}, "sys/fs/cgroup/job/memory.max": {Data: []byte("201326592\n")},
		"sys/fs/cgroup/job/memory.events": {Data: []byte("low 0\noom 1\noom_kill 4\n")}}
	kill := func() {
		counter["sys/fs/cgroup/job/memory.events"] = &fstest.MapFile{Data: []byte("low 0\noom 2\noom_kill 5\n")}
	}
	r := runFake(t, "killed", &watcher{onProgress: kill}, func(o *Options) { o.Root = counter })
	if r.Code != ends.HostMemory || !strings.Contains(r.Error, "out-of-memory killer did it: the control group may use 192 MiB") || !strings.Contains(r.Error, "it last used 2.00 MiB") {
		t.Errorf("code %d: %s", r.Code, r.Error)
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/nowhere/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]ends.Code{script: ends.NotFound, text: ends.NotExecutable} {
		for _, ranks := range []int{1, 3} {
			r := runFake(t, "happy", &watcher{}, func(o *Options) { o.Worker, o.Ranks = path, ranks })
			if r.Code != want || len(r.Ranks) != ranks {
				t.Errorf("%s on %d ranks: code %d (%s), want %d", path, ranks, r.Code, r.Error, want)
			}
		}
	}
	r := runFake(t, "happy", &watcher{}, func(o *Options) { o.TempDir = filepath.Join(dir, "none") })
	// The helper saw nothing left in its own folder, which was not used.
	if r.Code != ends.CannotStart {
		t.Errorf("no folder for the socket: code %d (%s)", r.Code, r.Error)
	}
}

// TestLauncherKilled: no worker outlives a launcher that is killed, and no socket stays.
func TestLauncherKilled(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LAUNCH_TEST=launcher", "LAUNCH_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 3 {
		if !lines.Scan() || lines.Text() != "worker runs" {
			t.Fatalf("launcher said %q", lines.Text())
		}
	}
	workers := workersOf(cmd.Process.Pid)
	if len(workers) != 3 {
		t.Fatalf("launcher has the workers %v", workers)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	for _, pid := range workers {
		if !eventually(func() bool { return !alive(pid) }) {
			t.Errorf("worker %d outlives its launcher", pid)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// workersOf lists the children of a process.
func workersOf(parent int) []int {
	var pids []int
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
