package agents

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/wanrun/wanrun/internal/ends"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

const (
	maxUnproven = 64 // connections that have not proved themselves
	maxPerNode  = 4  // connections that have, of one node: an old one, a new one, and two that are wrong
)

// Listener is node 0's side.
type Listener struct {
	wanrunv1.UnimplementedAgentsServer
	options    Options
	handler    Handler
	identity   *identity
	listeners  []net.Listener
	addrs      []netip.AddrPort
	file       []byte // what is in the rendezvous file
	gate       gate
	handover   *handover
	grpc       *grpc.Server
	complaints complaints
	closing    chan struct{}
	work       sync.WaitGroup

	mu       sync.Mutex
	sessions int         // so far
	open     map[int]int // proved connections by node
}

// Listen lets the other nodes come, until the listener is closed.
func Listen(ctx context.Context, options Options, handler Handler) (*Listener, error) {
	o, err := options.prepare()
	if err != nil {
		return nil, err
	}
	if o.Node != 0 || o.JobID == "" {
		return nil, ends.Errorf(ends.Bug, "node %d of job %q listens, want node 0 of a named job", o.Node, o.JobID)
	}
	ownSecret := o.Secret == nil && o.Rendezvous.File != ""
	if ownSecret {
		if o.Secret, err = NewSecret(); err != nil {
			return nil, ends.As(ends.CannotStart, err)
		}
	}
	addrs, err := o.toBind(ctx)
	if err != nil {
		return nil, ends.As(ends.CannotStart, err)
	}
	if o.Secret == nil {
		for _, a := range addrs {
			if !a.IsLoopback() {
				return nil, ends.Errorf(ends.Usage, "node 0 would listen at %v without a secret: set WANRUN_SECRET or a secret file on every node, or use --rdzv file:PATH", a)
			}
		}
	}
	l := &Listener{options: o, handler: handler, gate: gate{most: maxUnproven}, closing: make(chan struct{}), open: map[int]int{}}
	l.complaints = complaints{tell: handler.Refused, most: o.timing.complaints}
	l.identity = &identity{job: o.JobID, nodes: o.Nodes, timeout: o.timing.patience}
	if l.identity.key, err = keyOf(o.Secret); err != nil {
		return nil, ends.As(ends.CannotStart, err)
	}
	if l.identity.tls, err = o.TLS.config(); err != nil {
		return nil, ends.As(ends.Usage, err)
	}
	ports := o.Rendezvous.Ports
	if o.Rendezvous.File != "" {
		ports = []int{0}
	}
	if l.listeners, err = listen(ctx, addrs, ports); err != nil {
		return nil, ends.As(ends.CannotStart, err)
	}
	for _, each := range l.listeners {
		l.addrs = append(l.addrs, addrPort(each.Addr()))
	}
	if o.Rendezvous.File != "" {
		if err := l.publish(ownSecret); err != nil {
			return nil, ends.As(ends.CannotStart, errors.Join(fmt.Errorf("rendezvous file: %w", err), l.closeListeners()))
		}
	}
	l.serve()
	return l, nil
}

// publish writes the rendezvous file.
func (l *Listener) publish(withSecret bool) error {
	all, err := l.options.interfaces()
	if err != nil {
		return err
	}
	m := meetingPoint{Version: protocolVersion, JobID: l.options.JobID, Addresses: reachable(l.listeners, all)}
	if withSecret {
		m.Secret = string(l.options.Secret)
	}
	l.file, err = writeMeetingPoint(l.options.Rendezvous.File, m)
	return err
}

func (l *Listener) serve() {
	l.handover = newHandover(l.listeners[0].Addr())
	l.grpc = grpc.NewServer(grpc.Creds(proven{}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.MaxHeaderListSize(16<<10),
		grpc.MaxConcurrentStreams(1), grpc.ConnectionTimeout(l.options.timing.patience),
		grpc.InitialWindowSize(maxMessage), grpc.InitialConnWindowSize(maxMessage), grpc.WaitForHandlers(true))
	wanrunv1.RegisterAgentsServer(l.grpc, l)
	l.work.Go(func() { _ = l.grpc.Serve(l.handover) }) // ends by Close alone
	for _, each := range l.listeners {
		l.work.Go(func() { l.acceptAll(each) })
	}
}

// Addrs are the addresses that it listens at; the unspecified one is every interface.
func (l *Listener) Addrs() []netip.AddrPort { return l.addrs }

// Close ends all connections without an event, and removes the rendezvous file. No call of
// the handler is running or follows when it returns.
func (l *Listener) Close() error {
	close(l.closing)
	err := l.closeListeners()
	l.gate.close()
	_ = l.handover.Close() // never fails
	l.grpc.Stop()
	l.work.Wait()
	if l.file != nil {
		err = errors.Join(err, removeMeetingPoint(l.options.Rendezvous.File, l.file))
	}
	return err
}

func (l *Listener) closeListeners() error {
	var all error
	for _, each := range l.listeners {
		all = errors.Join(all, each.Close())
	}
	return all
}

func (l *Listener) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// acceptAll proves connections and hands those that are good to gRPC.
func (l *Listener) acceptAll(from net.Listener) {
	for {
		conn, err := from.Accept()
		if l.isClosing() {
			if err == nil {
				_ = conn.Close() // it comes too late
			}
			return
		}
		if err != nil { // out of files, or broken off before it was accepted
			l.complain(fmt.Errorf("accept: %w", err))
			select {
			case <-l.closing:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if !l.gate.enter(conn) {
			_ = conn.Close() // it comes too late
			return
		}
		l.work.Go(func() {
			defer l.gate.leave(conn)
			if err := l.admit(conn); err != nil {
				l.complain(fmt.Errorf("%v: %w", addrPort(conn.RemoteAddr()), err))
				_ = conn.Close() // refused: nothing was promised to it
			}
		})
	}
}

// admit proves one connection and gives it to gRPC.
func (l *Listener) admit(conn net.Conn) error {
	c, err := l.identity.accept(conn)
	if err != nil {
		return err
	}
	l.mu.Lock()
	full := l.open[c.node] >= maxPerNode
	if !full {
		l.open[c.node]++
	}
	l.mu.Unlock()
	if full {
		return fmt.Errorf("node %d has %d connections already", c.node, maxPerNode)
	}
	c.onClose = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open[c.node]--
	}
	// It may have proved itself and then never call.
	c.idle = time.AfterFunc(l.options.timing.patience, func() { _ = c.Close() })
	l.handover.give(c)
	return nil
}

// complain tells the handler of a peer that was turned away, a few times a second.
func (l *Listener) complain(err error) {
	if l.isClosing() {
		return
	}
	ok, untold := l.complaints.pass(time.Now())
	if !ok {
		return
	}
	if untold > 0 {
		err = fmt.Errorf("%w (and %d others before)", err, untold)
	}
	l.complaints.tell(err)
}

// session numbers a connection that is let in.
func (l *Listener) session(node int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sessions++
	return fmt.Sprintf("%d.%d", node, l.sessions)
}
