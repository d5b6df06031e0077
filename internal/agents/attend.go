package agents

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// ending is how one meeting with node 0 ended.
type ending struct {
	err    error
	lost   bool          // node 0 was lost, before it said that the job is over
	met    bool          // it had welcomed this node
	rejoin time.Duration // how long to try to come back
}

// meeting is this node's side of its stream to node 0.
type meeting struct {
	d      *dialer
	conn   *provenConn
	stream wanrunv1.Agents_JoinClient
	box    *outbox
	pulses *pulses
	vigil  *vigil
	stop   chan struct{}

	mu       sync.Mutex
	agent    node.Agent // nil until welcomed
	winding  bool       // ranks are being killed: what node 0 says does not count any more
	finish   *wanrunv1.AgentFinish
	hurry    bool // Left goes ahead of lines
	silence  time.Duration
	rejoin   time.Duration
	refusing string
}

// attend is a node's life with node 0, over one connection.
func (d *dialer) attend(ctx context.Context, conn *provenConn, local func(node.Sink) node.Agent) ending {
	m := &meeting{d: d, conn: conn, box: newOutbox(), pulses: &pulses{}, vigil: newVigil(), stop: make(chan struct{})}
	defer conn.Close() // the end of it, whatever it says
	slow := time.AfterFunc(d.timing.patience, func() { _ = conn.Close() })
	client, err := m.open()
	slow.Stop()
	if err != nil {
		return ending{err: ends.As(ends.PeerLost, err), lost: true}
	}
	defer client.Close() // closes conn, too
	sent, watched := make(chan struct{}), make(chan struct{})
	go func() { defer close(sent); m.send() }()
	go func() {
		defer close(watched)
		m.vigil.watch(m.stop, d.timing, func(silence time.Duration) {
			m.mu.Lock()
			m.silence = silence
			m.mu.Unlock()
			_ = conn.Close() // the reader notices
		})
	}()
	unwatch := context.AfterFunc(ctx, func() {
		m.windDown()
		time.AfterFunc(d.timing.windDown, func() { _ = conn.Close() })
	})
	err = m.receive(local)
	unwatch()
	end := m.end(ctx, err)
	m.windDown()
	if !m.awaitLeft() {
		end.rejoin = 0 // who comes has nothing left running
	}
	close(m.stop)
	_ = conn.Close() // a send that nobody reads ends
	<-sent
	<-watched
	return end
}

// open makes a gRPC client of the proved connection and introduces this node.
func (m *meeting) open() (*grpc.ClientConn, error) {
	once := make(chan net.Conn, 1)
	once <- m.conn
	client, err := grpc.NewClient("passthrough:///node-0",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errors.New("the connection to node 0 is gone")
			}
		}),
		grpc.WithTransportCredentials(proven{}),
		grpc.WithInitialWindowSize(maxMessage), grpc.WithInitialConnWindowSize(maxMessage), grpc.WithMaxHeaderListSize(16<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("node 0: %w", err)
	}
	// The stream outlives ctx: what ends is told on it.
	m.stream, err = wanrunv1.NewAgentsClient(client).Join(context.Background())
	if err == nil {
		o := m.d.Options
		err = m.stream.Send(&wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Introduction{Introduction: &wanrunv1.AgentIntroduction{
			Name: clean(o.Name, maxName), Ranks: int32(o.Ranks), Clock: o.Now().UnixNano(), Build: o.Build, Program: o.Program,
			Flags: digests(o.Flags, m.conn.key), Code: int32(o.Code), Text: clean(o.Text, maxText)}}})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("join node 0: %w", err), client.Close())
	}
	return client, nil
}

// receive does what node 0 says until the stream ends.
func (m *meeting) receive(local func(node.Sink) node.Agent) error {
	for {
		m.vigil.listen()
		msg, err := m.stream.Recv()
		m.vigil.hear()
		if err != nil {
			return err
		}
		switch kind := msg.GetKind().(type) {
		case *wanrunv1.ToAgent_Welcome:
			if err := m.welcome(kind.Welcome, local); err != nil {
				return err
			}
		case *wanrunv1.ToAgent_Refusal:
			m.mu.Lock()
			m.refusing = clean(kind.Refusal.GetReason(), maxRefusal)
			m.mu.Unlock()
			return nil
		case *wanrunv1.ToAgent_Pulse:
			m.pulses.came(kind.Pulse, m.d.Now())
			m.box.poke()
		case *wanrunv1.ToAgent_Taken:
			m.box.allow(kind.Taken.GetBytes())
		case *wanrunv1.ToAgent_Order:
			if err := m.order(kind.Order); err != nil {
				return err
			}
		default:
			return errors.New("it sent a message of no known kind")
		}
	}
}

