package jobs

import (
	"time"

	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// pace is how fast a rank goes through a phase. What a worker says again without having
// gone on does not change it.
type pace struct {
	phase       string
	began, last time.Time // of the phase, and when the latest unit was done
	done, total int32
}

func (p *pace) update(at time.Time, m *wanrunv1.Progress) {
	if m.GetPhase() != p.phase {
		*p = pace{phase: m.GetPhase(), began: at, last: at, done: m.GetDone(), total: m.GetTotal()}
		if p.done > 0 { // it was not heard from the beginning: nothing is known of what is done
			p.began = time.Time{}
		}
		return
	}
	if m.GetDone() > p.done {
		p.last = at
	}
	p.done, p.total = m.GetDone(), m.GetTotal()
}

// eta is how long the phase will still take, in seconds; nil as long as nothing is known.
func (p *pace) eta(now time.Time) *float64 {
	if p.began.IsZero() || p.done <= 0 || p.total < p.done {
		return nil
	}
	unit := p.last.Sub(p.began).Seconds() / float64(p.done)
	left := max(unit*float64(p.total-p.done)-now.Sub(p.last).Seconds(), 0)
	return &left
}
