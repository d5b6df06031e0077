package agents

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/wanrun/wanrun/internal/control/group"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// errLeft ends the reading of a stream whose node has said goodbye.
var errLeft = errors.New("it has left")

// visit is the serving of one peer.
type visit struct {
	l      *Listener
	p      *Peer
	stream wanrunv1.Agents_JoinServer
	joined time.Time // by node 0's clock
	pulses *pulses
	vigil  *vigil
	lines  *lineQueue
	pace   *pace
	heard  time.Time   // the last message, by node 0's clock
	left   group.Event // its goodbye
	stop   chan struct{}
}

// Join serves one node.
func (l *Listener) Join(stream wanrunv1.Agents_JoinServer) error {
	info, ok := peer.FromContext(stream.Context())
	if !ok {
		return status.Error(codes.Internal, "no peer")
	}
	proof, ok := info.AuthInfo.(provenInfo)
	if !ok {
		return status.Error(codes.PermissionDenied, errNotProven.Error())
	}
	conn := proof.conn
	// A message that does not come ends with the connection: its timer goes on until here.
	first, err := stream.Recv()
	if err == nil {
		err = checkIntroduction(first.GetIntroduction())
	}
	if err != nil {
		l.complain(fmt.Errorf("node %d at %v: %w", conn.node, addrPort(conn.RemoteAddr()), err))
		return status.Error(codes.InvalidArgument, clean(err.Error(), maxRefusal))
	}
	if !conn.idle.Stop() {
		return status.Error(codes.DeadlineExceeded, "it introduced itself too late")
	}
	in := first.GetIntroduction()
	v := &visit{l: l, p: newPeer(conn.node, l.session(conn.node), clean(in.GetName(), maxName), conn), stream: stream,
		joined: l.options.Now(), pulses: &pulses{}, vigil: newVigil(), lines: newLineQueue(), pace: newPace(), stop: make(chan struct{})}
	v.heard = v.joined
	v.p.clock.hello(in.GetClock(), v.joined)
	v.p.orders = []*wanrunv1.ToAgent{{Kind: &wanrunv1.ToAgent_Welcome{
		Welcome: &wanrunv1.AgentWelcome{RejoinNs: int64(l.options.Rejoin), Clock: v.joined.UnixNano()}}}}
	return v.serve(in)
}

func (v *visit) serve(in *wanrunv1.AgentIntroduction) error {
	l, p := v.l, v.p
	l.handler.Joined(p)
	e := p.event(group.Join, v.joined)
	e.Ranks, e.Skew = int(in.GetRanks()), skew(in, l.options, l.identity.key)
	e.Code, e.Text = int(in.GetCode()), clean(in.GetText(), maxText)
	l.handler.Event(e)

	sent, watched, printed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() { defer close(sent); v.send() }()
	go func() {
		defer close(watched)
		v.vigil.watch(v.stop, l.options.timing, func(silence time.Duration) {
			p.giveUp(fmt.Sprintf("nothing was heard of it for %.1f s", silence.Seconds()))
		})
	}()
	go func() { defer close(printed); v.lines.run(l.handler, p, l.closing) }()

	err := v.receive()
	if errors.Is(err, errLeft) {
		v.lines.close()
		<-printed // its last words come before its goodbye
		if refused, _ := p.verdict(); !refused && !l.isClosing() {
			l.handler.Event(v.left)
		}
	} else {
		v.lost(err)
		v.lines.close()
		<-printed
	}
	close(v.stop)
	// The node hangs up now. If it does not, what still waits to be sent to it ends here.
	time.AfterFunc(l.options.timing.lost, func() { _ = p.conn.Close() })
	<-sent
	<-watched
	if status.Code(err) == codes.Unknown && !errors.Is(err, errLeft) && !errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, clean(err.Error(), maxRefusal))
	}
	return nil
}

// lost tells of a stream that ended without a goodbye.
func (v *visit) lost(err error) {
	refused, broken := v.p.verdict()
	if refused || v.l.isClosing() {
		return
	}
	e := v.p.event(group.Lost, v.heard)
	switch {
	case broken != "":
		e.Text = broken
	case errors.Is(err, io.EOF), status.Code(err) == codes.Canceled, status.Code(err) == codes.Unavailable:
		e.Text = "its connection broke"
	default:
		e.Text = clean(err.Error(), maxText)
	}
	v.l.handler.Event(e)
}

