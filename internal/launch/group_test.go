package launch

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

// together is the time in which all ranks are gone after one failed.
const together = 300 * time.Millisecond

// ranks is a run of several fake workers.
type ranks struct {
	size  int
	modes string // of fakeWorker
	// act is called with the processes by rank when all have said their number, or
	// never if it is nil. The time that it returns is that of the failure.
	act     func(pids []int) time.Time
	options func(*fakeOptions)
}

// run returns how it went, and how long Run took from the failure on.
func (g ranks) run(t *testing.T) (Result, time.Duration) {
	t.Helper()
	pids := make([]int, g.size)
	waiting := g.size
	failed := make(chan time.Time, 1)
	w := &watcher{}
	w.onRankLine = func(rank int, text string) {
		what, number, _ := strings.Cut(text, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return
		}
		switch what {
		case "dies":
			failed <- time.Unix(0, n)
		case "pid":
			pids[rank] = int(n)
			if waiting--; waiting == 0 && g.act != nil {
				go func() { failed <- g.act(pids) }() // the test waits for it below
			}
		}
	}
	stuck := make(chan os.Signal, 2)
	rescue := time.AfterFunc(20*time.Second, func() { stuck <- syscall.SIGINT; stuck <- syscall.SIGINT })
	defer rescue.Stop()
	r := runFake(t, g.modes, w, func(o *fakeOptions) {
		o.Ranks, o.Signals = g.size, stuck
		if g.options != nil {
			g.options(o)
		}
	})
	returned := time.Now()
	if g.act == nil && len(failed) == 0 {
		return r, 0 // it is not known when
	}
	select {
	case at := <-failed:
		return r, returned.Sub(at)
	case <-time.After(5 * time.Second):
		t.Errorf("%s: nothing happened; lines %q, result %+v", g.modes, w.lines, r)
		return r, 0
	}
}

func send(sig syscall.Signal, rank int) func([]int) time.Time {
	return func(pids []int) time.Time {
		at := time.Now()
		_ = syscall.Kill(pids[rank], sig) // gone already: the test sees that
		return at
	}
}

// apart does one thing and 30 ms later the other.
func apart(first, second func([]int) time.Time) func([]int) time.Time {
	return func(pids []int) time.Time {
		at := first(pids)
		time.Sleep(30 * time.Millisecond)
		second(pids)
		return at
	}
}

func TestGroupHappy(t *testing.T) {
	for _, size := range []int{2, 4, 8} {
		w := &watcher{}
		r := runFake(t, "happy", w, func(o *fakeOptions) { o.Ranks = size })
		if r.Code != ends.Done || r.Error != "" || r.Failed != nil || len(r.Ranks) != size {
			t.Errorf("%d ranks: %+v", size, r)
		}
		pids := map[int]bool{}
		for rank, k := range r.Ranks {
			pids[k.Pid] = true
			if k.Rank != rank || k.Ended != "exit code 0" || k.Report.GetUsedBytes() != 5<<20 || k.Last.GetDone() != 3 || k.LastAt.Before(r.Started) {
				t.Errorf("rank %d of %d: %+v", rank, size, k)
			}
		}
		if len(pids) != size || len(w.progress) != size {
			t.Errorf("%d ranks: processes %v, %d messages", size, pids, len(w.progress))
		}
	}
}

