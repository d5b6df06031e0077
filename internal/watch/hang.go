package watch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Silence is a rank that shows no sign of life.
type Silence struct {
	At            time.Time // when that was long enough
	Attempt, Rank int
	Pid           int
	For           time.Duration // at least
	// Text is the evidence, one line without the rank's number: "state T (stopped), wchan
	// do_signal_stop, no CPU for 5 s".
	Text string
	// Stuck: it is held from outside, stopped or by the kernel, and does not just wait.
	Stuck bool
	// Where is a worker's own words, or else what the kernel says that it waits for.
	Where string
}

// silence measures how long a rank has shown no sign of life.
type silence struct {
	idle time.Duration // watched time without a sign
	mark time.Duration // CPU time of the tree at the latest sign
	pids string        // of the tree
	told bool
}

const (
	// Threads that wake up only to look whether something has come use CPU time as well.
	// Less than this share of one CPU counts as none. (A watchdog that wakes ten times a
	// second for 100 µs takes 0.001.)
	idleShare = 0.002
	// What passed between two looks counts no more than this: when this process, or the
	// machine, was stopped for an hour, nobody hung for an hour.
	longestLook = 3 * time.Second
	// A rank that only sleeps may wait for another that is stopped: it is told later, so
	// that the other comes first.
	sleepersWait = time.Second
)

func (s *silence) alive(cpu time.Duration) {
	s.idle, s.mark, s.told = 0, cpu, false
}

// observe takes what was seen after some time has passed. Workers of ours say themselves
// that they go on: their CPU time proves nothing.
func (s *silence) observe(tree []process, ours bool, passed time.Duration) {
	s.idle += passed
	pids, cpu := pidsOf(tree), cpuOf(tree)
	used := cpu - s.mark
	changed := pids != s.pids || used < 0 // an orphan that was reaped takes its time along
	s.pids = pids
	if !ours && (changed || used > max(tick, time.Duration(idleShare*float64(s.idle)))) {
		s.alive(cpu)
	}
}

func pidsOf(tree []process) string {
	pids := make([]int, 0, len(tree))
	for _, p := range tree {
		pids = append(pids, p.pid)
	}
	slices.Sort(pids)
	return fmt.Sprint(pids)
}

// passed returns how much time counts since the latest look.
func (s *Sampler) passed(now time.Time) time.Duration {
	before := s.last
	s.last = now
	if before.IsZero() {
		return 0
	}
	return min(max(now.Sub(before), 0), longestLook)
}

func (s *Sampler) ordered() []*watched {
	return slices.SortedFunc(maps.Values(s.ranks), func(a, b *watched) int {
		return cmp.Or(cmp.Compare(a.Attempt, b.Attempt), cmp.Compare(a.Rank, b.Rank))
	})
}

// suspect is a rank that is silent.
type suspect struct {
	*watched
	worst process // of its tree: what says most
	wchan string  // of that
	where string
}

// findSilent returns the ranks that hang: first those that are held from outside, then
// those that wait elsewhere than most, then the others, which may wait for them.
func (s *Sampler) findSilent(now time.Time, found map[int][]process) []Silence {
	var suspects []suspect
	var positions []Position
	for _, w := range s.ordered() {
		tree := found[w.Pid]
		if len(tree) == 0 || tree[0].start != w.start || tree[0].state == "Z" {
			continue
		}
		x := suspect{watched: w, worst: telling(tree)}
		x.wchan = readWchan(s.Root, procFolder(x.worst.pid))
		x.where = cmp.Or(w.place, x.wchan)
		// What holds a rank from outside is no place where it waits for others.
		if w.place != "" || x.wchan != "" && x.worst.state == "S" {
			positions = append(positions, Position{w.Rank, x.where})
		}
		limit := s.HangTimeout
		if !isStuck(x.worst.state) {
			limit += sleepersWait
		}
		if w.silent.idle >= limit && !w.silent.told && (w.Ours || x.worst.state != "R") {
			suspects = append(suspects, x)
		}
	}
	apart, text := Minority(positions)
	blame := func(x suspect) int {
		switch {
		case isStuck(x.worst.state):
			return 0
		case slices.Contains(apart, x.Rank):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(suspects, func(a, b suspect) int { return cmp.Compare(blame(a), blame(b)) })
	var silences []Silence
	for _, x := range suspects {
		x.silent.told = true
		evidence := x.evidence()
		if text != "" {
			evidence += "; " + text
		}
		silences = append(silences, Silence{At: now, Attempt: x.Attempt, Rank: x.Rank, Pid: x.Pid, For: x.silent.idle,
			Text: evidence, Stuck: isStuck(x.worst.state), Where: x.where})
	}
	return silences
}

// isStuck returns whether a state says by itself that a process cannot go on.
func isStuck(state string) bool { return state == "T" || state == "t" || state == "D" }

// telling returns the process of a tree whose state says most: a runnable one denies that
// the tree hangs; one that is stopped explains why its parent waits.
func telling(tree []process) process {
	order := "RTtDS"
	place := func(p process) int {
		if i := strings.Index(order, p.state); i >= 0 {
			return i
		}
		return len(order)
	}
	best := tree[0]
	for _, p := range tree[1:] {
		if place(p) < place(best) || place(p) == place(best) && best.pid != tree[0].pid && p.pid < best.pid {
			best = p
		}
	}
	return best
}

var stateNames = map[string]string{"R": "running", "S": "sleeping", "D": "waiting in the kernel, not to be interrupted",
	"T": "stopped", "t": "stopped by a debugger", "Z": "ended", "I": "idle", "X": "dead"}

// describe says a state in words: "state T (stopped), wchan do_signal_stop".
func describe(state, wchan string) string {
	text := "state " + state
	if name := stateNames[state]; name != "" {
		text += " (" + name + ")"
	}
	if wchan != "" {
		text += ", wchan " + wchan
	}
	return text
}

func (x suspect) evidence() string {
	text := describe(x.worst.state, x.wchan)
	if x.worst.pid != x.Pid {
		text = fmt.Sprintf("its child %s (pid %d) is in %s", printable(x.worst.name, 32), x.worst.pid, text)
	}
	missing := "no CPU"
	if x.Ours {
		missing = "no progress"
	}
	text += fmt.Sprintf(", %s for %d s", missing, int(x.silent.idle.Seconds()))
	if x.place != "" {
		text += ", last in " + x.place
	}
	return text
}
