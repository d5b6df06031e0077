package launch

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// maxSpool bounds what waits for a reader that is slow.
const maxSpool = 8 << 20

// Spool passes writes on from a goroutine of its own, so that a stopped terminal
// or a full pipe holds up neither the run nor its end. What is too much to keep
// is dropped, which is said when writing goes on.
type Spool struct {
	to io.Writer

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []byte
	dropped int
	closed  bool
	done    chan struct{}
}

// NewSpool starts passing writes on to w.
func NewSpool(w io.Writer) *Spool {
	s := &Spool{to: w, done: make(chan struct{})}
	s.wake = sync.NewCond(&s.mu)
	go s.run()
	return s
}

// Write takes p, and never waits or fails.
func (s *Spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting)+len(p) > maxSpool || s.closed {
		s.dropped += len(p)
	} else {
		s.waiting = append(s.waiting, p...)
	}
	s.wake.Signal()
	return len(p), nil
}

func (s *Spool) run() {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.waiting) == 0 && s.dropped == 0 && !s.closed {
			s.wake.Wait()
		}
		next, dropped := s.waiting, s.dropped
		s.waiting, s.dropped = nil, 0
		finished := s.closed && len(next) == 0 && dropped == 0
		s.mu.Unlock()
		if finished {
			return
		}
		if dropped > 0 {
			next = fmt.Appendf(next, "\n[%d bytes were not shown: nothing read them]\n", dropped)
		}
		// A reader that is gone is no reason to stop the run.
		_, _ = s.to.Write(next)
	}
}

// Close passes on what waits, but waits no longer than timeout for it.
func (s *Spool) Close(timeout time.Duration) {
	s.mu.Lock()
	s.closed = true
	s.wake.Signal()
	s.mu.Unlock()
	select {
	case <-s.done:
	case <-time.After(timeout):
	}
}
