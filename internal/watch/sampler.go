package watch

import (
	"context"
	"io/fs"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/cgroup"
	"github.com/wanrun/wanrun/internal/slurm"
)

// Options say what a Sampler watches for, and whom it tells.
type Options struct {
	Root fs.FS // os.DirFS("/")
	// HangTimeout is how long a rank may show no sign of life; 0 for ever.
	HangTimeout time.Duration
	// Sample takes what was seen of a rank, and Silent that a rank hangs. They are called
	// by Step, without a lock held; nil for neither.
	Sample func(Sample)
	Silent func(Silence)

	// Kernel is the kernel's log, nil where it cannot be read.
	Kernel *KernelLog
	// Remedy ends the explanation of an out-of-memory kill; "" for a general one.
	Remedy string
	// SlurmJob and Slurm ask Slurm why a job was killed; "" and nil outside Slurm.
	SlurmJob string
	Slurm    slurm.Command
}

// Sample is what was seen of a rank's process at one moment.
type Sample struct {
	At            time.Time
	Attempt, Rank int
	RSS, RSSPeak  int64         // bytes, of the process; -1 if unknown
	CPU           time.Duration // used so far by the process and what it started
	State         string        // of /proc: R, S, D, T, Z
	Wchan         string        // what the kernel waits for, "" if unknown
}

// Sampler looks at the ranks of a node. Its methods may be called at the same time.
type Sampler struct {
	Options

	mu     sync.Mutex
	ranks  map[key]*watched
	last   time.Time // of the latest Step
	shared map[string]readings
	kernel map[int]int // threads of the kernel's: for how many looks they are left out
}

type key struct{ attempt, rank int }

// watched is what is remembered of a rank.
type watched struct {
	Target
	start  uint64 // ticks, of the process; 0 until it was seen
	place  string // a worker's own words, "" until it said some
	silent silence
	cpu    time.Duration // never falls
	peak   int64

	added  time.Time
	groups string       // /proc/PID/cgroup
	group  cgroup.Group // where its memory is counted
	folder string       // current directory
	core   string       // soft limit of core files, as /proc/PID/limits writes it
}

// NewSampler returns a Sampler that watches nobody yet.
func NewSampler(o Options) *Sampler {
	return &Sampler{Options: o, ranks: map[key]*watched{}, shared: map[string]readings{}, kernel: map[int]int{}}
}

// Add watches a rank whose process has just started at the time now.
func (s *Sampler) Add(t Target, now time.Time) {
	w := &watched{Target: t, peak: Unknown, added: now}
	if p, err := readProcess(s.Root, t.Pid); err == nil {
		w.start = p.start
	}
	w.learn(s.Root)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ranks[key{t.Attempt, t.Rank}] = w
	s.count(w.group, now)
}

// Beat notes where a worker says that it is: a phase and how far in it. A word that has
// changed is progress; the same word again is not.
func (s *Sampler) Beat(attempt, rank int, where string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.ranks[key{attempt, rank}]; w != nil && w.place != where {
		w.place = where
		w.silent.alive(w.cpu)
	}
}

// Active notes any other sign of a rank's life, such as a line that it has printed.
func (s *Sampler) Active(attempt, rank int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.ranks[key{attempt, rank}]; w != nil && !w.Ours {
		w.silent.alive(w.cpu)
	}
}

// Remove forgets a rank. Ask Killed and Core before.
func (s *Sampler) Remove(attempt, rank int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ranks, key{attempt, rank})
}

// Run looks at each tick until ctx ends. A tick a second is meant.
func (s *Sampler) Run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks:
			s.Step(now)
		}
	}
}

// Step looks once at every rank.
func (s *Sampler) Step(now time.Time) {
	samples, silences := s.look(now)
	if s.Sample != nil {
		for _, sample := range samples {
			s.Sample(sample)
		}
	}
	if s.Silent != nil {
		for _, silence := range silences {
			s.Silent(silence)
		}
	}
}

func (s *Sampler) look(now time.Time) (samples []Sample, silences []Silence) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ranks) == 0 {
		s.last = now
		return nil, nil
	}
	all, err := readProcesses(s.Root, s.isKernel)
	if err != nil {
		return nil, nil // without /proc nothing is known
	}
	s.rememberKernel(all)
	pids := make([]int, 0, len(s.ranks))
	for _, w := range s.ranks {
		pids = append(pids, w.Pid)
	}
	found := trees(all, pids)
	passed := s.passed(now)
	for _, w := range s.ordered() {
		tree := found[w.Pid]
		if len(tree) == 0 || w.start != 0 && tree[0].start != w.start {
			continue // it has ended, and its number may be another's
		}
		w.start = tree[0].start
		samples = append(samples, w.sample(s.Root, now, tree))
		s.count(w.group, now)
		w.silent.observe(tree, w.Ours, passed)
	}
	if s.HangTimeout > 0 {
		silences = s.findSilent(now, found)
	}
	return samples, silences
}

// isKernel returns whether a number was a thread of the kernel's some looks before. A large
// machine has thousands of them, and they never become ranks.
func (s *Sampler) isKernel(pid int) bool {
	if s.kernel[pid] == 0 {
		delete(s.kernel, pid)
		return false
	}
	s.kernel[pid]--
	return true
}

func (s *Sampler) rememberKernel(all map[int]process) {
	const looks = 10 // their numbers come again, seldom
	for pid, p := range all {
		if p.kernel {
			s.kernel[pid] = looks
		}
	}
}

// sample measures one rank whose tree begins with itself.
func (w *watched) sample(root fs.FS, now time.Time, tree []process) Sample {
	w.learn(root)
	memory := readStatus(root, w.Pid)
	w.peak = max(w.peak, memory.peak)
	w.cpu = max(w.cpu, cpuOf(tree))
	return Sample{At: now, Attempt: w.Attempt, Rank: w.Rank, RSS: memory.rss, RSSPeak: w.peak, CPU: w.cpu,
		State: tree[0].state, Wchan: readWchan(root, procFolder(w.Pid))}
}

func cpuOf(tree []process) time.Duration {
	var sum time.Duration
	for _, p := range tree {
		sum += p.own + p.reaped
	}
	return sum
}
