package jobs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/jobs/owner"
)

// role says what this test binary is to be instead: a launcher that a test can kill.
const role = "JOBS_TEST_ROLE"

func TestMain(m *testing.M) {
	guard.Main()
	switch os.Getenv(role) {
	case "launcher": // registers a job, claims a folder
		r, err := Register(os.Args[1], "other", &fakeJob{})
		must(err)
		folder, err := os.MkdirTemp(os.Args[2], "wanrun-")
		must(err)
		_, err = owner.Take(folder, "other")
		must(err)
		must(os.WriteFile(filepath.Join(folder, "weights"), make([]byte, 5000), 0o600))
		fmt.Println(folder)
		_, _ = io.Copy(io.Discard, os.Stdin)
		must(r.Close())
	case "guarded": // has a guard with a rank that starts a process in a session of its own
		g, err := guard.Start("/proc/self/exe", guard.Options{})
		must(err)
		_, err = g.Start(guard.Spec{Path: "/bin/sh", Args: []string{"sh", "-c", "setsid sleep 300 & echo $! > " + os.Args[1] + "/pid.new; mv " + os.Args[1] + "/pid.new " + os.Args[1] + "/pid; wait"},
			Env: append(os.Environ(), "WANRUN_JOB=train 7")})
		must(err)
		fmt.Println(g.Pid())
		_, _ = io.Copy(io.Discard, os.Stdin)
	default:
		goleak.VerifyTestMain(m)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// start runs this binary in a role and returns it with the first line that it says.
func start(t *testing.T, as string, args ...string) (*exec.Cmd, string) {
	t.Helper()
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), role+"="+as)
	c.Stderr = os.Stderr
	if _, err := c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s said %q: %v", as, line, err)
	}
	return c, strings.TrimSpace(line)
}

// fakeJob is a job that writes down what it is asked.
type fakeJob struct {
	mu     sync.Mutex
	status Status
	stops  []string
	stacks func(context.Context) (string, error)
}

func (j *fakeJob) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status
}

func (j *fakeJob) Stop(by string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stops = append(j.stops, by)
}

func (j *fakeJob) Stacks(ctx context.Context) (string, error) {
	if j.stacks == nil {
		return "", errors.New("no folder for logs; use --log-dir")
	}
	return j.stacks(ctx)
}

func register(t *testing.T, dir, id string, j Job) *Registration {
	t.Helper()
	r, err := Register(dir, id, j)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t *testing.T, dir, id string) *Client {
	t.Helper()
	c, err := Open(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func deadMark(t *testing.T) string {
	t.Helper()
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	start, _, err := owner.StartOf(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	return strconv.Itoa(c.Process.Pid) + "." + strconv.FormatUint(start, 10) + ".1"
}
