package watch

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

var epoch = time.Unix(1_800_000_000, 0)

// watcher steps a Sampler through seconds, and keeps what it says.
type watcher struct {
	*Sampler
	now      time.Time
	samples  map[int]Sample // the latest by rank
	silences []Silence
}

func newWatcher(o Options) *watcher {
	w := &watcher{now: epoch, samples: map[int]Sample{}}
	o.Sample = func(s Sample) { w.samples[s.Rank] = s }
	o.Silent = func(s Silence) { w.silences = append(w.silences, s) }
	w.Sampler = NewSampler(o)
	return w
}

// seconds steps n times; each brings what happens before it.
func (w *watcher) seconds(n int, each func(second int)) {
	for i := range n {
		if each != nil {
			each(i)
		}
		w.now = w.now.Add(time.Second)
		w.Step(w.now)
	}
}

func (w *watcher) silentRanks() (ranks []int) {
	for _, s := range w.silences {
		ranks = append(ranks, s.Rank)
	}
	return ranks
}

// TestRealProcesses watches a process that sleeps, one that computes, one that is stopped
// and a shell that waits for a stopped child. Time is simulated, the processes are not.
func TestRealProcesses(t *testing.T) {
	const sleeping, busy, stopped, shell = 0, 1, 2, 3
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command("sh", "-c", `"$0"; echo over`, exe)
	parent.Env = append(os.Environ(), roleVariable+"=sleep")
	ranks := []*rank{start(t, role(t, "sleep")), start(t, role(t, "spin")), start(t, role(t, "sleep")), start(t, parent)}
	w := newWatcher(Options{Root: os.DirFS("/"), HangTimeout: 5 * time.Second})
	for n, r := range ranks {
		w.Add(Target{Attempt: 1, Rank: n, Pid: r.Process.Pid}, w.now)
	}
	child := 0
	all, err := readProcesses(w.Root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.parent == ranks[shell].Process.Pid {
			child = p.pid
		}
	}
	if child == 0 {
		t.Fatal("the shell has no child")
	}
	if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ranks[stopped].signal(t, syscall.SIGSTOP)
	ranks[stopped].waitState(t, "T")
	ranks[sleeping].waitState(t, "S")
	// One simulated second is enough real time for a busy process to use some ticks.
	w.seconds(9, func(int) { time.Sleep(40 * time.Millisecond) })

	if got, want := w.silentRanks(), []int{stopped, shell, sleeping}; !slices.Equal(got, want) {
		t.Fatalf("silent are %v, want %v:\n%+v", got, want, w.silences)
	}
	for i, want := range []struct {
		text  string
		stuck bool
		after time.Duration
	}{
		{"state T (stopped), wchan do_signal_stop, no CPU for 5 s", true, 6 * time.Second},
		{"its child ", true, 6 * time.Second},
		{"state S (sleeping), wchan ", false, 7 * time.Second},
	} {
		got := w.silences[i]
		t.Log(got.Text)
		text := got.Text
		if want.text != "" && !strings.Contains(text, want.text) || got.Stuck != want.stuck {
			t.Errorf("rank %d: %q, stuck %v, want %q, %v", got.Rank, text, got.Stuck, want.text, want.stuck)
		}
		// The first look sees the processes for the first time and begins to count.
		if after := got.At.Sub(epoch); after > want.after+time.Second || after < 5*time.Second {
			t.Errorf("rank %d silent after %s, want at most %s", got.Rank, after, want.after+time.Second)
		}
	}
	if s := w.samples[busy]; s.State != "R" && s.State != "S" || s.CPU < 100*time.Millisecond || s.RSS < 1<<20 || s.RSSPeak < s.RSS {
		t.Errorf("busy: %+v", s)
	}
	if s := w.samples[stopped]; s.State != "T" || s.Wchan != "do_signal_stop" {
		t.Errorf("stopped: %+v", s)
	}
	// What has ended is not sampled, not even under its old number.
	ranks[busy].end()
	delete(w.samples, busy)
	w.seconds(1, nil)
	if s, ok := w.samples[busy]; ok {
		t.Errorf("sampled after its end: %+v", s)
	}
	// Going on is a sign of life; stopping again is a new silence.
	w.silences = nil
	ranks[stopped].signal(t, syscall.SIGCONT)
	ranks[stopped].waitState(t, "S")
	w.Active(1, stopped)
	w.seconds(4, nil)
	if len(w.silences) != 0 {
		t.Errorf("told again: %+v", w.silences)
	}
	w.seconds(4, nil)
	if got := w.silentRanks(); !slices.Equal(got, []int{stopped}) {
		t.Errorf("then silent are %v, want %v", got, []int{stopped})
	}
}

