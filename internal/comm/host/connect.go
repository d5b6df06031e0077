package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/internal/peercred"
	"github.com/wanrun/wanrun/pkg/comm"
)

// strangers is how many connections may be proving themselves at a time.
const strangers = 64

// farewell is how long a Connect that failed goes on telling ranks that come late.
const farewell = 150 * time.Millisecond

// Connect joins the job and returns its group when this rank is connected to every
// other. A rank that dies after its first contact with any other ends the Connect
// of all. One that dies earlier has never been seen: whoever started it cancels
// ctx.
//
// Errors: comm.ErrPeerLost, comm.ErrAborted; comm.ErrTimeout names the ranks that
// did not come.
func Connect(ctx context.Context, cfg Config) (comm.Group, error) {
	if cfg.RootListener != nil && cfg.Rank != 0 {
		return nil, fmt.Errorf("rank %d was given the listener of rank 0", cfg.Rank)
	}
	if err := cfg.check(); err != nil {
		if cfg.RootListener != nil {
			err = errors.Join(err, cfg.RootListener.Close())
		}
		return nil, fmt.Errorf("connect rank %d: %w", cfg.Rank, err)
	}
	c, err := newCarrier(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect rank %d: %w", cfg.Rank, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.ConnectTimeout, errConnectTimeout)
	defer cancel()
	j := &joining{carrier: c, slots: make(chan struct{}, strangers), table: newTable(cfg.Size)}
	err = j.join(ctx)
	if err != nil {
		j.fail(err)
	}
	j.stop()
	if err != nil {
		failure := c.world.Failure()
		return nil, errors.Join(fmt.Errorf("connect rank %d: %w", cfg.Rank, failure), c.world.Close())
	}
	return engine.NewGroup(c.world), nil
}

var errConnectTimeout = errors.New("not every rank came in time")

// joining is a Connect under way.
type joining struct {
	*carrier
	table     *table
	listeners []net.Listener
	slots     chan struct{}
	wait      sync.WaitGroup // accepting, and proving

	mu   sync.Mutex
	open map[net.Conn]bool // connections that are not links yet; true if dialed by this rank
}

// join listens, learns the addresses, dials every lower rank and waits for the
// higher ones.
func (j *joining) join(ctx context.Context) error {
	w := j.world
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Who is on the way to this rank still hears why.
	stop := context.AfterFunc(ctx, func() { j.drop(true) })
	defer stop()
	go func() { // ends with join at the latest
		select {
		case <-w.Done():
			cancel(w.Failure())
		case <-ctx.Done():
		}
	}()
	if err := j.listen(ctx); err != nil {
		return err
	}
	w.Failpoint("connect.listen")
	if j.cfg.needsRoot() && j.cfg.Rank != 0 {
		if err := j.askTable(ctx); err != nil {
			return err
		}
	}
	for peer := range j.cfg.Rank {
		if err := j.dialLink(ctx, peer); err != nil {
			return err
		}
		w.Failpoint("connect.linked")
	}
	for {
		missing := j.missing()
		if len(missing) == 0 {
			if f := w.Failure(); f != nil {
				return f
			}
			return nil
		}
		select {
		case <-j.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// missing returns the ranks without a link.
func (j *joining) missing() (ranks []int) {
	j.carrier.mu.Lock()
	defer j.carrier.mu.Unlock()
	for peer, l := range j.links {
		if l == nil && peer != j.cfg.Rank {
			ranks = append(ranks, peer)
		}
	}
	return ranks
}

// fail ends the job because this rank cannot join, and gives ranks that are on
// their way the time to hear of it.
func (j *joining) fail(err error) {
	f := &comm.Failure{Kind: comm.ErrAborted, Rank: j.cfg.Rank, By: j.cfg.Rank, Cause: err}
	f.Text = fmt.Sprintf("rank %d cannot join: %v", j.cfg.Rank, err)
	missing := j.missing()
	var lost *lostError
	switch {
	case errors.As(err, &lost):
		f.Kind, f.Rank = comm.ErrPeerLost, lost.rank
	case errors.Is(err, errConnectTimeout):
		f.Kind, f.Rank = comm.ErrTimeout, -1
		if len(missing) == 1 {
			f.Rank = missing[0]
		}
		f.Text = fmt.Sprintf("rank %d waited %v for rank(s) %s to connect: %v", j.cfg.Rank, j.cfg.ConnectTimeout,
			strings.Trim(fmt.Sprint(missing), "[]"), err)
	}
	j.world.Fail(f) // unless there was one before
	j.table.fail(j.world.Failure())
	limit := time.NewTimer(farewell)
	defer limit.Stop()
	dead := -1 // does not come any more
	if f := j.world.Failure(); errors.Is(f, comm.ErrPeerLost) {
		dead = f.Rank
	}
	for {
		missing := slices.DeleteFunc(j.missing(), func(rank int) bool { return rank == dead || rank < j.cfg.Rank })
		if len(missing) == 0 || len(j.listeners) == 0 {
			return
		}
		select {
		case <-j.changed:
		case <-limit.C:
			return
		}
	}
}

// stop ends the listening; only links stay.
func (j *joining) stop() {
	for _, l := range j.listeners {
		_ = l.Close() // it may be closed by its owner
	}
	j.drop(false)
	j.wait.Wait()
}

// drop closes the connections that are not links, or those of them that this rank
// has dialed.
func (j *joining) drop(dialedOnly bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for conn, dialed := range j.open {
		if dialed || !dialedOnly {
			_ = conn.Close() // whoever uses it notices
		}
	}
}

// hold remembers a connection; letGo forgets it.
func (j *joining) hold(conn net.Conn, dialed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open == nil {
		j.open = map[net.Conn]bool{}
	}
	j.open[conn] = dialed
}

func (j *joining) letGo(conn net.Conn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.open, conn)
}

// listen opens the sockets on which higher ranks will knock.
func (j *joining) listen(ctx context.Context) error {
	near, far := false, false
	for peer := j.cfg.Rank + 1; peer < j.cfg.Size; peer++ {
		near = near || j.cfg.near(peer)
		far = far || !j.cfg.near(peer)
	}
	if near {
		l, err := listenNear(&j.cfg)
		if err != nil {
			return err
		}
		j.serve(l)
	}
	root := j.cfg.RootListener
	switch {
	case j.cfg.Rank != 0:
		return nil // its TCP socket opens when it knows on which interface
	case root != nil:
		j.serve(root)
	case j.cfg.needsRoot() || far:
		l, err := keepAlive.Listen(ctx, "tcp", j.cfg.Root)
		if err != nil {
			return fmt.Errorf("listen as rank 0: %w", err)
		}
		j.serve(l)
	}
	return nil
}

// keepAlive notices a node that has gone without a word.
var (
	alive     = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 4}
	keepAlive = net.ListenConfig{KeepAliveConfig: alive}
	dialer    = net.Dialer{KeepAliveConfig: alive}
)

// serve accepts connections until the listener is closed.
func (j *joining) serve(l net.Listener) {
	j.listeners = append(j.listeners, l)
	j.wait.Add(1)
	go func() {
		defer j.wait.Done()
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // such as no descriptors left; the timeout of Connect ends it
				j.cfg.Refused(fmt.Errorf("accept: %w", err))
				time.Sleep(10 * time.Millisecond)
				continue
			}
			j.hold(conn, false)
			j.slots <- struct{}{}
			j.wait.Add(1)
			go func() {
				defer j.wait.Done()
				defer func() { <-j.slots }()
				if err := j.welcome(conn); err != nil {
					j.letGo(conn)
					_ = conn.Close() // refused
					j.cfg.Refused(fmt.Errorf("connection from %v: %w", conn.RemoteAddr(), err))
				}
			}()
		}
	}()
}

