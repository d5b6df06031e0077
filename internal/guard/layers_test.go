package guard

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupDir makes a control group of version 2 in which a guard can make one, or skips.
func cgroupDir(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Skip("no control groups: ", err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		dir, err := os.MkdirTemp(f[1], "guard-test-")
		if err != nil {
			t.Skip("control groups cannot be made here: ", err)
		}
		t.Cleanup(func() {
			if err := unix.Rmdir(dir); err != nil {
				t.Errorf("the guard has left something in its group: %v", err)
			}
		})
		if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil {
			t.Skip("no cgroup.kill: ", err)
		}
		return dir
	}
	t.Skip("no control groups of version 2")
	return ""
}

func TestControlGroup(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		dir := cgroupDir(t)
		g := startGuard(t, Options{CgroupDir: dir})
		group, warning := g.Cgroup()
		if filepath.Dir(group) != dir || warning != "" {
			t.Fatalf("group %q, warning %q; want one below %q", group, warning, dir)
		}
		p, line := firstLine(t, g, `grep ^0:: /proc/self/cgroup; exec sleep 100`)
		if !strings.HasSuffix(strings.TrimSpace(line), "/"+filepath.Base(group)) || len(p.Warnings()) > 0 {
			t.Errorf("rank is in %q, want %q (warnings %q)", line, group, p.Warnings())
		}
		if left, err := g.Close(time.Second); err != nil || len(left) > 0 {
			t.Errorf("left %+v (%v)", left, err)
		}
		if _, err := os.Stat(group); !os.IsNotExist(err) {
			t.Errorf("the group is still there (%v)", err)
		}
	})
	// The kernel's list alone: the guard is dead, and what the rank left is a stranger
	// without a variable, a parent or a session that tell of it.
	t.Run("guard killed", func(t *testing.T) {
		dir := cgroupDir(t)
		pids := filepath.Join(t.TempDir(), "pids")
		t.Setenv("PIDS", pids)
		g := startGuard(t, Options{CgroupDir: dir})
		startShell(t, g, stubborn+daemon+stay)
		var daemon proc
		until(t, 5*time.Second, func() string {
			if b, _ := os.ReadFile(pids); len(b) > 1 {
				daemon = find(t, string(b))
				return ""
			}
			return "the daemon has not started"
		})
		sendSignal(t, g.Pid(), syscall.SIGKILL)
		<-g.Lost()
		if left := g.Sweep(); len(left) > 0 || runs(daemon) {
			t.Errorf("left %+v; the daemon runs: %v", left, runs(daemon))
		}
	})
	t.Run("launcher killed", func(t *testing.T) {
		dir := cgroupDir(t)
		l := launch(t, 4, 2, dir, stubborn+stray+daemon+stay)
		sendSignal(t, l.cmd.Process.Pid, syscall.SIGKILL)
		gone(t, time.Second, append(l.all, l.guard)...)
	})
	t.Run("cannot be made", func(t *testing.T) {
		g := startGuard(t, Options{CgroupDir: filepath.Join(t.TempDir(), "missing")})
		if group, warning := g.Cgroup(); group != "" || !strings.Contains(warning, "no such file") {
			t.Errorf("group %q, warning %q; want a warning", group, warning)
		}
		if x := exitOfProcess(t, startShell(t, g, "exit 3")); x.Code != 3 {
			t.Errorf("code %d, want 3", x.Code)
		}
	})
}

// TestProcessOne runs a launcher as process 1 of a namespace, as in a container.
func TestProcessOne(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), role+"=first")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS, Setsid: true, Pdeathsig: syscall.SIGKILL,
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Skip("no namespace of processes can be made: ", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("process 1: %v", err)
	}
	if want := "process 1\ncode 7\nreaped\nleft 0 <nil>\n"; out.String() != want {
		t.Errorf("process 1 says %q, want %q", out.String(), want)
	}
}
