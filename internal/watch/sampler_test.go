package watch

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ticks := make(chan time.Time)
	seen := make(chan Sample, 1)
	s := NewSampler(Options{Root: os.DirFS("/"), Sample: func(s Sample) { seen <- s }})
	s.Add(Target{Attempt: 1, Rank: 2, Pid: os.Getpid()}, epoch)
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, ticks) })
	ticks <- epoch.Add(time.Second)
	if got := <-seen; got.Rank != 2 || got.RSS < 1<<20 || !got.At.Equal(epoch.Add(time.Second)) {
		t.Errorf("%+v", got)
	}
	cancel()
	running.Wait()
}

// TestTogether calls all methods at the same time; the race detector judges.
func TestTogether(t *testing.T) {
	s := NewSampler(Options{Root: os.DirFS("/"), HangTimeout: time.Second, Sample: func(Sample) {}, Silent: func(Silence) {}})
	var running sync.WaitGroup
	for rank := range 4 {
		running.Go(func() {
			for i := range 10 {
				now := epoch.Add(time.Duration(i) * time.Second)
				s.Add(Target{Attempt: i, Rank: rank, Pid: os.Getpid(), Ours: rank%2 == 0}, now)
				s.Beat(i, rank, "x")
				s.Active(i, rank)
				s.Step(now)
				s.Killed(context.Background(), End{Attempt: i, Rank: rank, At: now})
				s.Core(i, rank, 9, false)
				s.Remove(i, rank)
			}
		})
	}
	running.Wait()
	if len(s.ranks) != 0 {
		t.Errorf("%d ranks are left", len(s.ranks))
	}
}

// BenchmarkStep looks at 16 ranks; each is this process.
func BenchmarkStep(b *testing.B) {
	s := NewSampler(Options{Root: os.DirFS("/"), HangTimeout: time.Hour})
	for rank := range 16 {
		s.Add(Target{Attempt: 1, Rank: rank, Pid: os.Getpid()}, epoch)
	}
	now := epoch
	for b.Loop() {
		now = now.Add(time.Second)
		s.Step(now)
	}
}
