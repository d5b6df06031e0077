package launcher

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ignoreTerm lets SIGTERM pass without effect.
func ignoreTerm() { signal.Ignore(syscall.SIGTERM) }

// patience bounds what a test waits for; no bar is as long.
const patience = 60 * time.Second

// launched is a launcher that runs, or has run.
type launched struct {
	t              testing.TB
	cmd            *exec.Cmd
	dir            string // of its ranks' files: pid.N and what scripts write
	mark           string // in the environment of everything that the job started
	started        time.Time
	ended          chan struct{}
	at             time.Time        // of the end, valid after ended
	state          *os.ProcessState // as at
	stdout, stderr *transcript
}

// transcript collects what a program prints.
type transcript struct {
	mu    sync.Mutex
	bytes bytes.Buffer
	lines []stamped
	rest  string
}

type stamped struct {
	at   time.Time
	text string
}

func (c *transcript) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.bytes.Write(p)
	c.rest += string(p)
	for {
		line, rest, ok := strings.Cut(c.rest, "\n")
		if !ok {
			return len(p), nil
		}
		c.lines, c.rest = append(c.lines, stamped{now, line}), rest
	}
}

func (c *transcript) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes.String()
}

func (c *transcript) stamps() []stamped {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]stamped(nil), c.lines...)
}

// setup is what a launch has beyond its arguments.
type setup struct {
	env    []string
	stdin  string
	stdout *os.File // nil: collected
	dir    string   // shared by the agents of a job; "": one of its own
	mark   string   // shared in the same way
	before []string // a program that executes the launcher
}

var marks struct {
	sync.Mutex
	last int
}

func newMark() string {
	marks.Lock()
	defer marks.Unlock()
	marks.last++
	return fmt.Sprintf("conformance-%d-%d", os.Getpid(), marks.last)
}

// start starts the launcher. Whatever the job leaves is an error of the test, and ended.
func start(t testing.TB, s setup, args ...string) *launched {
	t.Helper()
	l := &launched{t: t, dir: s.dir, mark: s.mark, ended: make(chan struct{}), stdout: &transcript{}, stderr: &transcript{}}
	if l.dir == "" {
		l.dir = t.TempDir()
	}
	if l.mark == "" {
		l.mark = newMark()
	}
	line := append(append([]string(nil), s.before...), append([]string{bin}, args...)...)
	l.cmd = exec.Command(line[0], line[1:]...)
	l.cmd.Dir = l.dir
	l.cmd.Env = append(cleanEnv(), "TMPDIR="+l.dir, "T="+l.dir, "MARK="+l.mark)
	l.cmd.Env = append(l.cmd.Env, s.env...)
	l.cmd.Stdout, l.cmd.Stderr = l.stdout, l.stderr
	if s.stdout != nil {
		l.cmd.Stdout = s.stdout
	}
	if s.stdin != "" {
		l.cmd.Stdin = strings.NewReader(s.stdin)
	}
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	l.cmd.WaitDelay = 5 * time.Second
	l.started = time.Now()
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.ended)
		state, err := l.cmd.Process.Wait()
		l.at = time.Now()
		if err == nil {
			l.state = state
		}
		_ = l.cmd.Wait() // the process was waited for already: this waits for what it printed
	}()
	t.Cleanup(func() {
		for _, p := range l.processes() {
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // may be gone by now
		}
		<-l.ended
	})
	return l
}

// cleanEnv is the environment without what the launcher reads.
func cleanEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		own := false
		for _, prefix := range []string{"WANRUN_", "TMPDIR=", "XDG_RUNTIME_DIR=", "SLURM", "PET_", "OMPI_", "PMI", "LWS_", "OMP_", "RANK=", "WORLD_SIZE=", "MASTER_"} {
			own = own || strings.HasPrefix(v, prefix)
		}
		if !own {
			env = append(env, v)
		}
	}
	return env
}

// run starts sh scripts as ranks: `wanrun run FLAGS -- sh -c SCRIPT`. Each says its pid
// first, and has $RANK and the folder $T.
func run(t testing.TB, s setup, script string, flags ...string) *launched {
	t.Helper()
	args := append([]string{"run"}, flags...)
	return start(t, s, append(args, "--", "/bin/sh", "-c", "echo $$ > $T/pid.$RANK\n"+script)...)
}

// code waits for the launcher and returns its exit code.
func (l *launched) code() int {
	l.t.Helper()
	select {
	case <-l.ended:
	case <-time.After(patience):
		l.t.Fatalf("the launcher did not end\n%s", l.said())
	}
	if l.state == nil {
		return -1
	}
	return l.state.ExitCode()
}

func (l *launched) said() string {
	return "stdout:\n" + l.stdout.String() + "stderr:\n" + l.stderr.String()
}

// wantCode waits for the launcher.
func (l *launched) wantCode(want int) {
	l.t.Helper()
	if got := l.code(); got != want {
		l.t.Errorf("exit code %d, want %d\n%s", got, want, l.said())
	}
}

// wantSaid looks for texts in what went to stderr.
func (l *launched) wantSaid(texts ...string) {
	l.t.Helper()
	for _, text := range texts {
		if !strings.Contains(l.stderr.String(), text) {
			l.t.Errorf("nothing says %q\n%s", text, l.said())
		}
	}
}

// pids waits until each of the ranks 0 to n-1 has said its pid, and returns them.
func (l *launched) pids(n int) []int {
	l.t.Helper()
	pids := make([]int, n)
	for rank := range pids {
		pids[rank] = l.pid(rank)
	}
	return pids
}

