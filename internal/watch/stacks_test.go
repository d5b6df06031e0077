package watch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStacks takes the stacks of ranks of each kind, and none holds up another.
func TestStacks(t *testing.T) {
	folder := t.TempDir()
	const asked, deaf, sleeping, stopped, ended = 0, 1, 2, 3, 4
	worker := role(t, "goroutines")
	file := filepath.Join(folder, "rank_000.goroutines")
	worker.Env = append(worker.Env, "WATCH_TEST_FILE="+file)
	ranks := map[int]*rank{asked: start(t, worker), deaf: start(t, role(t, "sleep")), sleeping: start(t, role(t, "sleep")), stopped: start(t, role(t, "sleep")), ended: start(t, role(t, "sleep"))}
	if line, err := ranks[asked].out.ReadString('\n'); line != "listening\n" {
		t.Fatalf("%q, %v", line, err)
	}
	ranks[deaf].signal(t, syscall.SIGSTOP)
	ranks[stopped].signal(t, syscall.SIGSTOP)
	ranks[stopped].waitState(t, "T")
	ranks[deaf].waitState(t, "T")
	ranks[ended].end()
	var targets []Target
	for n := range len(ranks) {
		targets = append(targets, Target{Attempt: 1, Rank: n, Pid: ranks[n].Process.Pid, Ours: n <= deaf})
	}
	ask := func(_ context.Context, target Target, name string) error {
		if target.Rank == asked && name != file {
			t.Errorf("rank %d asked for %s, want %s", target.Rank, name, file)
		}
		if target.Rank == asked {
			return syscall.Kill(target.Pid, syscall.SIGUSR1)
		}
		return nil
	}
	begin := time.Now()
	results := Stacks(context.Background(), StackOptions{Root: os.DirFS("/"), Folder: folder, Limit: 500 * time.Millisecond, Ask: ask}, targets)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %s with a limit of 500ms", took)
	}
	content := func(n, i int) string {
		t.Helper()
		if len(results[n].Files) <= i {
			t.Fatalf("rank %d wrote %v (%v)", n, results[n].Files, results[n].Err)
		}
		data, err := os.ReadFile(results[n].Files[i])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := results[asked].Err; err != nil {
		t.Error(err)
	}
	if text := content(asked, 1); !strings.Contains(text, "watch.waitInAllToAll(") || !strings.Contains(text, "goroutine ") {
		t.Errorf("goroutines:\n%s", text)
	}
	if r := results[deaf]; !errors.Is(r.Err, context.DeadlineExceeded) || len(r.Files) != 1 {
		t.Errorf("a worker that is stopped: %+v", r)
	}
	if r := results[stopped]; r.Err != nil || r.Summary != "state T (stopped), wchan do_signal_stop" {
		t.Errorf("stopped: %+v", r)
	}
	if text := content(stopped, 0); !strings.Contains(text, "  thread ") || !strings.Contains(text, "state T (stopped)") || !strings.Contains(text, "watch.test") {
		t.Errorf("stopped:\n%s", text)
	}
	text := content(sleeping, 0)
	for _, want := range []string{"process ", "resident ", "state S (sleeping)", "system call "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if os.Geteuid() == 0 && !strings.Contains(text, "futex_wait") {
		t.Errorf("no kernel stack in:\n%s", text)
	}
	if r := results[ended]; r.Err == nil || !strings.Contains(r.Err.Error(), "rank 4") || len(r.Files) != 0 {
		t.Errorf("ended: %+v", r)
	}
}

// TestGdb lets a real debugger look at a real process, and at one that is stopped, which
// must be as it was afterwards.
func TestGdb(t *testing.T) {
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("gdb is not installed")
	}
	r, stopped := start(t, exec.Command("sh", "-c", "echo ready; exec sleep 60")), start(t, exec.Command("sh", "-c", "echo ready; exec sleep 60"))
	stopped.signal(t, syscall.SIGSTOP)
	stopped.waitState(t, "T")
	tools := FindTools(func(name string) (string, error) {
		if name != "gdb" {
			return "", exec.ErrNotFound
		}
		return exec.LookPath(name)
	}, 2)
	results := Stacks(context.Background(), StackOptions{Root: os.DirFS("/"), Folder: t.TempDir(), Limit: 20 * time.Second, Tools: tools},
		[]Target{{Rank: 7, Pid: r.Process.Pid}, {Rank: 8, Pid: stopped.Process.Pid}})
	for i, s := range results {
		if s.Err != nil {
			t.Fatal(s.Err)
		}
		text, err := os.ReadFile(s.Files[0])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "ptrace: Operation not permitted") {
			t.Skip("this user may not trace processes here")
		}
		if !strings.Contains(string(text), "\n#0 ") && !strings.Contains(string(text), "nanosleep") {
			t.Errorf("rank %d:\n%s", 7+i, text)
		}
	}
	stopped.waitState(t, "T")
	r.waitState(t, "S")
}