// TestGroupFails: whoever fails, and however, all ranks are gone within 300 ms and the
// one that failed first is named.
func TestGroupFails(t *testing.T) {
	for _, size := range []int{2, 4, 8} {
		last := size - 1
		others := "obedient 0=later-obedient " // a second mode makes the workers say their process
		for _, tc := range []struct {
			name   string
			modes  string
			act    func([]int) time.Time
			code   ends.Code
			failed int
			words  string
		}{
			{"crash", others + "L=later-panic", send(syscall.SIGUSR1, last), ends.Bug, last, "rank L ended with exit code 2 and without a report in denoise (3 of 12)"},
			{"report", others + "L=later-bad-input", send(syscall.SIGUSR1, last), ends.BadInput, last, "rank L: picture"},
			{"terminated", others, send(syscall.SIGTERM, last), 143, last, "rank L was killed by SIGTERM in denoise"},
			{"killed at start", others + "L=killed-early", nil, 137, last, "rank L was killed by SIGKILL: "},
			{"killed before attach", others + "L=unattached", send(syscall.SIGKILL, last), 137, last, "rank L was killed by SIGKILL: "},
			{"first rank killed before attach", "obedient 0=unattached", send(syscall.SIGKILL, 0), 137, 0, "rank 0 was killed by SIGKILL: "},
			{"killed", others, send(syscall.SIGKILL, last), 137, last, "rank L was killed by SIGKILL in denoise (3 of 12)"},
			{"first rank killed", others, send(syscall.SIGKILL, 0), 137, 0, "rank 0 was killed by SIGKILL in denoise (3 of 12)"},
			{"killed, others deaf", "deaf 0=later-obedient", send(syscall.SIGKILL, 0), 137, 0, "rank 0 was killed by SIGKILL"},
			{"lost stream", others + "L=later-lost", send(syscall.SIGUSR1, last), ends.PeerLost, last, "rank L closed its stream without a report in denoise (3 of 12); its process did not end and was killed"},
			{"two", others + "L=later-panic", apart(send(syscall.SIGUSR1, last), send(syscall.SIGKILL, 0)), ends.Bug, last, "rank L ended with exit code 2"},
			{"two, the other way", others + "L=later-panic", apart(send(syscall.SIGKILL, 0), send(syscall.SIGUSR1, last)), 137, 0, "rank 0 was killed by SIGKILL"},
			{"a victim speaks first", "obedient 0=later-victim L=deaf", apart(send(syscall.SIGUSR1, 0), send(syscall.SIGKILL, last)), 137, last, "rank L was killed by SIGKILL"},
			{"only a victim", "obedient 0=later-victim", send(syscall.SIGUSR1, 0), ends.PeerLost, 0, "rank 0: all-to-all: a rank is gone (in denoise)"},
			{"wrong build", "obedient 0=wrong-build", nil, ends.CannotStart, 0, `rank 0 was refused: worker build "another"`},
		} {
			rank := strconv.Itoa(last)
			g := ranks{size: size, modes: strings.ReplaceAll(tc.modes, "L=", rank+"="), act: tc.act}
			words := strings.ReplaceAll(tc.words, "rank L", "rank "+rank)
			t.Run(fmt.Sprintf("%d ranks/%s", size, tc.name), func(t *testing.T) {
				var r Result
				var took time.Duration
				for range 3 { // a machine that is busy with other tests is late itself
					if r, took = g.run(t); took <= together {
						break
					}
				}
				if r.Code != tc.code || r.Failed == nil || *r.Failed != tc.failed || !strings.Contains(r.Error, words) {
					t.Errorf("code %d of rank %v: %q; want %d of rank %d with %q; ranks %+v", r.Code, r.Failed, r.Error, tc.code, tc.failed, words, r.Ranks)
				}
				t.Logf("all gone %v after the failure", took)
				if took > together {
					t.Errorf("the last rank was gone %v after the failure, want at most %v; ranks %+v", took, together, r.Ranks)
				}
			})
		}
	}
}

// TestGroupStops: Ctrl-C asks every rank and leaves it the grace; a second one kills.
func TestGroupStops(t *testing.T) {
	for _, tc := range []struct {
		modes   string
		signals []syscall.Signal
		grace   time.Duration
		ended   string // of the last rank
	}{
		{"obedient 0=later-obedient", []syscall.Signal{syscall.SIGINT}, time.Minute, "exit code 130"},
		{"deaf 0=later-obedient", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, time.Minute, "SIGKILL"},
		{"terminable 0=later-obedient", []syscall.Signal{syscall.SIGINT}, 50 * time.Millisecond, "SIGTERM"},
	} {
		for _, size := range []int{2, 4, 8} {
			signals := make(chan os.Signal, 4)
			g := ranks{size: size, modes: tc.modes, options: func(o *fakeOptions) { o.Signals, o.Grace = signals, tc.grace }}
			g.act = func([]int) time.Time {
				at := time.Now()
				for _, sig := range tc.signals {
					signals <- sig
				}
				return at
			}
			r, _ := g.run(t)
			if r.Code != ends.Interrupted || r.Failed != nil || r.Ranks[size-1].Ended != tc.ended || !strings.Contains(r.Error, "stopped by SIGINT in denoise") {
				t.Errorf("%d ranks %s: code %d, rank %v, the last ended by %s, %q; want %s", size, tc.modes, r.Code, r.Failed, r.Ranks[size-1].Ended, r.Error, tc.ended)
			}
		}
	}
}

// TestFailureBeforeStop: a rank that failed before Ctrl-C is the cause.
func TestFailureBeforeStop(t *testing.T) {
	signals := make(chan os.Signal, 1)
	g := ranks{size: 2, modes: "deaf 0=later-obedient", options: func(o *fakeOptions) { o.Signals = signals }}
	g.act = apart(send(syscall.SIGKILL, 0), func(pids []int) time.Time {
		eventually(func() bool { return !alive(pids[0]) })
		time.Sleep(50 * time.Millisecond) // until the launcher has seen it too
		signals <- syscall.SIGINT
		return time.Now()
	})
	if r, _ := g.run(t); r.Code != 137 || r.Failed == nil || *r.Failed != 0 {
		t.Errorf("code %d: %s", r.Code, r.Error)
	}
}

// TestGroupStuck: a rank that does not end after its report ends the others, and is named.
func TestGroupStuck(t *testing.T) {
	r, _ := ranks{size: 3, modes: "happy 1=lingering", act: nil, options: func(o *fakeOptions) { o.Grace = 0 }}.run(t)
	if r.Code != ends.Hang || r.Failed == nil || *r.Failed != 1 || !strings.Contains(r.Error, "did not end after its report") {
		t.Errorf("code %d of rank %v: %s", r.Code, r.Failed, r.Error)
	}
}