func (m *meeting) welcome(w *wanrunv1.AgentWelcome, local func(node.Sink) node.Agent) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	const longest = 24 * time.Hour
	if m.agent != nil || w.GetRejoinNs() < 0 {
		return errors.New("it sent a second or a wrong welcome")
	}
	m.rejoin = min(time.Duration(w.GetRejoinNs()), longest)
	if !m.winding {
		m.agent = local(m.box)
	}
	return nil
}

func (m *meeting) order(order *wanrunv1.AgentOrder) error {
	c, err := commandOf(order)
	if err != nil {
		return fmt.Errorf("it sent a wrong order: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.winding:
		return nil
	case m.agent == nil:
		return errors.New("it ordered before it welcomed")
	}
	if c.Finish {
		m.finish = order.GetFinish()
	}
	m.agent.Do(c)
	return nil
}

// windDown ends what runs on this node without node 0.
func (m *meeting) windDown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.winding {
		return
	}
	m.winding = true
	switch {
	case m.agent == nil: // nothing runs here, and nobody has a goodbye to say
		_ = m.conn.Close() // the reader notices
		return
	case m.box.hasLeft():
		return
	}
	m.agent.Do(node.Command{Signal: int(syscall.SIGKILL)})
	m.agent.Do(node.Command{Finish: true})
}

// awaitLeft waits until nothing runs here any more, and reports whether that is so.
func (m *meeting) awaitLeft() bool {
	m.mu.Lock()
	agent := m.agent
	m.mu.Unlock()
	if agent == nil {
		return true
	}
	select {
	case <-m.box.gone:
		return true
	case <-time.After(m.d.timing.windDown):
		m.d.sayf("node %d: ranks are still there %v after they were killed", m.d.Node, m.d.timing.windDown)
		return false
	}
}

// send sends what there is, and pulses.
func (m *meeting) send() {
	tick := time.NewTicker(m.d.timing.pulse)
	defer tick.Stop()
	answered := false // the first pulse, at once: node 0 wants to know our clock
	var drained <-chan time.Time
	for {
		m.mu.Lock()
		hurry := m.hurry
		m.mu.Unlock()
		for msg := m.box.next(hurry); msg != nil; msg = m.box.next(hurry) {
			if m.stream.Send(msg) != nil {
				return // the reader notices
			}
			select { // a pulse does not wait for all lines
			case <-tick.C:
				if !m.pulse() {
					return
				}
			default:
			}
		}
		if _, left := m.box.unsent(); left {
			_ = m.stream.CloseSend() // node 0 ends the stream, or it is broken anyway
			return
		}
		if !answered && m.pulses.waiting() {
			answered = true
			if !m.pulse() {
				return
			}
		}
		gone := m.box.gone
		if drained != nil {
			gone = nil
		}
		select {
		case <-m.stop:
			return
		case <-m.box.wake:
		case <-gone:
			drained = time.After(m.d.timing.lost)
		case <-drained:
			m.mu.Lock()
			m.hurry = true
			m.mu.Unlock()
			if lines, _ := m.box.unsent(); lines > 0 {
				m.d.sayf("node %d: node 0 has not taken %d lines, which are lost", m.d.Node, lines)
			}
		case <-tick.C:
			if !m.pulse() {
				return
			}
		}
	}
}

func (m *meeting) pulse() bool {
	p := m.pulses.next(m.d.Now())
	return m.stream.Send(&wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Pulse{Pulse: p}}) == nil
}

// end says how the meeting ended.
func (m *meeting) end(ctx context.Context, err error) ending {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := addrPort(m.conn.RemoteAddr())
	switch {
	case m.refusing != "":
		return ending{err: ends.Errorf(ends.Usage, "node 0 at %v refused node %d: %s", at, m.d.Node, m.refusing)}
	case ctx.Err() != nil:
		return ending{err: context.Cause(ctx)}
	case m.finish != nil:
		return ending{err: endOf(m.finish)}
	}
	why := "its connection broke"
	switch code := status.Code(err); {
	case m.silence > 0:
		why = fmt.Sprintf("nothing was heard of it for %.1f s", m.silence.Seconds())
	case err != nil && code != codes.Unavailable && code != codes.Canceled && code != codes.OK:
		why = clean(err.Error(), maxRefusal)
	}
	return ending{err: ends.Errorf(ends.PeerLost, "node 0 of job %q at %v is lost: %s", m.conn.job, at, why), lost: true, met: m.agent != nil, rejoin: m.rejoin}
}