// send sends what there is to send, and a pulse each second, until the visit ends.
func (v *visit) send() {
	tick := time.NewTicker(v.l.options.timing.pulse)
	defer tick.Stop()
	for {
		for m := v.p.next(); m != nil; m = v.p.next() {
			if v.stream.Send(m) != nil {
				return // the reader notices
			}
			if m.GetRefusal() != nil {
				// It goes by itself, or is made to.
				time.AfterFunc(v.l.options.timing.lost, func() { _ = v.p.conn.Close() })
				return
			}
			if m.GetWelcome() != nil && !v.pulse() {
				return
			}
		}
		select {
		case <-v.stop:
			return
		case <-v.p.wake:
		case <-tick.C:
			if !v.pulse() {
				return
			}
		}
	}
}

func (v *visit) pulse() bool {
	m := v.pulses.next(v.l.options.Now())
	return v.stream.Send(&wanrunv1.ToAgent{Kind: &wanrunv1.ToAgent_Pulse{Pulse: m}}) == nil
}

// receive hands on what the node tells until it leaves or the stream ends.
func (v *visit) receive() error {
	for {
		v.vigil.listen()
		m, err := v.stream.Recv()
		v.vigil.hear()
		if err != nil {
			return err
		}
		v.pace.take(v.l.closing)
		v.heard = v.l.options.Now()
		if err := v.take(m, v.heard); err != nil {
			return err
		}
	}
}

// take hands on one message that came at now.
func (v *visit) take(m *wanrunv1.FromAgent, now time.Time) error {
	switch kind := m.GetKind().(type) {
	case *wanrunv1.FromAgent_Pulse:
		v.p.clock.add(kind.Pulse, now)
		v.pulses.came(kind.Pulse, now)
		return nil
	case *wanrunv1.FromAgent_Happenings:
		for _, h := range kind.Happenings.GetList() {
			if err := v.happening(h, now); err != nil {
				return err
			}
		}
		return nil
	case *wanrunv1.FromAgent_States:
		return v.states(kind.States, now)
	case *wanrunv1.FromAgent_Lines:
		return v.takeLines(kind.Lines, now)
	}
	return errors.New("it sent a message of no known kind")
}

func (v *visit) happening(h *wanrunv1.AgentHappening, now time.Time) error {
	switch kind := h.GetKind().(type) {
	case *wanrunv1.AgentHappening_Event:
		e, err := eventOf(kind.Event)
		if err != nil {
			return fmt.Errorf("it sent %w", err)
		}
		if !ofNode[e.Kind] {
			if err := v.p.maySpeak(e.Attempt, e.Rank); err != nil {
				return err
			}
		}
		e.At = v.p.shift(e.At, v.joined, now)
		e.Node, e.Session, e.Name = v.p.number, v.p.session, v.p.name
		if e.Kind == group.Left {
			v.left = e
			return errLeft
		}
		if refused, _ := v.p.verdict(); !refused {
			v.l.handler.Event(e)
		}
		return nil
	case *wanrunv1.AgentHappening_Report:
		r := kind.Report
		if r.GetReport() == nil {
			return errors.New("it sent an empty report")
		}
		if err := v.p.maySpeak(int(r.GetAttempt()), int(r.GetRank())); err != nil {
			return err
		}
		v.l.handler.Report(int(r.GetAttempt()), int(r.GetRank()), r.GetReport())
		return nil
	}
	return errors.New("it sent a happening of no known kind")
}

func (v *visit) states(m *wanrunv1.AgentStates, now time.Time) error {
	for _, s := range m.GetSamples() {
		sample, err := sampleOf(s)
		if err != nil {
			return fmt.Errorf("it sent %w", err)
		}
		if err := v.p.maySpeak(sample.Attempt, sample.Rank); err != nil {
			return err
		}
		sample.At = v.p.shift(sample.At, v.joined, now)
		v.l.handler.Sample(sample)
	}
	for _, g := range m.GetProgress() {
		if g.GetProgress() == nil {
			return errors.New("it sent an empty progress")
		}
		if err := v.p.maySpeak(int(g.GetAttempt()), int(g.GetRank())); err != nil {
			return err
		}
		v.l.handler.Progress(int(g.GetAttempt()), int(g.GetRank()), g.GetProgress())
	}
	return nil
}

func (v *visit) takeLines(m *wanrunv1.AgentLines, now time.Time) error {
	for _, each := range m.GetList() {
		line, err := lineOf(each)
		if err != nil {
			return fmt.Errorf("it sent %w", err)
		}
		if err := v.p.maySpeak(line.Attempt, line.Rank); err != nil {
			return err
		}
		line.At = v.p.shift(line.At, v.joined, now)
		if !v.lines.put(line) {
			return fmt.Errorf("it sent more than %d bytes of lines that were not asked for", lineWindow)
		}
	}
	return nil
}
