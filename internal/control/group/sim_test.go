package group

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

// cluster is a simulated launcher with its nodes: what really happens, when the machine
// gets to know of it, and when what it decides arrives.
type cluster struct {
	r       *rand.Rand
	w       *watch
	config  Config
	now     time.Time
	queue   queue
	serial  int
	nodes   []*simNode
	ordered bool // messages of a node keep their order
	ended   bool
	err     error
	first   map[int]failure // the first own failure of a rank, by attempt
	lost    map[[2]int]bool // attempts and nodes that were lost in them
	seen    map[ActionKind]bool
}

// simNode is a node: its agent, and the processes that it started.
type simNode struct {
	number  int
	ranks   int
	session int // of its agent; a new one with each connection
	there   bool
	rejoins int
	last    time.Time // the latest delivery to the launcher
	procs   []*proc
}

// proc is a rank's process.
type proc struct {
	rank, attempt                int
	alive, doomed                bool // doomed: it is told to die, or not to start
	stubborn, unkillable, asking bool
}

type failure struct {
	at   time.Time
	rank int
	node int
}

// in does something after a time.
func (c *cluster) in(d time.Duration, do func()) {
	c.serial++
	heap.Push(&c.queue, job{c.now.Add(d), c.serial, do})
}

func (c *cluster) upTo(d time.Duration) time.Duration { return time.Duration(c.r.Int64N(int64(d))) }

func (c *cluster) chance(p float64) bool { return c.r.Float64() < p }

// newCluster draws a job and what will go wrong in it.
func newCluster(seed uint64) *cluster {
	c := &cluster{r: rand.New(rand.NewPCG(seed, 1)), now: epoch, first: map[int]failure{}, lost: map[[2]int]bool{}, seen: map[ActionKind]bool{}}
	c.config = Defaults([]Mode{Ours, Any}[c.r.IntN(2)])
	c.config.Nodes = 1 + c.r.IntN(4)
	c.config.MaxRestarts = c.r.IntN(4)
	c.config.JoinTimeout, c.config.StartTimeout, c.config.Timeout = 20*time.Second, 10*time.Second, time.Minute
	c.config.Grace, c.config.DrainGrace = 2*time.Second, 5*time.Second
	if c.chance(0.5) {
		c.config.HangTimeout = 5 * time.Second
	}
	if c.chance(0.3) {
		c.config.RetryOn = []Reason{{Kind: ReasonAny}}
	}
	if c.chance(0.2) {
		c.config.Success = FirstRank
	}
	c.config.OnUSR1 = []OnUSR1{Forward, Draining, Stopping}[c.r.IntN(3)]
	c.ordered = c.chance(0.6)
	c.w = &watch{m: New(c.config)}
	for i := range c.config.Nodes {
		n := &simNode{number: i, ranks: 1 + c.r.IntN(3)}
		c.nodes = append(c.nodes, n)
		c.in(c.upTo(3*time.Second), func() { c.connect(n) })
		if i > 0 && c.chance(0.15) {
			c.in(c.upTo(20*time.Second), func() { c.lose(n, c.chance(0.7)) })
		}
	}
	c.in(0, func() { c.step(Event{Kind: Tick}) })
	c.trouble()
	return c
}

// trouble are the things that come from outside.
func (c *cluster) trouble() {
	if c.chance(0.15) {
		for range 1 + c.r.IntN(3) {
			sig := []syscall.Signal{1, 2, 3, 10, 12, 15}[c.r.IntN(6)]
			c.in(c.upTo(15*time.Second), func() { c.step(Event{Kind: Signaled, Signal: int(sig), At: c.now}) })
		}
	}
	if c.chance(0.05) {
		kind := []EventKind{Stop, Drain}[c.r.IntN(2)]
		c.in(c.upTo(15*time.Second), func() { c.step(Event{Kind: kind, At: c.now}) })
	}
	if c.chance(0.1) { // an agent of another job, or with a wrong number
		e := Event{Kind: Join, Node: c.r.IntN(6) - 1, Session: "foreign", Name: "x", Ranks: 1 + c.r.IntN(2)}
		c.in(c.upTo(10*time.Second), func() { c.step(e) })
	}
	if c.chance(0.2) { // messages that make no sense
		for range 20 {
			e := Event{Kind: kinds[c.r.IntN(len(kinds))], Attempt: 7 + c.r.IntN(3), Rank: c.r.IntN(20) - 1, Node: c.r.IntN(6) - 1, Session: "none"}
			switch e.Kind {
			case Signaled, Stop, Drain, Join:
				continue
			}
			c.in(c.upTo(20*time.Second), func() { c.step(e) })
		}
	}
}