// welcome lets a connection in: a link becomes the carrier's.
func (j *joining) welcome(conn net.Conn) error {
	_, near := conn.(*net.UnixConn)
	if near {
		if err := peercred.SameUser(conn); err != nil {
			return err
		}
	}
	if err := conn.SetDeadline(time.Now().Add(proofTimeout)); err != nil {
		return err
	}
	h, err := j.cfg.listenerProves(conn)
	if err != nil {
		return err
	}
	peer := int(h.from)
	if h.purpose == forTable {
		return j.giveTable(conn, peer)
	}
	if near != j.cfg.near(peer) {
		return fmt.Errorf("rank %d comes by the wrong way", peer)
	}
	return j.linked(conn, peer)
}

// linked makes a proven connection a link.
func (j *joining) linked(conn net.Conn, peer int) error {
	l := &link{c: j.carrier, peer: peer, conn: conn, over: make(chan struct{})}
	if j.cfg.near(peer) {
		seg, err := trade(conn, j.seg, j.cfg.Slots*j.cfg.SlotBytes)
		if err != nil {
			return err
		}
		l.seg = seg
	}
	err := conn.SetDeadline(time.Time{})
	if err == nil {
		j.letGo(conn)
		err = j.add(l)
	}
	if err != nil && l.seg != nil {
		err = errors.Join(err, l.seg.close())
	}
	return err
}

// lostError is a rank that was there and went away while it was being joined.
type lostError struct {
	rank int
	err  error
}

func (e *lostError) Error() string { return fmt.Sprintf("rank %d: %v", e.rank, e.err) }
func (e *lostError) Unwrap() error { return e.err }

// dialLink connects to a lower rank.
func (j *joining) dialLink(ctx context.Context, peer int) error {
	network, address := "tcp", j.table.get(peer)
	if j.cfg.near(peer) {
		network, address = nearAddress(&j.cfg, peer)
	} else if peer == 0 {
		address = j.cfg.Root
	}
	conn, err := j.dial(ctx, peer, network, address, forLink)
	if err != nil {
		return err
	}
	if err := j.linked(conn, peer); err != nil {
		j.letGo(conn)
		_ = conn.Close() // of no use
		return j.lost(ctx, peer, err)
	}
	return nil
}

// lost is the error of a peer that had answered; the cause of ctx if that ended it.
func (j *joining) lost(ctx context.Context, peer int, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return &lostError{peer, fmt.Errorf("it is gone, or was given another secret or size: %w", err)}
	}
	return fmt.Errorf("rank %d: %w", peer, err)
}

// dial tries until somebody listens, and proves both sides.
func (j *joining) dial(ctx context.Context, peer int, network, address string, p purpose) (net.Conn, error) {
	var conn net.Conn
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		var err error
		conn, err = dialer.DialContext(ctx, network, address)
		if err == nil {
			break
		}
		var slow net.Error // a deadline of ctx that ctx itself does not know yet
		notYet := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EAGAIN) || network == "tcp" ||
			errors.As(err, &slow) && slow.Timeout()
		if ctx.Err() == nil && !notYet {
			return nil, fmt.Errorf("reach rank %d: %w", peer, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reach rank %d: %w; last try: %v", peer, context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
	j.hold(conn, true)
	if ctx.Err() != nil { // it was held too late to be dropped
		_ = conn.Close()
	}
	err := conn.SetDeadline(time.Now().Add(proofTimeout))
	if err == nil && network == "unix" {
		err = peercred.SameUser(conn)
	}
	if err == nil {
		err = j.cfg.dialerProves(conn, peer, p)
	}
	if err != nil {
		j.letGo(conn)
		_ = conn.Close() // of no use
		return nil, j.lost(ctx, peer, err)
	}
	return conn, nil
}
