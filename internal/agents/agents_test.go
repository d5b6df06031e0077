package agents

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/placement"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// TestMain also is the other process of TestProcesses.
func TestMain(m *testing.M) {
	if role := os.Getenv("AGENTS_TEST_ROLE"); role != "" {
		os.Exit(otherProcess(role))
	}
	goleak.VerifyTestMain(m)
}

// quick is for tests in which somebody has to be given up.
var quick = timing{pulse: 40 * time.Millisecond, lost: 400 * time.Millisecond, patience: 700 * time.Millisecond,
	connect: time.Second, retry: 50 * time.Millisecond, tell: 100 * time.Millisecond, windDown: 5 * time.Second, complaints: 1000}

var testSecret = []byte("0123456789abcdef0123456789abcdef")

// recorder is node 0's handler; it writes down what it is told.
type recorder struct {
	mu       sync.Mutex
	events   []string
	raw      []group.Event
	peers    []*Peer
	lineHold chan struct{} // if set, Line waits for it
	more     chan struct{}
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{}, 1_000_000)} }

func (r *recorder) add(format string, args ...any) {
	r.mu.Lock()
	r.events = append(r.events, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	r.more <- struct{}{}
}

func (r *recorder) Joined(p *Peer) {
	r.mu.Lock()
	r.peers = append(r.peers, p)
	r.mu.Unlock()
}
func (r *recorder) Refused(err error) { r.add("refused %v", err) }
func (r *recorder) Event(e group.Event) {
	r.mu.Lock()
	r.raw = append(r.raw, e)
	r.mu.Unlock()
	r.add("%s node=%d session=%s name=%s ranks=%d rank=%d skew=%q %s", e.Kind, e.Node, e.Session, e.Name, e.Ranks, e.Rank, e.Skew, e.Text)
}
func (r *recorder) Line(l node.Line) {
	if r.lineHold != nil {
		<-r.lineHold
	}
	r.add("line %d.%d %s dropped=%d %.40s", l.Attempt, l.Rank, l.Stream, l.Dropped, l.Text)
}
func (r *recorder) Progress(a, rank int, p *wanrunv1.Progress) {
	r.add("progress %d.%d %s", a, rank, p.GetPhase())
}
func (r *recorder) Report(a, rank int, p *wanrunv1.Report) {
	r.add("report %d.%d %d", a, rank, p.GetExitCode())
}
func (r *recorder) Sample(s node.Sample) {
	r.add("sample %d.%d %d %s", s.Attempt, s.Rank, s.RSS, s.State)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

func (r *recorder) count(words string) int {
	n := 0
	for _, e := range r.all() {
		if strings.Contains(e, words) {
			n++
		}
	}
	return n
}

// wait returns the n-th event that has words in it, which must come soon.
func (r *recorder) wait(t *testing.T, words string, n int) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		left := n
		for _, e := range r.all() {
			if strings.Contains(e, words) {
				if left--; left == 0 {
					return e
				}
			}
		}
		select {
		case <-r.more:
		case <-deadline:
			t.Fatalf("no event %q (%d times); got\n%s", words, n, strings.Join(r.all(), "\n"))
		}
	}
}

func (r *recorder) peer(t *testing.T, session string) *Peer {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.peers {
		if p.Session() == session {
			return p
		}
	}
	t.Fatalf("no peer of session %s", session)
	return nil
}

// fakeNode is a node's agent. Ranks run until a signal comes.
type fakeNode struct {
	sink node.Sink
	me   int

	mu       sync.Mutex
	commands []string
	attempt  int
	running  []int
}

func (f *fakeNode) Do(c node.Command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case c.Start != nil:
		f.commands = append(f.commands, fmt.Sprintf("start %d of %d at %s:%d", c.Start.Attempt, len(c.Start.World), c.Start.MasterAddr, c.Start.MasterPort))
		f.attempt = c.Start.Attempt
		for _, p := range c.Start.World {
			if p.Node == f.me {
				f.running = append(f.running, p.Rank)
				f.sink.Event(group.Event{At: time.Now(), Kind: group.Started, Attempt: f.attempt, Rank: p.Rank, Pid: 100 + p.Rank})
			}
		}
	case c.Ask != nil:
		f.commands = append(f.commands, fmt.Sprintf("ask %d %s", c.Ask.Code, c.Ask.Reason))
	case c.Signal != 0:
		f.commands = append(f.commands, fmt.Sprintf("signal %d", c.Signal))
		for _, rank := range f.running {
			f.sink.Event(group.Event{At: time.Now(), Kind: group.Exited, Attempt: f.attempt, Rank: rank, Signal: c.Signal, Asked: true})
		}
		f.running = nil
	case c.Dump:
		f.commands = append(f.commands, "dump")
		f.sink.Event(group.Event{At: time.Now(), Kind: group.Dumped})
	case c.Finish:
		f.commands = append(f.commands, "finish")
		f.sink.Event(group.Event{At: time.Now(), Kind: group.Left})
	}
}

func (f *fakeNode) did() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.commands, "; ")
}