// TestToolTakesTooLong ends a debugger that does not end, and leaves nothing of it.
func TestToolTakesTooLong(t *testing.T) {
	folder := t.TempDir()
	slow := filepath.Join(folder, "gstack")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\necho frames of $1\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	tools := FindTools(func(name string) (string, error) {
		if name == "gstack" {
			return slow, nil
		}
		return "", exec.ErrNotFound
	}, 1)
	r := start(t, role(t, "sleep"))
	begin := time.Now()
	results := Stacks(context.Background(), StackOptions{Root: os.DirFS("/"), Folder: folder, Limit: 300 * time.Millisecond, Tools: tools},
		[]Target{{Rank: 0, Pid: r.Process.Pid}, {Rank: 1, Pid: r.Process.Pid}})
	if took := time.Since(begin); took > 1500*time.Millisecond {
		t.Errorf("took %s with a limit of 300ms", took)
	}
	var all string
	for _, s := range results {
		text, err := os.ReadFile(filepath.Join(folder, filepath.Base(s.Files[0])))
		if err != nil || s.Err != nil {
			t.Fatal(err, s.Err)
		}
		all += string(text)
	}
	for _, want := range []string{"frames of ", "not complete: gstack took too long", "not started: "} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in:\n%s", want, all)
		}
	}
}

func TestTools(t *testing.T) {
	look := func(names ...string) func(string) (string, error) {
		return func(name string) (string, error) {
			for _, n := range names {
				if n == name {
					return "/opt/" + name, nil
				}
			}
			return "", exec.ErrNotFound
		}
	}
	for _, tc := range []struct {
		there   []string
		process string
		want    string
	}{
		{[]string{"py-spy", "gdb"}, "python3.11", "/opt/py-spy dump --nonblocking --pid 5"},
		{[]string{"py-spy", "gdb", "eu-stack"}, "train", "/opt/gdb -nx -batch"},
		{[]string{"py-spy"}, "train", ""},
		{[]string{"eu-stack", "gstack"}, "python3", "/opt/eu-stack -n 64 -p 5"},
		{[]string{"gstack"}, "x", "/opt/gstack 5"},
	} {
		got := strings.Join(FindTools(look(tc.there...), 1).command(process{pid: 5, name: tc.process}), " ")
		if !strings.HasPrefix(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%v for %s: %q, want %q", tc.there, tc.process, got, tc.want)
		}
	}
	b := &bounded{most: 5}
	for range 3 {
		if n, err := b.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("Write returns %d, %v", n, err)
		}
	}
	if got := b.kept.String(); got != "abcab" {
		t.Errorf("kept %q", got)
	}
}

func TestGoroutinesError(t *testing.T) {
	if err := Goroutines(filepath.Join(t.TempDir(), "no", "file")); err == nil {
		t.Error("no error for a folder that is not there")
	}
}

// TestStacksOfMany takes the stacks of 16 ranks, half of them stopped, with whatever
// debugger is installed, in the time that there is by default.
func TestStacksOfMany(t *testing.T) {
	var targets []Target
	ranks := make([]*rank, 16)
	for n := range ranks {
		r := start(t, shell("echo ready; exec sleep 60"))
		ranks[n] = r
		if n%2 == 0 {
			r.signal(t, syscall.SIGSTOP)
			r.waitState(t, "T")
		}
		targets = append(targets, Target{Rank: n, Pid: r.Process.Pid})
	}
	var results []Stack
	var took time.Duration
	for range 3 { // a machine that others use, too, may be slow once
		begin := time.Now()
		results = Stacks(context.Background(), StackOptions{Root: os.DirFS("/"), Folder: t.TempDir(), Tools: FindTools(exec.LookPath, 2)}, targets)
		if took = time.Since(begin); took <= stackLimit {
			break
		}
	}
	complete := 0
	for n, s := range results {
		if s.Err != nil || len(s.Files) != 1 {
			t.Fatalf("%+v", s)
		}
		text, err := os.ReadFile(s.Files[0])
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 && s.Summary != "state T (stopped), wchan do_signal_stop" || !strings.Contains(string(text), "  thread ") {
			t.Errorf("rank %d: %s\n%s", n, s.Summary, text)
		}
		if strings.Contains(string(text), "\n#0 ") {
			complete++
		}
	}
	for n, r := range ranks { // a debugger that was ended has left them as they were
		if n%2 == 0 {
			r.waitState(t, "T")
		} else {
			r.waitState(t, "S")
		}
	}
	t.Logf("%s for 16 ranks, %d of them with the debugger's frames", took, complete)
	if took > stackLimit {
		t.Errorf("took %s, want at most %s", took, stackLimit)
	}
}
