package group

import (
	"fmt"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

const (
	// lonelyPatience is what a worker of ours has to end after its stream broke.
	lonelyPatience = 3 * time.Second
	// drainPatience is how long the last words of workers of ours that ended are waited for.
	drainPatience = time.Second
)

// life is where a rank is in its.
type life int

const (
	starting life = iota // on its node
	alive
	ended    // or not started
	withNode // its node was lost: what is left of it the node's guard ends
)

// rank is what is known of a rank.
type rank struct {
	RankState
	life       life
	ready      bool      // said hello
	finished   bool      // reported that its work is done
	detached   bool      // its stream ended
	moved      time.Time // it last went on
	due        time.Time // it must have gone on: started, said hello, ended; zero: whenever it likes
	failed     time.Time // the first sign that it fails; zero: none
	asked      bool      // its process was ended by us, or not tried
	stuck      bool      // it is held from outside
	obeyed     bool      // its report says that it was asked to end
	memory     Memory
	words      string  // what the node knows of its end
	report     *report // that it failed; nil: none
	lost       *report // its stream ended before a report, and why
	notStarted *report // why
	late       *report // what it did not do in time
}

// report is a failure as it was told: when, which class, and why.
type report struct {
	at   time.Time
	code ends.Code
	text string
}

// live says that the rank's process runs, or may.
func (r *rank) live() bool { return r.life == starting || r.life == alive }

// reported says that a worker of ours has reported how it ends.
func (r *rank) reported() bool { return r.finished || r.report != nil }

// clean says that the process ended by itself, and with 0.
func (r *rank) clean() bool {
	return r.life == ended && r.notStarted == nil && !r.Ended.IsZero() && r.Code == 0 && r.Signal == 0
}

// running says that a rank's process runs, or may.
func (a *attempt) running() bool {
	for _, r := range a.ranks {
		if r.live() {
			return true
		}
	}
	return false
}

// ended says that the attempt is over: no rank runs, and all have said what they will.
func (a *attempt) ended(now time.Time) bool {
	if a.stage == leave {
		return true
	}
	if a.running() {
		return false
	}
	return !now.Before(a.silence.Add(drainPatience)) || !a.talking()
}

// talking says that the end of a worker's stream is still to come.
func (a *attempt) talking() bool {
	for _, r := range a.ranks {
		if r.ready && !r.detached && r.life == ended {
			return true
		}
	}
	return false
}

// loseNode says whether a rank may have run on a node that is lost now.
func (a *attempt) loseNode(node int) bool {
	any := false
	for _, r := range a.ranks {
		if r.Node == node && r.live() {
			r.life, any = withNode, true
		}
	}
	return any
}

// takeOfRank takes an event of a rank of this attempt; others mean nothing any more.
func (m *Machine) takeOfRank(e Event) {
	if m.state != running || e.Attempt != m.current.number || e.Rank < 0 || e.Rank >= len(m.current.ranks) {
		return
	}
	r := m.current.ranks[e.Rank]
	if r.Node != e.Node {
		return
	}
	switch e.Kind {
	case Started:
		m.rankStarted(r, e)
	case NotStarted:
		m.rankNotStarted(r, e)
	case Ready:
		if r.live() && !r.ready {
			r.life, r.ready, r.due, r.moved = alive, true, time.Time{}, m.now
		}
	case Beat:
		if where := plain(e.Where, maxWhere); where != r.Where {
			r.Where, r.moved = where, m.now
		}
	case Failing:
		m.rankFailing(r, e)
	case Finished:
		if !r.reported() {
			r.finished = true
			r.due = m.now.Add(m.config.Grace + lonelyPatience)
			m.rankWell(r)
		}
	case Detached:
		m.rankDetached(r, e)
	case Exited:
		m.rankExited(r, e)
	case Silent:
		if r.live() && !r.reported() {
			if e.Where != "" {
				r.Where = plain(e.Where, maxWhere)
			}
			r.stuck = r.stuck || e.Stuck
			m.silent(r, e.At, plain(e.Text, maxText))
		}
	}
}

func (m *Machine) rankStarted(r *rank, e Event) {
	r.Pid = max(e.Pid, 0)
	if r.life != starting {
		return // told late
	}
	r.life = alive
	if m.config.Mode != Ours {
		r.due = time.Time{} // it will not say hello
	}
}

func (m *Machine) rankNotStarted(r *rank, e Event) {
	if r.life != starting {
		return
	}
	r.life, r.asked = ended, e.Asked
	m.current.silence = m.now
	if !e.Asked {
		r.notStarted = &report{e.At, codeOf(e.Code), plain(e.Text, maxText)}
		if r.notStarted.text == "" {
			r.notStarted.text = m.who(r) + " could not be started"
		}
		m.broke(r, e.At)
	}
}

func (m *Machine) rankFailing(r *rank, e Event) {
	if r.report != nil && !e.At.Before(r.report.at) {
		return
	}
	r.report = &report{e.At, codeOf(e.Code), plain(e.Text, maxText)}
	r.finished = false
	if e.Where != "" {
		r.Where = plain(e.Where, maxWhere)
	}
	r.due = m.now.Add(m.config.Grace + lonelyPatience)
	a := m.current
	// Who lost a peer may have noticed it before it was asked.
	r.obeyed = !a.asked.IsZero() && r.report.code == a.askCode && (a.askCode != ends.PeerLost || !e.At.Before(a.asked))
	if !r.obeyed {
		m.broke(r, e.At)
	}
}

func (m *Machine) rankDetached(r *rank, e Event) {
	if r.detached {
		return
	}
	r.detached = true
	if e.Text == "" || r.reported() || r.asked || m.current.killed {
		return // as it should, or our doing
	}
	r.lost = &report{e.At, ends.Code(e.Code), plain(e.Text, maxText)}
	r.due = m.now.Add(lonelyPatience)
	m.broke(r, e.At)
}

func (m *Machine) rankExited(r *rank, e Event) {
	if r.life == ended {
		return // told twice
	}
	r.life, r.Ended, r.Signal, r.asked = ended, e.At, e.Signal, e.Asked
	if e.Pid > 0 {
		r.Pid = e.Pid
	}
	r.Code = e.Code
	if r.Code < 0 || r.Code > 255 {
		r.Code = int(ends.Bug)
	}
	if r.Signal < 0 || r.Signal > maxSignal {
		r.Signal, r.Code = 0, int(ends.Bug)
	}
	r.memory, r.words = e.Memory, plain(e.Text, maxText)
	m.current.silence = m.now
	switch {
	case r.clean() && (m.config.Mode != Ours || r.ready):
		m.rankWell(r)
	case !r.asked && !r.obeyed:
		m.broke(r, e.At)
	}
}

// rankWell takes note that a rank may have ended well.
func (m *Machine) rankWell(r *rank) {
	a := m.current
	if !m.well(r) || a.stage != nothing || !a.running() {
		return
	}
	switch {
	case m.config.Success == FirstRank && r.Rank == 0:
		a.success, a.forUser = r.Ended, true
		m.ask(ends.PeerLost, "rank 0 is done, and the others end with it", m.config.Grace)
	case m.config.StragglerAfter > 0 && a.straggle.IsZero() && !a.straggled:
		a.straggle, a.straggled = m.now.Add(m.config.StragglerAfter), true
	}
}

// well says that a rank ended as it should.
func (m *Machine) well(r *rank) bool { return r.clean() && (m.config.Mode != Ours || r.finished) }

// broke notes that a rank failed, and ends the others: they could only wait for it.
// One that is alone has the time to end by itself.
func (m *Machine) broke(r *rank, at time.Time) {
	if r.failed.IsZero() || at.Before(r.failed) {
		r.failed = at
	}
	if len(m.current.ranks) > 1 {
		m.fail(fmt.Sprintf("rank %d failed, and the others end with it", r.Rank))
	}
}

// overdue ends a rank that did not go on, and the others with it.
func (m *Machine) overdue(r *rank) {
	at := r.due
	r.due = time.Time{}
	if r.failed.IsZero() {
		r.failed = at
	}
	switch {
	case r.lost != nil:
		// What it lost is why it is ended; the charge says so.
	case r.reported():
		r.late = &report{at, ends.Hang, fmt.Sprintf("%s%s did not end after its report and was killed", m.who(r), process(r))}
	case r.life == starting:
		r.late = &report{at, ends.CannotStart, fmt.Sprintf("%s did not start within %v", m.who(r), m.config.StartTimeout)}
	default:
		r.late = &report{at, ends.CannotStart, fmt.Sprintf("%s%s did not say hello within %v and was killed", m.who(r), process(r), m.config.StartTimeout)}
	}
	m.fail(fmt.Sprintf("rank %d failed, and the others end with it", r.Rank))
}

// sayStragglers says who still runs some time after the first ended.
func (m *Machine) sayStragglers() {
	a := m.current
	a.straggle = time.Time{}
	var still []int
	for _, r := range a.ranks {
		if r.live() {
			still = append(still, r.Rank)
		}
	}
	m.say(fmt.Sprintf("%v after the first rank ended well, %d of %d ranks still run: %s", m.config.StragglerAfter, len(still), len(a.ranks), ranges(still)))
}