func TestSilence(t *testing.T) {
	const timeout = 5 * time.Second
	for _, tc := range []struct {
		name   string
		ours   bool
		second func(i int, root fstest.MapFS, w *watcher)
		silent bool
		gap    time.Duration // counts although nothing was seen in it
	}{
		{name: "nothing", silent: true},
		{name: "polls for 100 µs ten times a second", silent: true, second: func(i int, root fstest.MapFS, w *watcher) {
			put(root, i/10) // a tick of CPU each ten seconds
		}},
		{name: "works a little", second: func(i int, root fstest.MapFS, w *watcher) { put(root, 2*i) }},
		{name: "prints", second: func(i int, root fstest.MapFS, w *watcher) {
			if i%4 == 0 {
				w.Active(1, 0)
			}
		}},
		{name: "starts children", second: func(i int, root fstest.MapFS, w *watcher) {
			for name := range proc(nil, "11 10 10 10 S 0") {
				if i%3 == 0 {
					root[name] = proc(nil, "11 10 10 10 S 0")[name]
				} else {
					delete(root, name)
				}
			}
		}},
		{name: "the launcher itself was stopped", second: func(i int, root fstest.MapFS, w *watcher) {
			put(root, 0)
			if i > 0 {
				return
			}
			w.now = w.now.Add(time.Hour)
		}, silent: true, gap: longestLook},
		{name: "ours computes and makes no progress", ours: true, silent: true, second: func(i int, root fstest.MapFS, w *watcher) {
			put(root, 100*i)
			w.Beat(1, 0, "denoise 3/50")
		}},
		{name: "ours makes progress", ours: true, second: func(i int, root fstest.MapFS, w *watcher) {
			w.Beat(1, 0, "denoise "+strings.Repeat("i", i/2))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := proc(map[string]string{"proc/10/wchan": "futex_do_wait"}, "10 1 10 10 S 0")
			w := newWatcher(Options{Root: root, HangTimeout: timeout})
			w.Add(Target{Attempt: 1, Pid: 10, Ours: tc.ours}, w.now)
			w.Step(w.now)
			w.seconds(20, func(i int) {
				if tc.second != nil {
					tc.second(i, root, w)
				}
			})
			if len(w.silences) != 0 != tc.silent || len(w.silences) > 1 {
				t.Errorf("silences %+v, want one: %v", w.silences, tc.silent)
			}
			for _, s := range w.silences {
				if watched := s.At.Sub(epoch)%time.Hour + tc.gap; watched < timeout {
					t.Errorf("told after %s, before the timeout of %s", watched, timeout)
				}
			}
		})
	}
}

// put sets the CPU time of process 10, in ticks.
func put(root fstest.MapFS, ticks int) {
	line := "10 1 10 10 S " + strconv.Itoa(ticks)
	root["proc/10/stat"] = proc(nil, line)["proc/10/stat"]
}

func TestEvidence(t *testing.T) {
	// Three workers wait in a collective for the fourth; it is asleep elsewhere.
	root := proc(map[string]string{"proc/11/wchan": "do_signal_stop"}, "10 1 10 10 S 0", "11 1 11 11 S 0", "12 1 12 12 S 0", "13 1 13 13 S 0")
	watch := func() *watcher {
		w := newWatcher(Options{Root: root, HangTimeout: 3 * time.Second})
		for rank := range 4 {
			w.Add(Target{Attempt: 2, Rank: rank, Pid: 10 + rank, Ours: true}, w.now)
			where := "all-to-all #812"
			if rank == 1 {
				where = "vae_encode"
			}
			w.Beat(2, rank, where)
		}
		w.seconds(8, nil)
		return w
	}
	w := watch()
	if got := w.silentRanks(); !slices.Equal(got, []int{1, 0, 2, 3}) {
		t.Errorf("silent are %v, want the one that is elsewhere first", got)
	}
	const want = "state S (sleeping), wchan do_signal_stop, no progress for 4 s, last in vae_encode; 3 of 4 wait in all-to-all #812, rank 1 is in vae_encode"
	if got := w.silences[0]; got.Text != want || got.Where != "vae_encode" || got.Stuck {
		t.Errorf("%+v, want text %q", got, want)
	}
	// Stopped: it is told before those that wait.
	root["proc/11/stat"] = proc(nil, "11 1 11 11 T 0")["proc/11/stat"]
	w = watch()
	if got := w.silences[0]; got.Rank != 1 || !got.Stuck || !got.At.Before(w.silences[1].At) {
		t.Errorf("%+v, want rank 1 stuck, and before %+v", got, w.silences[1])
	}
}

// TestRestart watches two attempts of one rank, the second under the pid of the first.
func TestRestart(t *testing.T) {
	root := proc(nil, "10 1 10 10 S 500")
	w := newWatcher(Options{Root: root})
	w.Add(Target{Attempt: 1, Pid: 10}, w.now)
	w.seconds(1, nil)
	if s := w.samples[0]; s.CPU != 5*time.Second || s.Attempt != 1 {
		t.Errorf("%+v", s)
	}
	other := proc(nil, "10 1 10 10 S 1")["proc/10/stat"]
	other.Data = []byte(strings.Replace(string(other.Data), " 0 10 0 0\n", " 0 77 0 0\n", 1)) // another start time
	root["proc/10/stat"] = other
	delete(w.samples, 0)
	w.seconds(1, nil)
	if s, ok := w.samples[0]; ok {
		t.Errorf("another process under the same number was sampled: %+v", s)
	}
	w.Remove(1, 0)
	w.Add(Target{Attempt: 2, Pid: 10}, w.now)
	w.seconds(1, nil)
	if s := w.samples[0]; s.CPU != 10*time.Millisecond || s.Attempt != 2 {
		t.Errorf("%+v", s)
	}
	w.Remove(2, 0)
	delete(w.samples, 0)
	if w.seconds(1, nil); len(w.samples) != 0 {
		t.Errorf("sampled after Remove: %+v", w.samples)
	}
}
