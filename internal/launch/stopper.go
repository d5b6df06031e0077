package launch

import "time"

// action is what the stopper wants done to the worker.
type action int

const (
	nothing action = iota
	ask            // tell it over the control channel to end
	term           // SIGTERM to its group
	kill           // SIGKILL to its group
	leave          // it cannot be ended: go without it
)

const (
	// termPatience is how long the worker has after SIGTERM, killPatience after SIGKILL,
	// which takes long only if the kernel holds the process.
	termPatience = 2 * time.Second
	killPatience = 10 * time.Second
)

// stopper decides how a worker is brought to its end: asked, then told, then
// killed. It is pure: the time comes in, what is to be done goes out.
type stopper struct {
	grace    time.Duration
	stage    action    // the last one decided
	deadline time.Time // of the stage; zero: none
}

// stop is the user's wish: the first asks, the second does not wait any longer.
func (s *stopper) stop(now time.Time) action {
	switch s.stage {
	case nothing:
		return s.enter(ask, now, s.grace)
	case ask, term:
		return s.enter(kill, now, killPatience)
	default:
		return nothing
	}
}

// expect gives the worker a time in which to end by itself, or to do whatever
// calm is called for.
func (s *stopper) expect(now time.Time, within time.Duration) {
	if s.stage == nothing {
		s.deadline = now.Add(within)
	}
}

// calm takes an expectation back.
func (s *stopper) calm() {
	if s.stage == nothing {
		s.deadline = time.Time{}
	}
}

// tick goes on to the next stage when the deadline has passed.
func (s *stopper) tick(now time.Time) action {
	if s.deadline.IsZero() || now.Before(s.deadline) {
		return nothing
	}
	switch s.stage {
	case nothing, ask:
		return s.enter(term, now, termPatience)
	case term:
		return s.enter(kill, now, killPatience)
	case kill:
		s.stage, s.deadline = leave, time.Time{}
		return leave
	default:
		return nothing
	}
}

func (s *stopper) enter(stage action, now time.Time, patience time.Duration) action {
	s.stage, s.deadline = stage, now.Add(patience)
	return stage
}
