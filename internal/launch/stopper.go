package launch

import "time"

// action is what the stopper wants done to the workers.
type action int

const (
	nothing action = iota
	ask            // tell them over the control channel to end
	term           // SIGTERM to their groups
	kill           // SIGKILL to their groups
	leave          // they cannot be ended: go without them
)

const (
	// termPatience is how long workers have after SIGTERM, killPatience after SIGKILL,
	// which takes long only if the kernel holds the process.
	termPatience = 2 * time.Second
	killPatience = 10 * time.Second
	// failPatience is how long the ranks beside one that failed have to end by
	// themselves. All shall be gone within 300 ms: their work is lost, and the
	// devices are wanted.
	failPatience = 150 * time.Millisecond
)

// stopper decides how workers are brought to their end: asked, then told, then
// killed. It is pure: the time comes in, what is to be done goes out.
type stopper struct {
	grace    time.Duration
	failed   bool      // a rank did; not the user stops
	stage    action    // the last one decided
	deadline time.Time // of the stage; zero: none
}

// stop is the user's wish: the first asks, the second does not wait any longer.
func (s *stopper) stop(now time.Time) action {
	switch s.stage {
	case nothing:
		return s.enter(ask, now, s.grace)
	case ask, term:
		return s.kill(now)
	default:
		return nothing
	}
}

// fail ends the ranks beside one that failed: they are asked, and soon killed. What
// is being stopped already goes on as it does.
func (s *stopper) fail(now time.Time) action {
	if s.stage != nothing {
		return nothing
	}
	s.failed = true
	return s.enter(ask, now, failPatience)
}

// kill does not ask.
func (s *stopper) kill(now time.Time) action { return s.enter(kill, now, killPatience) }

// tick goes on to the next stage when the deadline has passed.
func (s *stopper) tick(now time.Time) action {
	if s.deadline.IsZero() || now.Before(s.deadline) {
		return nothing
	}
	switch {
	case s.stage == ask && !s.failed:
		return s.enter(term, now, termPatience)
	case s.stage == ask, s.stage == term:
		return s.kill(now)
	case s.stage == kill:
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
