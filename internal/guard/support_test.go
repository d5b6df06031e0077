package guard

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// role says what this test binary is to be: a launcher that a test can kill, or process 1.
const role = "GUARD_TEST_ROLE"

func TestMain(m *testing.M) {
	Main()
	switch os.Getenv(role) {
	case "launcher":
		testLauncher(os.Args[1:])
	case "first":
		testFirst()
	default:
		goleak.VerifyTestMain(m)
	}
}

// testLauncher starts ranks of a shell script and says the numbers of the guard and of
// the ranks, in lines. Its input's end ends it.
func testLauncher(args []string) {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		panic(err)
	}
	g, err := Start("/proc/self/exe", Options{CgroupDir: args[1], Stderr: os.Stderr})
	if err != nil {
		panic(err)
	}
	fmt.Println(g.Pid())
	for range n {
		p, err := g.Start(Spec{Path: "/bin/sh", Args: []string{"sh", "-c", args[2]}, Env: os.Environ()})
		if err != nil {
			panic(err)
		}
		fmt.Println(p.Pid())
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// launched is a testLauncher.
type launched struct {
	cmd   *exec.Cmd
	guard proc
	ranks []proc
	all   []proc // the ranks and what they said to have started
}

// launch starts a launcher of n ranks. Each process that is to be gone later has written
// its number into $PIDS; more says how many do so in each rank.
func launch(t *testing.T, n, more int, cgroupDir, script string) *launched {
	t.Helper()
	pids := filepath.Join(t.TempDir(), "pids")
	l := &launched{cmd: exec.Command("/proc/self/exe", strconv.Itoa(n), cgroupDir, script)}
	l.cmd.Env = append(os.Environ(), role+"=launcher", "PIDS="+pids)
	l.cmd.Stderr = os.Stderr
	in, err := l.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
		for _, p := range append(l.all, l.guard) {
			_ = signalProc(p, unix.SIGKILL) // of a test that failed
		}
		reapForeign(t)
	})
	lines := bufio.NewScanner(out)
	for i := range n + 1 {
		if !lines.Scan() {
			t.Fatalf("launcher ended after %d of %d lines", i, n+1)
		}
		p := find(t, lines.Text())
		if i == 0 {
			l.guard = p
		} else {
			l.ranks = append(l.ranks, p)
			l.all = append(l.all, p)
		}
	}
	until(t, 10*time.Second, func() string {
		b, _ := os.ReadFile(pids)
		if got := strings.Count(string(b), "\n"); got < n*more {
			return fmt.Sprintf("%d of %d processes have started", got, n*more)
		}
		return ""
	})
	b, err := os.ReadFile(pids)
	if err != nil && more > 0 {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(b)) {
		l.all = append(l.all, find(t, word))
	}
	return l
}

func find(t *testing.T, pid string) proc {
	t.Helper()
	number, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	p, err := readProc(number)
	if err != nil {
		t.Fatalf("process %d: %v", number, err)
	}
	return p
}

// until waits for wrong to say nothing, and returns how long it took.
func until(t *testing.T, timeout time.Duration, wrong func() string) time.Duration {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		text := wrong()
		if text == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > timeout {
			t.Fatalf("after %v: %s", timeout, text)
		}
	}
}

// runs says whether p is there and not a zombie.
func runs(p proc) bool {
	now, err := readProc(p.pid)
	return err == nil && now.start == p.start && now.alive()
}

// gone waits until none of them runs.
func gone(t *testing.T, timeout time.Duration, ps ...proc) time.Duration {
	t.Helper()
	return until(t, timeout, func() string {
		var text string
		for _, p := range ps {
			if runs(p) {
				text += fmt.Sprintf("%d (%s) lives; ", p.pid, p.name)
			}
		}
		return text
	})
}

// zombies are our children that nobody has waited for.
func zombies(t *testing.T) []proc {
	t.Helper()
	all, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	var list []proc
	for _, p := range all {
		if p.parent == os.Getpid() && !p.alive() {
			list = append(list, p)
		}
	}
	return list
}

// reapForeign waits for what a launcher that was killed, or a guard, has left to us, a
// subreaper.
func reapForeign(t *testing.T) {
	t.Helper()
	self, err := readProc(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range zombies(t) {
		if p.session != self.session {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
}

// startGuard starts a guard that the test's end closes.
func startGuard(t testing.TB, o Options) *Guard {
	t.Helper()
	o.Stderr = os.Stderr
	g, err := Start("/proc/self/exe", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, _ := g.Close(5 * time.Second) // ErrLost where the test has killed it
		if len(left) > 0 {
			t.Errorf("left after the test: %+v", left)
		}
	})
	return g
}

func startShell(t testing.TB, g *Guard, script string, files ...*os.File) *Process {
	t.Helper()
	p, err := g.Start(Spec{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ(), Files: files})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func exitOfProcess(t testing.TB, p *Process) Exit {
	t.Helper()
	select {
	case x := <-p.Exited():
		return x
	case <-time.After(15 * time.Second):
		t.Fatalf("process %d: no end is told", p.Pid())
		return Exit{}
	}
}

// output is a pipe for a rank: its end to write and a function that reads all of it.
func output(t testing.TB) (*os.File, func() string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return w, func() string {
		w.Close()
		if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// firstLine reads a line that a rank prints while it lives.
func firstLine(t testing.TB, g *Guard, script string) (*Process, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := startShell(t, g, script, nil, w)
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return p, line
}

func sendSignal(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("signal %v to %d: %v", sig, pid, err)
	}
}

// testFirst is process 1 of a container. It starts a guard, and says what became of a
// process that nobody here has started.
func testFirst() {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		panic(err)
	}
	g, err := Start("/proc/self/exe", Options{Stderr: os.Stderr})
	if err != nil {
		panic(err)
	}
	fmt.Println("process", os.Getpid())
	p, err := g.Start(Spec{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 7"}})
	if err != nil {
		panic(err)
	}
	fmt.Println("code", (<-p.Exited()).Code)
	// As someone's `exec` into the container does: a process in a session of its own is
	// left to process 1. What we have started ourselves is still ours to wait for.
	if err := exec.Command("/bin/sh", "-c", "(setsid sleep 0.05 &)").Run(); err != nil {
		panic(err)
	}
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(time.Millisecond) {
		if left, err := os.ReadDir("/proc"); err == nil && !hasChild(left, g.Pid()) {
			fmt.Println("reaped")
			break
		}
	}
	left, err := g.Close(time.Second)
	fmt.Println("left", len(left), err)
}

// hasChild says whether there is another process than us and the guard.
func hasChild(entries []os.DirEntry, guard int) bool {
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != 1 && pid != guard {
			return true
		}
	}
	return false
}