// connect has a node's agent join; nothing runs on the node then.
func (c *cluster) connect(n *simNode) {
	for _, p := range n.procs {
		if p.alive {
			return // the kernel holds it; the agent stays away
		}
	}
	n.session++
	n.there, n.last = true, c.now
	c.tell(n, Event{Kind: Join, Ranks: n.ranks, Session: n.name()})
}

func (n *simNode) name() string { return fmt.Sprintf("%d-%d", n.number, n.session) }

// lose cuts a node off, or lets it die: its guard ends all that runs there within a second.
func (c *cluster) lose(n *simNode, comesBack bool) {
	if !n.there || c.ended {
		return
	}
	e := Event{Kind: Lost, Session: n.name(), At: c.now.Add(-c.upTo(time.Second)), Text: "connection reset"}
	session := n.session
	n.there = false
	for _, p := range n.procs {
		p.doomed = true
		if p.alive && !p.unkillable {
			c.in(c.upTo(time.Second), func() { p.alive = false })
		}
	}
	c.in(c.upTo(4*time.Second), func() {
		c.lost[[2]int{c.w.started - 1, n.number}] = true
		e.Node = n.number
		c.step(e)
	})
	if comesBack && n.rejoins < 5 {
		n.rejoins++
		c.in(4*time.Second+c.upTo(8*time.Second), func() {
			if n.session == session {
				c.connect(n)
			}
		})
	}
}

// tell brings an event of a node to the launcher, some time later, perhaps twice.
func (c *cluster) tell(n *simNode, e Event) {
	e.Node = n.number
	if e.At.IsZero() {
		e.At = c.now
	}
	delay := c.upTo(20 * time.Millisecond)
	if c.chance(0.02) {
		delay = c.upTo(2 * time.Second)
	}
	at := c.now.Add(delay)
	if c.ordered {
		if at.Before(n.last) {
			at = n.last
		}
		n.last = at
	}
	session, drop := n.session, c.chance(0.5)
	c.in(at.Sub(c.now), func() {
		if n.session == session && n.there || !drop { // else it was on its way when the node was lost
			c.step(e)
		}
	})
	if c.chance(0.05) {
		c.in(at.Sub(c.now)+c.upTo(3*time.Second), func() { c.step(e) })
	}
}

// step is the launcher.
func (c *cluster) step(e Event) {
	if c.err != nil {
		return
	}
	actions, err := c.w.step(c.now, e)
	if err != nil {
		c.err = fmt.Errorf("%v, %+v: %w", c.now.Sub(epoch), e, err)
		return
	}
	for _, a := range actions {
		c.seen[a.Kind] = true
		switch a.Kind {
		case Start:
			c.checkStart(a)
		case End:
			c.ended = true
			c.checkEnd()
		}
		for _, n := range c.nodes {
			if (a.Kind == Refuse && a.Session != n.name()) || !n.there {
				continue
			}
			session := n.session
			at := c.now.Add(c.upTo(20 * time.Millisecond))
			if at.Before(n.last) {
				at = n.last // commands keep their order
			}
			n.last = at
			c.in(at.Sub(c.now), func() {
				if n.session == session && n.there {
					c.command(n, a)
				}
			})
		}
	}
}

// command is a node's agent.
func (c *cluster) command(n *simNode, a Action) {
	switch a.Kind {
	case Start:
		n.procs = nil
		for _, place := range a.Table {
			if place.Node == n.number {
				c.launch(n, place.Rank, a.Attempt)
			}
		}
	case Ask:
		for _, p := range n.procs {
			if p.alive && !p.stubborn && !p.asking {
				p.asking = true
				c.in(c.upTo(200*time.Millisecond), func() { c.obey(n, p, a.Code) })
			}
		}
	case Pass:
		for _, p := range n.procs {
			if p.alive && a.Signal == int(syscall.SIGTERM) && !p.stubborn {
				c.in(c.upTo(10*time.Millisecond), func() { c.die(n, p, Event{Signal: a.Signal, Asked: true}) })
			}
		}
	case Kill:
		for _, p := range n.procs {
			p.doomed = true
			if p.alive && !p.unkillable {
				c.in(c.upTo(20*time.Millisecond), func() { c.die(n, p, Event{Signal: 9, Asked: true}) })
			}
		}
	case Dump:
		if c.chance(0.9) {
			c.in(c.upTo(300*time.Millisecond), func() { c.tell(n, Event{Kind: Dumped}) })
		}
	case Refuse:
		c.lose(n, true)
	}
}