func (l *launched) pid(rank int) int {
	l.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(l.read(fmt.Sprintf("pid.%d", rank))))
	if err != nil {
		l.t.Fatal(err)
	}
	return pid
}

// read waits until a file has a whole line, and returns it all.
func (l *launched) read(name string) string {
	l.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(500 * time.Microsecond) {
		data, err := os.ReadFile(filepath.Join(l.dir, name))
		if err == nil && bytes.HasSuffix(data, []byte("\n")) {
			return string(data)
		}
		select {
		case <-l.ended:
			if _, err := os.Stat(filepath.Join(l.dir, name)); err != nil {
				l.t.Fatalf("the launcher ended, and %s is not there\n%s", name, l.said())
			}
		default:
		}
	}
	l.t.Fatalf("%s did not come\n%s", name, l.said())
	return ""
}

// moment is the time in nanoseconds that a script wrote into a file by date +%s%N.
func (l *launched) moment(name string) time.Time {
	l.t.Helper()
	ns, err := strconv.ParseInt(strings.TrimSpace(l.read(name)), 10, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return time.Unix(0, ns)
}

// signal sends to the launcher and returns when.
func (l *launched) signal(sig syscall.Signal) time.Time {
	l.t.Helper()
	now := time.Now()
	if err := syscall.Kill(l.cmd.Process.Pid, sig); err != nil {
		l.t.Fatal(err)
	}
	return now
}

// touch makes a file that a script waits for.
func (l *launched) touch(name string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte("\n"), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// gone waits until none of the processes lives, and returns when.
func gone(t testing.TB, pids []int) time.Time {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var alive []int
		for _, pid := range pids {
			if lives(pid) {
				alive = append(alive, pid)
			}
		}
		if len(alive) == 0 {
			return time.Now()
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes %v did not end", alive)
		}
	}
}

// lives says whether a process runs: one that is dead and only not yet waited for does not.
func lives(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// process is one of the job's, found by its mark.
type process struct {
	pid  int
	line string
}

// processes finds all that carry the mark, wherever they are in the process tree.
func (l *launched) processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		l.t.Fatal(err)
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		ours := bytes.Contains(append(env, 0), []byte("MARK="+l.mark+"\x00")) ||
			bytes.Contains(env, []byte("="+l.dir+"/wanrun-")) // the guard, which has none of our environment
		if err != nil || !ours || !lives(pid) {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		found = append(found, process{pid, string(bytes.ReplaceAll(line, []byte{0}, []byte(" ")))})
	}
	return found
}

// allGone waits until nothing of the job lives, and returns when.
func (l *launched) allGone() time.Time {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		left := l.processes()
		if len(left) == 0 {
			return time.Now()
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("left: %v\n%s", left, l.said())
		}
	}
}

// clean says that the job has left neither processes nor files of its own.
func (l *launched) clean() {
	l.t.Helper()
	l.tidy()
	if sockets, err := filepath.Glob(filepath.Join(l.dir, "wanrun-*", "*.sock")); err != nil || len(sockets) > 0 {
		l.t.Errorf("left behind: %v (%v)", sockets, err)
	}
}

// tidy is the same for a launcher that was killed: the socket of the job list, to which
// nobody listens, may be there.
func (l *launched) tidy() {
	l.t.Helper()
	if left := l.processes(); len(left) > 0 {
		l.t.Errorf("left running: %v\n%s", left, l.said())
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	list := fmt.Sprintf("wanrun-%d", os.Getuid())
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, "wanrun-") && name != list && !strings.HasPrefix(name, "wanrun-stacks-") {
			l.t.Errorf("left behind: %s", name)
		}
	}
}

// within fails if d is longer than the bar.
func within(t testing.TB, what string, d, bar time.Duration) {
	t.Helper()
	t.Logf("%s: %v, at most %v", what, d.Round(100*time.Microsecond), bar)
	if d > bar {
		t.Errorf("%s took %v, want at most %v", what, d, bar)
	}
}

// best runs once up to three times, until what it measures keeps the bars: another
// program may disturb one of them.
func best(t testing.TB, once func() []timing) {
	t.Helper()
	const tries = 3
	for try := range tries {
		timings := once()
		ok := true
		for _, x := range timings {
			ok = ok && x.took <= x.bar
		}
		if ok || try == tries-1 || t.Failed() {
			for _, x := range timings {
				within(t, x.what, x.took, x.bar)
			}
			return
		}
	}
}

type timing struct {
	what      string
	took, bar time.Duration
}

// freePort is one of loopback that nobody has now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// agents starts a job of several nodes on this machine, in the order of the numbers.
func agents(t testing.TB, nodes int, s setup, script string, flags ...string) []*launched {
	t.Helper()
	addr := freePort(t)
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	if s.mark == "" {
		s.mark = newMark()
	}
	all := make([]*launched, nodes)
	for node := range all {
		all[node] = run(t, s, script, append([]string{"--nnodes", strconv.Itoa(nodes), "--node-rank", strconv.Itoa(node), "--rdzv", addr,
			"--job-id", s.mark}, flags...)...)
	}
	return all
}

// once runs the launcher to its end, for commands that start nothing.
func once(t testing.TB, s setup, args ...string) *launched {
	t.Helper()
	l := start(t, s, args...)
	l.code()
	return l
}

// linesOf splits text that ends with a newline.
func linesOf(text string) []string {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func readFile(t testing.TB, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err != nil {
		t.Error(err)
	}
	return string(data)
}
