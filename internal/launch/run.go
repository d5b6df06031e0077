package launch

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/internal/agents"
	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/media"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/settings"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Node is the agent of this machine.
type Node interface {
	node.Agent
	// Wait returns after a Finish, with what the kernel holds.
	Wait() ([]guard.Remains, error)
}

// Options are one job, as node 0 runs it.
type Options struct {
	Rules group.Config
	Job   *wanrunv1.Job // of workers of ours; nil: any program
	Ranks int           // of this node
	Name  string        // of this node, for people

	// Node starts this machine's agent.
	Node func(node.Sink) (Node, error)
	// Listen lets the other nodes in; nil: there are none.
	Listen func(agents.Handler) (*agents.Listener, error)

	Signals  <-chan os.Signal
	Requests <-chan Request // from other programs; nil: none
	Now      func() time.Time
	Show     Renderer
	Console  *output.Console
	Stderr   bool          // all that ranks print goes to stderr: stdout is the report's
	Files    *output.Files // nil: what ranks print is not kept
	Watch    Watcher       // nil: nobody
	Log      *zap.Logger
}

// Request is what somebody wants of a running job. One field is set.
type Request struct {
	Stop   string             // by whom
	Drain  string             // why
	Stacks chan<- group.Event // gets each node's event Dumped
}

// Watcher is told what happens, by one goroutine but for Line and Sample.
type Watcher interface {
	Event(group.Event)
	Action(at time.Time, a group.Action)
	Progress(at time.Time, attempt, rank int, p *wanrunv1.Progress)
	Line(node.Line)
	Sample(node.Sample)
}

// Result is how a job went.
type Result struct {
	Code     ends.Code
	Error    string // one line; "" when it went well
	Phase    string // in which it ended, if not well
	Failed   *int   // the rank that ended it; nil if it went well, or none of them did
	Started  time.Time
	Seconds  float64
	Ranks    []RankResult // of the last attempt
	Attempts []group.Attempt
	Left     []string // processes that did not die
	Words    []string // the last lines of the rank that failed
	Warnings []string // of what the ranks took, which were shown already
}

// RankResult is how one rank went.
type RankResult struct {
	Rank   int
	Pid    int    // 0 if it was not started
	Ended  string // "exit code 0", "SIGKILL"
	Report *wanrunv1.Report
	Last   *wanrunv1.Progress // nil if there was none
	LastAt time.Time          // when that came
}

// Report is the first rank's, which has the output; nil if it sent none.
func (r Result) Report() *wanrunv1.Report {
	if len(r.Ranks) == 0 {
		return nil
	}
	return r.Ranks[0].Report
}

// maxName bounds what a node is called, in characters.
const maxName = 100

// leavePatience is how long nodes may take to say goodbye.
const leavePatience = 15 * time.Second

// Run runs the job to its end. It returns after the ranks, all that they started, and
// the sockets are gone.
func Run(o Options) Result {
	r := &run{Options: o, machine: group.New(o.Rules), inbox: newInbox(), peers: map[string]*agents.Peer{}, nodes: map[int]string{}, names: map[int]string{}}
	r.ring = output.NewRing(nil)
	started := o.Now()
	err := r.open()
	if err == nil {
		r.loop()
	}
	left := r.close()
	result := r.result()
	result.Started, result.Seconds, result.Left = started, o.Now().Sub(started).Seconds(), left
	if err != nil {
		result.Code, result.Error = ends.CodeOf(err), err.Error()
	}
	if result.Code != ends.Done {
		r.tidy()
	}
	return result
}

// run is the state of Run. Only the loop touches it, save for the inbox and the ring.
type run struct {
	Options
	machine  *group.Machine
	inbox    *inbox
	ring     *output.Ring
	local    Node
	listener *agents.Listener
	peers    map[string]*agents.Peer // by session
	nodes    map[int]string          // the sessions of those that may have ranks
	stacks   []chan<- group.Event
	end      *group.Action
	attempt  int

	names   map[int]string              // of the nodes, for people
	table   []group.Place               // of the attempt
	indexed map[[2]int]output.IndexRank // by attempt and rank
	reports map[int]*wanrunv1.Report    // of the attempt
	last    map[int]lastSaid
}

type lastSaid struct {
	p  *wanrunv1.Progress
	at time.Time
}

func (r *run) open() error {
	if r.Listen != nil {
		var err error
		if r.listener, err = r.Listen(handler{r.inbox, r}); err != nil {
			return ends.As(ends.CannotStart, err)
		}
	}
	var err error
	if r.local, err = r.Node(sink{r.inbox, r}); err != nil {
		r.local = nil
		return ends.As(ends.CannotStart, err)
	}
	r.step(group.Event{At: r.Now(), Kind: group.Join, Node: 0, Session: "0", Name: r.Name, Ranks: r.Ranks})
	return nil
}