// launch starts a rank and decides what becomes of it.
func (c *cluster) launch(n *simNode, rank, attempt int) {
	p := &proc{rank: rank, attempt: attempt, stubborn: c.chance(0.1), unkillable: c.chance(0.005)}
	n.procs = append(n.procs, p)
	c.in(c.upTo(50*time.Millisecond), func() {
		if p.doomed || !n.there {
			if n.there {
				c.tell(n, Event{Kind: NotStarted, Attempt: attempt, Rank: rank, Asked: true})
			}
			return
		}
		if c.chance(0.01) {
			c.fails(n, p)
			c.tell(n, Event{Kind: NotStarted, Attempt: attempt, Rank: rank, Code: 126, Text: "exec format error"})
			return
		}
		p.alive = true
		c.tell(n, Event{Kind: Started, Attempt: attempt, Rank: rank, Pid: 1000 + rank})
		if c.config.Mode == Ours {
			c.tell(n, Event{Kind: Ready, Attempt: attempt, Rank: rank})
		}
		if c.chance(0.05) { // it hangs
			if c.config.Mode == Any && c.config.HangTimeout > 0 {
				c.in(c.config.HangTimeout+c.upTo(10*time.Second), func() {
					if p.alive && n.there {
						c.tell(n, Event{Kind: Silent, Attempt: attempt, Rank: rank, Text: "state T", Stuck: true})
					}
				})
			}
			return
		}
		c.beat(n, p, 0)
		c.in(c.upTo(15*time.Second), func() { c.finish(n, p) })
	})
}

func (c *cluster) beat(n *simNode, p *proc, step int) {
	if p.alive && n.there {
		c.tell(n, Event{Kind: Beat, Attempt: p.attempt, Rank: p.rank, Where: fmt.Sprint("step ", step)})
		c.in(time.Second, func() { c.beat(n, p, step+1) })
	}
}

// finish is a process's end by itself.
func (c *cluster) finish(n *simNode, p *proc) {
	if !p.alive || p.asking {
		return
	}
	switch x := c.r.Float64(); {
	case x < 0.85:
		if c.config.Mode == Ours {
			c.report(n, p, Event{Kind: Finished})
		}
		c.die(n, p, Event{})
	case x < 0.93:
		c.fails(n, p)
		if c.config.Mode == Ours && c.chance(0.5) {
			c.report(n, p, Event{Kind: Failing, Code: 65, Text: "bad picture"})
		}
		c.die(n, p, Event{Code: 1 + c.r.IntN(60)})
	default:
		c.fails(n, p)
		c.die(n, p, Event{Signal: []int{6, 9, 11}[c.r.IntN(3)]})
	}
}

// fails writes down that a rank fails by itself.
func (c *cluster) fails(n *simNode, p *proc) {
	if _, ok := c.first[p.attempt]; !ok && n.there {
		c.first[p.attempt] = failure{c.now, p.rank, n.number}
	}
}

func (c *cluster) report(n *simNode, p *proc, e Event) {
	if n.there {
		e.Attempt, e.Rank = p.attempt, p.rank
		c.tell(n, e)
	}
}

// obey is a process that ends since it was asked.
func (c *cluster) obey(n *simNode, p *proc, code ends.Code) {
	if !p.alive {
		return
	}
	switch {
	case c.config.Mode == Ours:
		c.report(n, p, Event{Kind: Failing, Code: int(code), Text: "asked to end"})
		c.die(n, p, Event{Code: int(code), Asked: true})
	case c.chance(0.5):
		c.die(n, p, Event{Asked: true})
	default:
		c.die(n, p, Event{Signal: 15, Asked: true})
	}
}

// die is the end of a process, which its node tells if it can.
func (c *cluster) die(n *simNode, p *proc, e Event) {
	if !p.alive {
		return
	}
	p.alive = false
	if !n.there {
		return
	}
	e.Kind, e.Attempt, e.Rank = Exited, p.attempt, p.rank
	if c.config.Mode == Ours {
		c.tell(n, Event{Kind: Detached, Attempt: p.attempt, Rank: p.rank})
	}
	c.tell(n, e)
}