// freePort returns a port that nobody listens at.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func testOptions(t testing.TB, number, nodes int) Options {
	return Options{Node: number, Nodes: nodes, Ranks: 2, Name: fmt.Sprintf("gpu-%02d", number), JobID: "job-a", Build: "b1", Program: "p1",
		Flags: map[string]string{"--steps": "20"}, JoinTimeout: 20 * time.Second, timing: quick}
}

func listenAtFree(t *testing.T, o Options, r *recorder) (*Listener, Options) {
	t.Helper()
	o.Rendezvous = placement.Rendezvous{Host: "127.0.0.1", Ports: []int{freePort(t)}}
	return startListener(t, o, r), o
}

func startListener(t *testing.T, o Options, r *recorder) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), o, r)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() {
			if err := l.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	})
	return l
}

// dialed is a running Dial.
type dialed struct {
	cancel context.CancelFunc
	end    chan error

	mu    sync.Mutex
	nodes []*fakeNode
}

func (d *dialed) node(t *testing.T, i int) *fakeNode {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if i >= len(d.nodes) {
		t.Fatalf("%d agents were made, want more than %d", len(d.nodes), i)
	}
	return d.nodes[i]
}

func (d *dialed) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.end:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("dial goes on")
		return nil
	}
}

func dial(t *testing.T, o Options) *dialed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	d := &dialed{cancel: cancel, end: make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.end <- Dial(ctx, o, func(sink node.Sink) node.Agent {
			f := &fakeNode{sink: sink, me: o.Node}
			d.mu.Lock()
			d.nodes = append(d.nodes, f)
			d.mu.Unlock()
			return f
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return d
}

// world has two ranks on each node.
func world(nodes int) []group.Place {
	var w []group.Place
	for rank := range 2 * nodes {
		w = append(w, group.Place{Rank: rank, Node: rank / 2, Local: rank % 2})
	}
	return w
}

func startCommand(attempt, nodes int) node.Command {
	return node.Command{Start: &node.Start{Attempt: attempt, World: world(nodes), MasterAddr: "127.0.0.1", MasterPort: 4242,
		Secret: []byte("s"), Job: &wanrunv1.Job{Prompt: strings.Repeat("红", 300_000)}}}
}

func TestWholeJob(t *testing.T) {
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 3), r)
	var nodes []*dialed
	for number := 1; number < 3; number++ {
		mine := o
		mine.Node, mine.Name = number, fmt.Sprintf("gpu-%02d", number)
		nodes = append(nodes, dial(t, mine))
	}
	for number := 1; number < 3; number++ {
		r.wait(t, fmt.Sprintf(`join node=%d session=%d.`, number, number), 1)
		if e := r.wait(t, fmt.Sprintf("name=gpu-%02d ranks=2 rank=0 skew=\"\"", number), 1); e == "" {
			t.Error("no join")
		}
	}
	for _, p := range r.peers {
		p.Do(startCommand(0, 3))
		if !p.Addr().Addr().IsLoopback() || p.Reached().Port() != uint16(o.Rendezvous.Ports[0]) {
			t.Errorf("node %d came from %v to %v", p.Node(), p.Addr(), p.Reached())
		}
	}
	for rank := 2; rank < 6; rank++ {
		r.wait(t, fmt.Sprintf("started node=%d", rank/2), rank%2+1)
	}
	f := nodes[0].node(t, 0)
	for i := range 5000 {
		f.sink.Line(node.Line{At: time.Now(), Rank: 2 + i%2, Stream: []string{"stdout", "stderr"}[i%2], Text: fmt.Sprintf("line %d %s", i, strings.Repeat("x", 100))})
	}
	f.sink.Progress(0, 2, &wanrunv1.Progress{Phase: "denoise"})
	f.sink.Sample(node.Sample{At: time.Now(), Rank: 3, RSS: 77, State: "S"})
	f.sink.Report(0, 2, &wanrunv1.Report{ExitCode: 9})
	r.wait(t, "progress 0.2 denoise", 1)
	r.wait(t, "sample 0.3 77 S", 1)
	r.wait(t, "report 0.2 9", 1)
	for _, p := range r.peers {
		p.Do(node.Command{Ask: &node.Ask{Code: 143, Reason: "stop"}})
		p.Do(node.Command{Dump: true})
		p.Do(node.Command{Signal: 15})
		p.Finish(ends.Code(3), "rank 1 of 6 exited with code 3")
	}
	for i, d := range nodes {
		err := d.wait(t)
		if ends.CodeOf(err) != 3 || !strings.Contains(err.Error(), "rank 1 of 6") {
			t.Errorf("node %d ended with %v (%d)", i+1, err, ends.CodeOf(err))
		}
		if did := d.node(t, 0).did(); did != "start 0 of 6 at 127.0.0.1:4242; ask 143 stop; dump; signal 15; finish" {
			t.Errorf("node %d did %q", i+1, did)
		}
		r.wait(t, fmt.Sprintf("left node=%d", i+1), 1)
	}
	// All lines, in order, before the goodbye.
	next := 0
	for _, e := range r.all() {
		if strings.HasPrefix(e, "line") {
			if !strings.Contains(e, fmt.Sprintf("dropped=0 line %d x", next)) {
				t.Fatalf("line %d is %q", next, e)
			}
			next++
		}
		if strings.HasPrefix(e, "left node=1") && next != 5000 {
			t.Errorf("%d lines before the goodbye, want 5000", next)
		}
	}
	if n := r.count("lost "); n > 0 {
		t.Errorf("%d nodes were lost:\n%s", n, strings.Join(r.all(), "\n"))
	}
}

