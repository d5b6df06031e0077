package watch

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary plays the ranks: a process with this variable does what it says.
const roleVariable = "WATCH_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func play(role string) {
	go func() { // nobody's orphan
		io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	switch role {
	case "sleep":
		fmt.Println("ready")
		select {}
	case "spin":
		fmt.Println("ready")
		for n := uint(0); n <= n+1 || n > 0; n++ {
			_ = n
		}
	case "goroutines":
		fmt.Println("ready")
		// Asked by a signal here; the control channel's part is its own.
		waitAndDump()
	case "fill":
		fillMemory()
	}
}

// rank is a process of a test.
type rank struct {
	*exec.Cmd
	out *bufio.Reader
}

// start starts a process in a group of its own and waits for its first line.
func start(t *testing.T, command *exec.Cmd) *rank {
	t.Helper()
	r := launch(t, command)
	if line, err := r.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v said %q, %v", command.Args, line, err)
	}
	return r
}

func launch(t *testing.T, command *exec.Cmd) *rank {
	t.Helper()
	r := &rank{Cmd: command}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(stdout)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		r.end()
	})
	return r
}

func (r *rank) end() {
	if r.ProcessState == nil {
		syscall.Kill(-r.Process.Pid, syscall.SIGKILL)
		r.Wait()
	}
}

// role is this test binary in a role.
func role(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(exe)
	command.Env = append(os.Environ(), roleVariable+"="+name)
	return command
}

func (r *rank) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-r.Process.Pid, s); err != nil {
		t.Fatal(err)
	}
}

// state waits until a process is in one of the states.
func (r *rank) waitState(t *testing.T, states string) {
	t.Helper()
	var p process
	for range 500 {
		p, _ = readProcess(os.DirFS("/"), r.Process.Pid)
		if p.state != "" && strings.Contains(states, p.state) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d is in state %q, want one of %q", r.Process.Pid, p.state, states)
}

func shell(script string, args ...string) *exec.Cmd {
	return exec.Command("sh", append([]string{"-c", script}, args...)...)
}