// checkStart: nothing of an attempt runs when the next one starts.
func (c *cluster) checkStart(a Action) {
	for _, n := range c.nodes {
		for _, p := range n.procs {
			if p.alive {
				c.err = fmt.Errorf("%v: rank %d of attempt %d runs on node %d when attempt %d starts", c.now.Sub(epoch), p.rank, p.attempt, n.number, a.Attempt)
			}
		}
	}
}

// checkEnd: nobody runs that is not named, and the first cause is the first failure.
func (c *cluster) checkEnd() {
	o := c.w.m.Outcome()
	last := o.Attempts[len(o.Attempts)-1]
	for _, n := range c.nodes {
		for _, p := range n.procs {
			if !p.alive {
				continue
			}
			if p.attempt != last.Number || p.rank >= len(last.Ranks) {
				c.err = fmt.Errorf("rank %d of attempt %d runs at the end of attempt %d", p.rank, p.attempt, last.Number)
			} else if role := last.Ranks[p.rank].Role; role != Remains && role != WithNode {
				c.err = fmt.Errorf("rank %d runs at the end and is called %q", p.rank, role)
			}
		}
	}
	for _, a := range o.Attempts {
		c.checkCause(a)
	}
}

func (c *cluster) checkCause(a Attempt) {
	for _, r := range a.Ranks {
		if r.Role == Remains {
			return // not everything was heard
		}
	}
	if a.Cause == nil {
		return
	}
	switch a.Cause.Kind {
	case CauseExit, CauseSignal, CauseReported, CauseMemory, CauseNotStarted:
	default:
		return
	}
	want, ok := c.first[a.Number]
	switch {
	case c.config.Mode == Ours && !c.ordered: // a report may come after the judgement
	case !ok && a.Cause.Rank >= 0:
		c.err = fmt.Errorf("attempt %d: nothing failed by itself, and the cause is %+v", a.Number, a.Cause)
	case c.lost[[2]int{a.Number, want.node}]: // the word of it may have been lost with the node
	case a.Cause.Rank != want.rank || !a.Cause.At.Equal(want.at):
		c.err = fmt.Errorf("attempt %d: the cause is %+v, and rank %d failed first at %v", a.Number, a.Cause, want.rank, want.at)
	}
}

// run lets the job go to its end, and a little on.
func (c *cluster) run() error {
	for c.err == nil && c.now.Sub(epoch) < 10*time.Minute {
		d := c.w.deadline
		switch {
		case len(c.queue) > 0 && (d.IsZero() || !c.queue[0].at.After(d)):
			j := heap.Pop(&c.queue).(job)
			c.now = j.at
			j.do()
		case !d.IsZero():
			c.now = d
			c.step(Event{Kind: Tick, At: d})
		case c.ended:
			return c.err
		default:
			return fmt.Errorf("%v: nothing is to come, and it has not ended", c.now.Sub(epoch))
		}
	}
	if c.err == nil {
		return fmt.Errorf("it has not ended after 10 minutes; ended %v", c.ended)
	}
	return c.err
}

// TestSchedules runs jobs in which nodes and ranks die, hang and come back while messages
// are late, doubled and out of order.
func TestSchedules(t *testing.T) {
	num := uint64(10_000)
	if testing.Short() {
		num = 1000
	}
	causes, actions, codes, attempts := map[CauseKind]int{}, map[ActionKind]int{}, map[ends.Code]int{}, 0
	for seed := range num {
		c := newCluster(seed)
		if err := c.run(); err != nil {
			t.Fatalf("schedule %d (%+v): %v", seed, c.config, err)
		}
		o := c.w.m.Outcome()
		codes[o.Code]++
		attempts += len(o.Attempts)
		for _, a := range o.Attempts {
			if a.Cause != nil {
				causes[a.Cause.Kind]++
			}
		}
		for kind := range c.seen {
			actions[kind]++
		}
	}
	t.Logf("%d jobs with %d attempts; causes %v; actions %v; codes %v", num, attempts, causes, actions, codes)
	for _, kind := range []CauseKind{CauseExit, CauseSignal, CauseReported, CauseNotStarted, CauseHang, CauseTimeout, CauseNode, CauseMissing, CauseUser} {
		if causes[kind] == 0 {
			t.Errorf("no attempt ended with %s: the schedules miss something", kind)
		}
	}
	for _, kind := range []ActionKind{Start, Ask, Pass, Kill, Dump, Refuse, Say, End} {
		if actions[kind] == 0 {
			t.Errorf("no %s: the schedules miss something", kind)
		}
	}
}