// loop takes what happens until the machine says that it is over.
func (r *run) loop() {
	for r.end == nil {
		var timer <-chan time.Time
		if deadline := r.machine.Deadline(); !deadline.IsZero() {
			timer = time.After(max(0, deadline.Sub(r.Now())))
		}
		select {
		case <-r.inbox.wake:
			for _, take := range r.inbox.all() {
				take()
			}
		case sig := <-r.Signals:
			if number, ok := sig.(syscall.Signal); ok {
				r.step(group.Event{At: r.Now(), Kind: group.Signaled, Signal: int(number)})
			}
		case q := <-r.Requests:
			r.request(q)
		case <-timer:
			r.step(group.Event{At: r.Now(), Kind: group.Tick})
		}
	}
}

func (r *run) request(q Request) {
	switch {
	case q.Stacks != nil:
		r.stacks = append(r.stacks, q.Stacks)
		r.send(group.AllNodes, node.Command{Dump: true})
	case q.Drain != "":
		r.step(group.Event{At: r.Now(), Kind: group.Drain, Text: q.Drain})
	default:
		r.step(group.Event{At: r.Now(), Kind: group.Stop, Text: q.Stop})
	}
}

func (r *run) step(e group.Event) {
	r.note(e)
	if r.Watch != nil {
		r.Watch.Event(e)
	}
	now := r.Now()
	for _, a := range r.machine.Step(now, e) {
		if r.Watch != nil {
			r.Watch.Action(now, a)
		}
		r.act(a)
	}
}

// note keeps what is for the report and the logs.
func (r *run) note(e group.Event) {
	switch e.Kind {
	case group.Join:
		r.names[e.Node] = settings.Shorten(e.Name, maxName)
	case group.Dumped:
		for _, c := range r.stacks {
			c <- e
		}
		r.stacks = nil
	case group.Started, group.Exited, group.NotStarted:
		if r.Files != nil {
			r.index(e)
		}
	}
}

func (r *run) act(a group.Action) {
	switch a.Kind {
	case group.Start:
		r.start(a)
	case group.Ask:
		r.send(a.Node, node.Command{Ask: &node.Ask{Code: int(a.Code), Reason: a.Text}})
	case group.Pass:
		r.send(a.Node, node.Command{Signal: a.Signal})
	case group.Kill:
		r.send(a.Node, node.Command{Signal: int(syscall.SIGKILL)})
	case group.Dump:
		r.send(a.Node, node.Command{Dump: true})
	case group.Refuse:
		if p := r.peers[a.Session]; p != nil {
			p.Refuse(a.Text)
			r.forget(a.Session)
		}
	case group.Say:
		if a.Info {
			r.Log.Info(settings.Escape(a.Text))
		} else {
			r.Log.Warn(settings.Escape(a.Text))
		}
	case group.End:
		r.end = &a
	}
}

// send hands a command to a node, or to all that are there.
func (r *run) send(to int, c node.Command) {
	if to == group.AllNodes || to == 0 {
		r.local.Do(c)
	}
	for number, session := range r.nodes {
		if to == group.AllNodes || to == number {
			r.peers[session].Do(c)
		}
	}
}

func (r *run) start(a group.Action) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // crypto/rand does not fail
	addr, port := r.master()
	r.table = a.Table
	r.attempt, r.reports, r.last = a.Attempt, map[int]*wanrunv1.Report{}, map[int]lastSaid{}
	r.send(group.AllNodes, node.Command{Start: &node.Start{Attempt: a.Attempt, World: a.Table, MasterAddr: addr.String(), MasterPort: port,
		Secret: secret[:], Job: r.Job, Restarts: r.Rules.MaxRestarts}})
}

