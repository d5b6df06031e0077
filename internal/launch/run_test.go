package launch

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/node/local"
	"github.com/wanrun/wanrun/internal/output"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// watcher is a renderer, and a Watcher, that keeps what it is shown.
type watcher struct {
	mu         sync.Mutex // lines come from several goroutines
	lines      []string
	progress   []*wanrunv1.Progress
	onProgress func()
	onLine     func(string)
	onRankLine func(rank int, text string)
}

// shown is the watcher as a renderer.
type shown struct{ *watcher }

func (w shown) Progress(_ int, p *wanrunv1.Progress) {
	w.progress = append(w.progress, p)
	if w.onProgress != nil {
		w.onProgress()
	}
}
func (w shown) Clear()           {}
func (w shown) Log() *zap.Logger { return zap.NewNop() }

// Line is a rank's.
func (w *watcher) Line(l node.Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, l.Stream+": "+l.Text)
	if w.onRankLine != nil {
		w.onRankLine(l.Rank, l.Text)
	}
	if w.onLine != nil {
		w.onLine(l.Text)
	}
}
func (w *watcher) Event(group.Event)                                {}
func (w *watcher) Progress(time.Time, int, int, *wanrunv1.Progress) {}
func (w *watcher) Sample(node.Sample)                               {}
func (w *watcher) Action(time.Time, group.Action)                   {}

// fakeOptions are what tests vary.
type fakeOptions struct {
	Worker, TempDir string
	Env             []string
	Grace           time.Duration
	Ranks           int
	Signals         <-chan os.Signal
	Output          string
	Root            fs.FS
}

// run runs fake workers of one node.
func (o fakeOptions) run(w *watcher) Result {
	rules := group.Defaults(group.Ours)
	rules.Grace = o.Grace
	console := output.NewConsole(output.Look{Stdout: output.Screen{W: io.Discard}, Stderr: output.Screen{W: io.Discard}, Size: o.Ranks, Now: time.Now})
	defer console.Close(time.Second)
	return Run(Options{Rules: rules, Job: &wanrunv1.Job{Prompt: "p", Output: o.Output, Seed: 42}, Ranks: o.Ranks, Signals: o.Signals, Now: time.Now,
		Show: shown{w}, Console: console, Watch: w, Log: zap.NewNop(),
		Node: func(sink node.Sink) (Node, error) {
			return local.New(local.Options{Path: o.Worker, Args: []string{"worker"}, Env: o.Env, Build: build, TempDir: o.TempDir, Exe: "/proc/self/exe",
				Root: o.Root, Now: time.Now, Say: func(string) {}}, sink)
		}})
}

// runFake runs a fake worker; change alters the options before.
func runFake(t *testing.T, mode string, w *watcher, change func(*fakeOptions)) Result {
	t.Helper()
	dir, err := os.MkdirTemp("", "l") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	outputs := t.TempDir()
	o := fakeOptions{Worker: self, TempDir: dir, Env: append(os.Environ(), "LAUNCH_TEST="+mode), Grace: 20 * time.Second, Ranks: 1,
		Output: filepath.Join(outputs, "o.mp4"), Root: os.DirFS("/")}
	if change != nil {
		change(&o)
	}
	start := time.Now()
	r := o.run(w)
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
		{"wild-code", ends.Bug, "denoise", "x (in denoise (3 of 12))"},
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
			r := runFake(t, tc.mode, w, func(o *fakeOptions) { o.Signals, o.Grace = signals, tc.grace })
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
	r := runFake(t, "mute", &watcher{}, func(o *fakeOptions) { o.Signals, o.Grace = signals, 10*time.Millisecond })
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
			r := runFake(t, mode, &watcher{}, func(o *fakeOptions) { o.Grace = 0 })
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

// TestLastWords: what a worker said right before it was killed is shown, whole.
func TestLastWords(t *testing.T) {
	w := &watcher{}
	r := runFake(t, "burst", w, nil)
	if r.Code != 137 || len(w.lines) != 2000 || w.lines[1999] != "stdout: line 1999" {
		t.Errorf("code %d, %d lines", r.Code, len(w.lines))
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
			r := runFake(t, "happy", &watcher{}, func(o *fakeOptions) { o.Worker, o.Ranks = path, ranks })
			if r.Code != want || len(r.Ranks) != ranks {
				t.Errorf("%s on %d ranks: code %d (%s), want %d", path, ranks, r.Code, r.Error, want)
			}
		}
	}
	r := runFake(t, "happy", &watcher{}, func(o *fakeOptions) { o.TempDir = filepath.Join(dir, "none") })
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
	var workers []int
	for _, guard := range workersOf(cmd.Process.Pid) {
		workers = append(workers, workersOf(guard)...)
	}
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
	if !eventually(func() bool { left, err := os.ReadDir(dir); return err == nil && len(left) == 0 }) {
		t.Error("a folder is left behind")
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
