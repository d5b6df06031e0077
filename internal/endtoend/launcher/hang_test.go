package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stoppedRank stops one of four ranks, which work.
func stoppedRank(t *testing.T) {
	l := run(t, setup{}, "while :; do :; done", "--nproc", "3", "--hang-timeout", "3s", "--log-dir", "logs", "--job-id", "j")
	pids := l.pids(3)
	if err := syscall.Kill(pids[1], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	l.wantCode(124)
	within(t, "the end", l.at.Sub(at), 8*time.Second)
	l.wantSaid("rank 1", "state T", "no CPU")
	if found, err := filepath.Glob(filepath.Join(l.dir, "logs/j/attempt_0/*stack*")); err != nil || len(found) == 0 {
		t.Errorf("no stacks in the log folder (%v)", err)
	}
	l.clean()
}

// TestTimeLimit ends a job that lasts too long, with its stacks: row 70.
func TestTimeLimit(t *testing.T) {
	l := run(t, setup{}, "exec sleep 100", "--nproc", "2", "--timeout", "1s", "--log-dir", "logs", "--job-id", "j")
	l.wantCode(124)
	took := l.at.Sub(l.started)
	if took < time.Second {
		t.Errorf("ended after %v, want 1 s", took)
	}
	within(t, "the end", took, 4*time.Second)
	found, err := filepath.Glob(filepath.Join(l.dir, "logs/j/attempt_0/*stack*"))
	if err != nil || len(found) < 2 {
		t.Errorf("stacks of both ranks are to be there: %v (%v)", found, err)
	}
	l.clean()
}

// memoryGroup makes a control group of this machine with a limit, and returns its folder.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	for _, kind := range []struct{ root, limit string }{{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}} {
		folder := filepath.Join(kind.root, fmt.Sprintf("wanrun-conformance-%d", os.Getpid()))
		if _, err := os.Stat(kind.root); err != nil || os.Mkdir(folder, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for range 100 { // the kernel lets the last process go a little later
				if os.Remove(folder) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%s is left", folder)
		})
		if os.WriteFile(filepath.Join(folder, kind.limit), []byte(fmt.Sprint(limit)), 0o644) == nil {
			return folder
		}
	}
	t.Skip("no control group with a memory limit can be made here")
	return ""
}

func outOfMemory(t *testing.T) {
	const limit = 192 << 20
	folder := memoryGroup(t, limit)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := start(t, setup{env: []string{roleVariable + "=hog", "VICTIM=1"},
		before: []string{"/bin/sh", "-c", "echo $$ > " + folder + "/cgroup.procs; exec \"$@\"", "sh"}},
		"run", "--nproc", "2", "--", exe)
	l.wantCode(77)
	l.wantSaid("rank 1 of 2 was killed by the kernel: out of memory", "limit 192 MiB", "rank used 1", "more memory")
	wantReport(t, l, "out of memory", 77)
	l.clean()
}

// TestKilledByNobodyKnown tells a SIGKILL from one of the kernel's: row 62.
func TestKilledByNobodyKnown(t *testing.T) {
	l := run(t, setup{}, "[ $RANK = 1 ] && kill -KILL $$\nexec sleep 100", "--nproc", "2")
	l.wantCode(137)
	l.wantSaid("SIGKILL")
	if said := l.stderr.String(); !strings.Contains(said, "not the kernel's OOM killer (oom_kill unchanged); someone or something sent SIGKILL") &&
		!strings.Contains(said, "no memory counter") {
		t.Errorf("the SIGKILL is not explained\n%s", said)
	}
}
