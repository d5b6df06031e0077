package group

import (
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

// Machine decides for one job. Its methods are for one goroutine.
//
// A job is a number of attempts, one after the other. An attempt gathers the nodes,
// starts the ranks of all of them from one table, and brings all to an end when one
// fails; it is over when no rank runs any more. Only then is it judged: by the times
// at which things happened, and not by the order in which they became known.
type Machine struct {
	config Config
	now    time.Time // the latest that Step was told
	out    []Action
	state  state
	nodes  []nodeState // by number
	past   []Attempt   // those that are over; when the job is, the last is the job's

	// Of gathering.
	since     time.Time // it began
	notBefore time.Time // it may end
	nextWord  time.Time // who is missing is said again

	// Of the job.
	started time.Time // the first start
	user    *wish     // what the user wanted first, or last after a drain; nil: nothing
	stops   int       // how often the user wanted the end

	current *attempt // nil while gathering
}

// state is what the job does.
type state int

const (
	gathering state = iota // for an attempt
	running                // an attempt, to its end
	over
)

// wish is what the user wants, or a scheduler in the user's name.
type wish struct {
	at     time.Time
	signal syscall.Signal // 0: it came otherwise
	code   ends.Code
	text   string // "stopped by SIGTERM"
	drain  bool
}

// attempt is the state of a running attempt.
type attempt struct {
	number  int
	started time.Time
	ranks   []*rank // by number
	stage   stage
	due     time.Time // of the stage; zero: none
	dumped  []bool    // by node
	forUser bool      // the stage is the user's wish and not a failure: there is time

	asked     time.Time // the ranks were asked to end, last; zero: they were not
	askCode   ends.Code // with what
	killed    bool      // SIGKILL was sent
	success   time.Time // rank 0 ended well, which is enough; zero: it did not, or is not
	hang      *hang     // nil: no rank hangs
	timeout   time.Time // the job's time was up; zero: it was not
	losses    []loss    // of nodes with ranks on them
	silence   time.Time // the last end of a rank; what it said may still be on the way
	straggle  time.Time // who still runs is said; zero: it was, or is not to be
	straggled bool      // a time was set for it
}

// loss is that of a node with ranks on it.
type loss struct {
	at   time.Time
	node int
	text string
}

// New returns the machine of a job. The first Step starts its clock.
func New(c Config) *Machine {
	c.Nodes = max(c.Nodes, 1)
	m := &Machine{config: c, nodes: make([]nodeState, c.Nodes)}
	for i := range m.nodes {
		if i < len(c.Names) {
			m.nodes[i].name = plain(c.Names[i], maxName)
		}
	}
	return m
}

// Step takes an event and says what is to be done, in order. now is the time at which
// Step is called; the event's own time may be earlier. Times that go back, and events
// that mean nothing where the job is, are harmless.
func (m *Machine) Step(now time.Time, e Event) []Action {
	if now.After(m.now) {
		m.now = now
	}
	if m.since.IsZero() {
		m.gather(m.now)
	}
	if e.At.IsZero() || e.At.After(m.now) {
		e.At = m.now // a clock cannot be ahead of the message
	}
	m.out = nil
	m.take(e)
	for m.goOn() {
	}
	return m.out
}

// Deadline is the time at which Step wants a Tick if nothing else happens; zero: never.
func (m *Machine) Deadline() time.Time {
	var next time.Time
	for _, d := range m.dues() {
		if next.IsZero() || d.at.Before(next) {
			next = d.at
		}
	}
	return next
}

// Outcome is how the job ended, once it has: its Attempts are empty before.
func (m *Machine) Outcome() Outcome {
	if m.state != over {
		return Outcome{}
	}
	o := Outcome{Attempts: m.past}
	if c := o.Attempts[len(o.Attempts)-1].Cause; c != nil {
		o.Code = c.Code
	}
	return o
}

// take does what the event itself asks for.
func (m *Machine) take(e Event) {
	switch e.Kind {
	case Join:
		m.join(e)
	case Lost, Left:
		m.lose(e)
	case Signaled:
		m.signaled(e)
	case Stop:
		m.wantStop(wish{at: e.At, code: ends.Terminated, text: "stopped by wanrun stop"})
	case Drain:
		m.wantDrain(e.At, plain(e.Text, maxText))
	case Dumped:
		m.dumpedBy(e.Node)
	default:
		m.takeOfRank(e)
	}
}

// due is something to do at a time, if it comes to that.
type due struct {
	at time.Time
	do func()
}

// goOn does what has become due or possible. It says whether there may be more.
func (m *Machine) goOn() bool {
	switch m.state {
	case gathering:
		if m.met() {
			m.start()
			return m.state != over
		}
	case running:
		if m.current.ended(m.now) {
			m.conclude(nil)
			return m.state != over
		}
	case over:
		return false
	}
	for _, d := range m.dues() {
		if !m.now.Before(d.at) {
			d.do()
			return true
		}
	}
	return false
}

// dues are all things that have a time now. What do does must take its due away or move
// it to a later time.
func (m *Machine) dues() []due {
	if m.since.IsZero() {
		return nil // no clock yet
	}
	var all []due
	add := func(at time.Time, do func()) {
		if !at.IsZero() {
			all = append(all, due{at, do})
		}
	}
	switch m.state {
	case gathering:
		if m.full() {
			add(m.notBefore, func() {}) // goOn starts
		} else {
			if m.config.JoinTimeout > 0 {
				add(m.since.Add(m.config.JoinTimeout), m.missing)
			}
			if m.config.Nodes > 1 {
				add(m.nextWord, m.sayMissing)
			}
		}
		if !m.started.IsZero() && m.config.Timeout > 0 {
			add(m.started.Add(m.config.Timeout), func() { m.conclude(m.timeoutCause(m.started.Add(m.config.Timeout))) })
		}
	case running:
		m.attemptDues(add)
	}
	return all
}

// attemptDues are the times of the attempt that runs.
func (m *Machine) attemptDues(add func(time.Time, func())) {
	a := m.current
	if !a.running() {
		add(a.silence.Add(drainPatience), func() {}) // goOn concludes
		return
	}
	add(a.due, m.nextStage)
	add(a.straggle, m.sayStragglers)
	if a.stage != nothing && !a.draining() {
		return // all end already
	}
	if m.config.Timeout > 0 && a.timeout.IsZero() {
		add(m.started.Add(m.config.Timeout), m.timeUp)
	}
	hangs := a.stage == nothing && m.config.Mode == Ours && m.config.HangTimeout > 0
	var late, still *rank // the first to be late, and to be too long at one place
	for _, r := range a.ranks {
		if !r.live() {
			continue
		}
		if !r.due.IsZero() && (late == nil || r.due.Before(late.due)) {
			late = r
		}
		if hangs && r.ready && !r.reported() && r.lost == nil && (still == nil || r.moved.Before(still.moved)) {
			still = r
		}
	}
	if late != nil {
		add(late.due, func() { m.overdue(late) })
	}
	if still != nil {
		at := still.moved.Add(m.config.HangTimeout)
		add(at, func() { m.silent(still, at, "") })
	}
}

// act and say add to what Step returns.
func (m *Machine) act(a Action) { m.out = append(m.out, a) }

func (m *Machine) say(text string) { m.act(Action{Kind: Say, Text: text}) }

func (m *Machine) inform(text string) { m.act(Action{Kind: Say, Text: text, Info: true}) }

// attemptNumber is that of the attempt that gathers or runs.
func (m *Machine) attemptNumber() int { return len(m.past) }