func TestAnyOrderOfStart(t *testing.T) {
	for _, file := range []bool{false, true} {
		o := testOptions(t, 1, 2)
		if file {
			o.Rendezvous = placement.Rendezvous{File: t.TempDir() + "/meet"}
		} else {
			o.Rendezvous = placement.Rendezvous{Host: "127.0.0.1", Ports: []int{freePort(t)}}
		}
		said := make(chan string, 1000)
		o.Say = func(s string) { said <- s }
		d := dial(t, o)
		if s := <-said; !strings.Contains(s, "node 1 waits for node 0 at") {
			t.Errorf("said %q", s)
		}
		zero := o
		zero.Node = 0
		r := newRecorder()
		startListener(t, zero, r)
		r.wait(t, "join node=1", 1)
		r.peer(t, "1.1").Finish(ends.Done, "")
		if err := d.wait(t); err != nil {
			t.Error(err)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	o := testOptions(t, 1, 2)
	o.Rendezvous = placement.Rendezvous{Host: "127.0.0.1", Ports: []int{freePort(t)}}
	o.JoinTimeout = 200 * time.Millisecond
	err := dial(t, o).wait(t)
	if ends.CodeOf(err) != ends.Retry || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v (%d)", err, ends.CodeOf(err))
	}
}

func TestNodeZeroIsLost(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 2)
	l, o := listenAtFree(t, o, r)
	o.Node = 1
	d := dial(t, o)
	r.wait(t, "join node=1", 1)
	r.peer(t, "1.1").Do(startCommand(0, 2))
	r.wait(t, "started node=1", 2)
	l.grpc.Stop() // every connection breaks; the listener's own Close follows
	err := d.wait(t)
	if ends.CodeOf(err) != ends.PeerLost || !strings.Contains(err.Error(), `node 0 of job "job-a" at 127.0.0.1`) {
		t.Errorf("%v (%d)", err, ends.CodeOf(err))
	}
	if did := d.node(t, 0).did(); !strings.HasSuffix(did, "signal 9; finish") {
		t.Errorf("did %q", did)
	}
}

func TestRejoin(t *testing.T) {
	r := newRecorder()
	o := testOptions(t, 0, 2)
	o.Rejoin = 20 * time.Second
	_, o = listenAtFree(t, o, r)
	o.Node = 1
	d := dial(t, o)
	r.wait(t, "join node=1 session=1.1", 1)
	r.peer(t, "1.1").Do(startCommand(0, 2))
	r.wait(t, "started", 2)
	_ = r.peer(t, "1.1").conn.Close()
	r.wait(t, "lost node=1 session=1.1", 1)
	r.wait(t, "join node=1 session=1.2", 1)
	if did := d.node(t, 0).did(); !strings.HasSuffix(did, "signal 9; finish") {
		t.Errorf("the first agent did %q", did)
	}
	p := r.peer(t, "1.2")
	p.Do(startCommand(1, 2))
	r.wait(t, "started node=1 session=1.2", 2)
	p.Finish(ends.Done, "")
	r.wait(t, "left node=1 session=1.2", 1)
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
}

func TestRefuse(t *testing.T) {
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	o.Node = 1
	first := dial(t, o)
	r.wait(t, "join node=1 session=1.1", 1)
	o.Name = "double"
	second := dial(t, o)
	r.wait(t, "join node=1 session=1.2 name=double", 1)
	for _, s := range []string{"1.1", "1.2"} {
		r.peer(t, s).Refuse("gpu-00 and double both are node 1")
	}
	for _, d := range []*dialed{first, second} {
		if err := d.wait(t); ends.CodeOf(err) != ends.Usage || !strings.Contains(err.Error(), "gpu-00 and double both are node 1") {
			t.Errorf("%v (%d)", err, ends.CodeOf(err))
		}
	}
	if r.count("lost")+r.count("left") > 0 {
		t.Errorf("events of refused nodes: %v", r.all())
	}
}

func TestCancel(t *testing.T) {
	r := newRecorder()
	_, o := listenAtFree(t, testOptions(t, 0, 2), r)
	o.Node = 1
	d := dial(t, o)
	r.wait(t, "join", 1)
	r.peer(t, "1.1").Do(startCommand(0, 2))
	r.wait(t, "started", 2)
	d.cancel()
	if err := d.wait(t); ends.CodeOf(err) != ends.Interrupted {
		t.Errorf("%v", err)
	}
	r.wait(t, "exited node=1", 2)
	r.wait(t, "left node=1", 1)
}
