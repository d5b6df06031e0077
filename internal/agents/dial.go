package agents

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
)

// Dial joins node 0 and does what it says until the job ends. It tries to meet node 0
// until the join timeout, in any order of start. Once they have met it calls local, which
// makes this node's agent; what that tells its sink goes to node 0. When node 0 is lost, or
// ctx is done, the agent is told to kill its ranks and to finish, and Dial waits until it
// says by the event Left that nothing runs any more. Where node 0 allows it, Dial then tries to
// come back, with a new call of local.
//
// The error is nil if node 0 said that the job went well, and otherwise of the class that it
// said. Own classes: ends.Retry if node 0 was not met in time, ends.Usage if it refused this
// node, ends.PeerLost if it was lost.
func Dial(ctx context.Context, options Options, local func(sink node.Sink) node.Agent) error {
	o, err := options.prepare()
	if err != nil {
		return err
	}
	if o.Node == 0 {
		return ends.Errorf(ends.Bug, "node 0 does not dial")
	}
	d := &dialer{Options: o}
	if d.tls, err = o.TLS.config(); err != nil {
		return ends.As(ends.Usage, err)
	}
	patience := o.JoinTimeout
	var lost error // node 0 was, before
	for {
		began := time.Now()
		conn, err := d.meet(ctx, patience)
		if err != nil {
			if lost != nil && ctx.Err() == nil {
				return ends.Errorf(ends.PeerLost, "%w; it did not come back: %w", lost, err)
			}
			return err
		}
		end := d.attend(ctx, conn, local)
		if !end.lost || ctx.Err() != nil {
			return end.err
		}
		if !end.met {
			// It went away between its proof and its welcome: that was no meeting.
			if patience -= time.Since(began); patience <= 0 {
				return ends.Errorf(ends.Retry, "node %d was not welcomed: %w", o.Node, end.err)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(o.timing.retry):
			}
			continue
		}
		lost, patience = end.err, end.rejoin
		if patience <= 0 {
			return lost
		}
		o.sayf("%v; trying to come back for %v", lost, patience)
	}
}

type dialer struct {
	Options
	tls *tls.Config
}

// target is one address to try, with the secret to show there.
type target struct {
	at     netip.AddrPort
	secret []byte
	job    string // wanted there
}

// targets finds where node 0 may be now.
func (d *dialer) targets(ctx context.Context) ([]target, error) {
	if d.Rendezvous.File != "" {
		m, err := readMeetingPoint(d.Rendezvous.File)
		if err != nil {
			return nil, err
		}
		if d.JobID != "" && m.JobID != d.JobID {
			return nil, fmt.Errorf("%s is of job %q, this is node %d of job %q", d.Rendezvous.File, m.JobID, d.Node, d.JobID)
		}
		secret := d.Secret
		if secret == nil && m.Secret != "" {
			secret = []byte(m.Secret)
		}
		var all []target
		for _, at := range m.Addresses {
			all = append(all, target{at, secret, m.JobID})
		}
		return all, nil
	}
	addrs, err := d.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var all []target
	for _, port := range d.Rendezvous.Ports {
		for _, a := range addrs {
			all = append(all, target{netip.AddrPortFrom(a, uint16(port)), d.Secret, d.JobID})
		}
	}
	return all, nil
}

// meet tries to find node 0 until the timeout.
func (d *dialer) meet(ctx context.Context, timeout time.Duration) (*provenConn, error) {
	began := time.Now()
	next := d.timing.tell
	wait := d.timing.retry / 16
	for {
		conn, err := d.tryAll(ctx)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		var no *refusal
		if errors.As(err, &no) && d.final() {
			return nil, ends.Errorf(ends.Usage, "node %d cannot join: %w", d.Node, err)
		}
		if ends.CodeOf(err) == ends.Usage {
			return nil, err
		}
		waited := time.Since(began)
		if waited >= timeout {
			return nil, ends.Errorf(ends.Retry, "node %d of job %q did not find node 0 at %v within %v: %w", d.Node, d.JobID, d.Rendezvous, timeout, err)
		}
		if waited >= next {
			d.sayf("node %d waits for node 0 at %v: %v", d.Node, d.Rendezvous, err)
			next += d.timing.tell
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(wait, timeout-waited)):
		}
		wait = min(wait*2, d.timing.retry)
	}
}

// final is true if a refusal is the last word: there is no other place at which node 0
// could be.
func (d *dialer) final() bool { return d.Rendezvous.File == "" && len(d.Rendezvous.Ports) == 1 }

// tryAll tries each place once. Its error tells of each, and is a refusal if one was.
func (d *dialer) tryAll(ctx context.Context) (*provenConn, error) {
	targets, err := d.targets(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range targets {
		conn, err := d.try(ctx, t)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, &allFailed{errs}
}

// allFailed are the errors of several places, on one line.
type allFailed struct{ errs []error }

func (e *allFailed) Unwrap() []error { return e.errs }

func (e *allFailed) Error() string {
	var texts []string
	for _, err := range e.errs {
		if text := err.Error(); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// try connects to one place and proves the connection.
func (d *dialer) try(ctx context.Context, t target) (*provenConn, error) {
	if t.secret == nil && !t.at.Addr().IsLoopback() {
		return nil, ends.Errorf(ends.Usage, "node 0 is at %v and there is no secret: set WANRUN_SECRET or a secret file on every node, or use --rdzv file:PATH", t.at)
	}
	id := &identity{tls: d.tls, job: t.job, node: d.Node, timeout: d.timing.patience}
	var err error
	if id.key, err = keyOf(t.secret); err != nil {
		return nil, err
	}
	tcp := net.Dialer{Timeout: d.timing.connect}
	if d.Iface != "" {
		if tcp.LocalAddr, err = d.from(t.at.Addr()); err != nil {
			return nil, err
		}
	}
	raw, err := tcp.DialContext(ctx, "tcp", t.at.String())
	if err != nil {
		return nil, err
	}
	conn, err := id.greet(ctx, raw)
	if err != nil {
		_ = raw.Close() // nothing was promised
		return nil, fmt.Errorf("%v: %w", t.at, err)
	}
	return conn, nil
}

// from is the address of the chosen interface, of the same family as to.
func (d *dialer) from(to netip.Addr) (net.Addr, error) {
	all, err := d.interfaces()
	if err != nil {
		return nil, err
	}
	addrs, err := chosen(d.Iface, all)
	if err != nil {
		return nil, ends.As(ends.Usage, err)
	}
	for _, a := range addrs {
		if a.Is4() == to.Is4() {
			return &net.TCPAddr{IP: a.AsSlice()}, nil
		}
	}
	return nil, fmt.Errorf("--iface %q has no address of the family of %v", d.Iface, to)
}