// master is a numeric address of this machine that every node reaches, for they have, and
// a port that is free there now.
func (r *run) master() (netip.Addr, int) {
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, p := range r.peers {
		addr = p.Reached().Addr().Unmap()
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return addr, 0 // a program that needs the port fails with it, and others do not
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	return addr, port
}

// forget drops a node that is gone or was turned away.
func (r *run) forget(session string) {
	delete(r.peers, session)
	for number, s := range r.nodes {
		if s == session {
			delete(r.nodes, number)
		}
	}
}

// close brings the nodes to their end, and takes what they still have to say.
func (r *run) close() (left []string) {
	if r.listener != nil {
		code, text := ends.Bug, "node 0 could not start"
		if r.end != nil {
			code, text = r.end.Code, r.end.Text
		}
		for _, p := range r.peers {
			p.Finish(code, text)
		}
		deadline := time.After(leavePatience)
		for waiting := true; waiting && len(r.peers) > 0; {
			select {
			case <-r.inbox.wake:
				for _, take := range r.inbox.all() {
					take()
				}
			case <-deadline:
				waiting = false
			}
		}
	}
	if r.local != nil {
		r.local.Do(node.Command{Finish: true})
		remains, err := r.local.Wait()
		if err != nil {
			r.Log.Warn(settings.Escape(err.Error()))
		}
		for _, m := range remains {
			left = append(left, fmt.Sprintf("process %d (%s, state %s)", m.Pid, m.Name, m.State))
		}
	}
	if r.listener != nil {
		if err := r.listener.Close(); err != nil {
			r.Log.Warn(settings.Escape(err.Error()))
		}
	}
	for _, take := range r.inbox.all() {
		take()
	}
	for _, c := range r.stacks {
		close(c)
	}
	return left
}

// tidy removes what a worker that was killed could not. The first rank writes the output.
func (r *run) tidy() {
	if r.Job.GetOutput() == "" || r.attempt == 0 && r.reports == nil || r.reports[0] != nil {
		return
	}
	if err := media.RemoveLeftover(r.Job.GetOutput()); err != nil {
		r.Log.Warn("a temporary file is left: " + settings.Escape(err.Error()))
	}
}

// inbox takes what happens outside the loop, without bound and without waiting: it is
// bounded by what nodes may have under way.
type inbox struct {
	mu    sync.Mutex
	queue []func()
	wake  chan struct{}
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) put(take func()) {
	b.mu.Lock()
	b.queue = append(b.queue, take)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) all() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queue
	b.queue = nil
	return queue
}

// sink takes what happens on a node.
type sink struct {
	*inbox
	r *run
}

// Event steps the machine, unless it is over.
func (s sink) Event(e group.Event) {
	s.put(func() {
		if s.r.end == nil {
			s.r.step(e)
		} else {
			s.r.note(e)
		}
		if e.Kind == group.Lost || e.Kind == group.Left {
			s.r.forget(e.Session)
		}
	})
}

// Line shows and keeps a line at once: the console waits for nobody.
func (s sink) Line(l node.Line) {
	s.r.ring.Add(l)
	if shown := l; s.r.Stderr {
		shown.Stream = output.Stderr
		s.r.Console.Line(shown)
	} else {
		s.r.Console.Line(l)
	}
	if s.r.Watch != nil {
		s.r.Watch.Line(l)
	}
}

func (s sink) Progress(attempt, rank int, p *wanrunv1.Progress) {
	at := s.r.Now()
	s.put(func() {
		if attempt != s.r.attempt {
			return
		}
		before := s.r.last[rank].p
		s.r.last[rank] = lastSaid{p, at}
		if !saidAgain(before, p) {
			s.r.Show.Progress(rank, p)
		}
		if s.r.Watch != nil {
			s.r.Watch.Progress(at, attempt, rank, p)
		}
	})
}

// saidAgain is that a worker says where it was before: each second it tells what it takes,
// which is not progress.
func saidAgain(before, p *wanrunv1.Progress) bool {
	return before != nil && before.GetPhase() == p.GetPhase() && before.GetDone() == p.GetDone() && before.GetTotal() == p.GetTotal()
}

func (s sink) Report(attempt, rank int, m *wanrunv1.Report) {
	s.put(func() {
		if attempt == s.r.attempt {
			s.r.reports[rank] = m
		}
	})
}

func (s sink) Sample(x node.Sample) {
	if s.r.Watch != nil {
		s.r.Watch.Sample(x)
	}
}

// handler takes what happens on other nodes.
type handler struct {
	*inbox
	r *run
}

func (h handler) sink() sink          { return sink(h) }
func (h handler) Event(e group.Event) { h.sink().Event(e) }
func (h handler) Line(l node.Line)    { h.sink().Line(l) }
func (h handler) Progress(attempt, rank int, p *wanrunv1.Progress) {
	h.sink().Progress(attempt, rank, p)
}
func (h handler) Report(attempt, rank int, m *wanrunv1.Report) { h.sink().Report(attempt, rank, m) }
func (h handler) Sample(x node.Sample)                         { h.sink().Sample(x) }

// Joined notes a node before its event.
func (h handler) Joined(p *agents.Peer) {
	h.put(func() {
		h.r.peers[p.Session()] = p
		h.r.nodes[p.Node()] = p.Session()
	})
}

// Refused tells of a peer that was turned away.
func (h handler) Refused(err error) {
	h.put(func() { h.r.Log.Warn(settings.Escape(err.Error())) })
}
