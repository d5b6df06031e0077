package endtoend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// position is how far a rank said it was.
type position struct {
	Phase       string
	Done, Total int
}

// ranks is a launcher that runs, with its workers.
type ranks struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string      // where it runs and has its temporary files
	pids map[int]int // of the workers, by rank

	mu    sync.Mutex
	at    map[int]position // by rank; none before its first message
	heard time.Time        // when the last line came
	text  strings.Builder  // all of them
	ended chan struct{}    // closed when there will be no more
}

// startRanks runs the launcher in a folder of its own and returns when all its
// workers run.
func startRanks(t *testing.T, size int, args ...string) *ranks {
	t.Helper()
	r := &ranks{t: t, dir: t.TempDir(), pids: map[int]int{}, at: map[int]position{}, ended: make(chan struct{})}
	r.cmd = exec.Command(filepath.Join(bin, "wanrun"), append(args, "--nproc", strconv.Itoa(size), "--log-format", "json")...)
	r.cmd.Dir, r.cmd.Env = r.dir, cleanEnv(r.dir)
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.abandon)
	go func() {
		defer close(r.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			r.note(lines.Bytes())
		}
	}()
	r.wait("its workers to start", func() bool {
		for pid, rank := range r.processes() {
			if rank >= 0 {
				r.pids[rank] = pid
			}
		}
		return len(r.pids) == size
	})
	return r
}

// note takes one line of the launcher's.
func (r *ranks) note(line []byte) {
	var message struct {
		Msg  string
		Rank int
		position
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = time.Now()
	r.text.Write(line)
	r.text.WriteByte('\n')
	if json.Unmarshal(line, &message) == nil && message.Msg == "progress" {
		r.at[message.Rank] = message.position
	}
}

// position returns where a rank was last, and how long ago any rank said anything.
func (r *ranks) position(rank int) (at position, silent time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[rank], time.Since(r.heard)
}

// said is all that the launcher has printed.
func (r *ranks) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// wait waits until something has happened, or the launcher ended, which is an error.
func (r *ranks) wait(what string, happened func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(time.Millisecond) {
		select {
		case <-r.ended:
			r.t.Fatalf("the run ended before %s:\n%s", what, r.said())
		default:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited for %s for a minute:\n%s", what, r.said())
		}
	}
}

// signal sends a signal to a rank.
func (r *ranks) signal(rank int, sig syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(r.pids[rank], sig); err != nil {
		r.t.Errorf("%v to rank %d: %v", sig, rank, err)
	}
}

// processes returns the ranks of all living processes of the run but the launcher,
// whoever their parents are now; what is not a worker, such as an ffmpeg, has rank -1.
func (r *ranks) processes() map[int]int {
	found := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == r.cmd.Process.Pid {
			continue
		}
		// A process that is gone but not waited for has no environment.
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(env, []byte("TMPDIR="+r.dir+"\x00")) {
			continue
		}
		found[pid] = -1
		name, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		if err != nil || string(name) != "wanworker\n" {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if rank, ok := bytes.CutPrefix(v, []byte("WANRUN_RANK=")); ok {
				if n, err := strconv.Atoi(string(rank)); err == nil {
					found[pid] = n
				}
			}
		}
	}
	return found
}

// abandon ends whatever still runs.
func (r *ranks) abandon() {
	if r.cmd.ProcessState != nil {
		return
	}
	_ = r.cmd.Process.Kill() // its workers die with it, also those that are stopped
	<-r.ended
	_ = r.cmd.Wait() // killed
	for pid := range r.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // may be gone by now
	}
}
