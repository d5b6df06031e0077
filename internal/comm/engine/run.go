package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
)

// running is one collective on this rank, from its place in the queue to its end.
type running struct {
	g      *Group
	plan   *plan
	call   comm.Call
	seq    int64
	own    bool // the engine's own: moves bytes even when only counting, is not counted
	before chan struct{}
	ended  chan struct{}
	record comm.Record
	update func(comm.Record)

	in   []incoming
	out  []outgoing
	then func() // done once when the first part of every stream has come

	// Under the world's mutex:
	heard  []bool  // members that announced the same call; this one among them
	wanted []int64 // bytes still to come from each member
	over   bool
}

// errDeadline tells the collective's own deadline from the caller's.
var errDeadline = errors.New("the collective's deadline")

// begin takes the next place in the group's order.
func (g *Group) begin(c comm.Call) (*running, error) {
	if err := g.w.begin(); err != nil {
		return nil, fmt.Errorf("%v: %w", c.Op, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &running{g: g, call: c, before: g.tail, ended: make(chan struct{})}
	g.tail = r.ended
	switch {
	case (c.Op == comm.OpSend || c.Op == comm.OpRecv) && c.Peer >= 0 && c.Peer < len(g.pairs):
		g.pairs[c.Peer]++
		r.seq = g.pairs[c.Peer]
	default:
		g.seq++
		r.seq = g.seq
	}
	return r, nil
}

// run does the collective when its turn has come.
func (r *running) run(ctx context.Context) error {
	defer r.g.w.end()
	defer close(r.ended)
	<-r.before
	w := r.g.w
	r.record = comm.Record{Op: r.call.Op, Seq: r.seq, Place: r.call.Place.Cut(), Began: w.now()}
	p, err := newPlan(r.call, r.g.rank, r.g.Size())
	if err != nil {
		// The other ranks would wait for this one.
		err = fmt.Errorf("%v: %w", r.record, err)
		r.fail(&comm.Failure{Kind: comm.ErrAborted, Text: fmt.Sprintf("rank %d called it wrongly: %v", w.rank, err), Cause: err})
		return err
	}
	r.plan = p
	r.record.DType = p.dtype
	r.record.Sent, r.record.Received = total(p.sent), total(p.received)
	r.update = r.g.remember(r.record)
	w.Failpoint(r.call.Op.String() + ".enter")
	if !r.watched(ctx) {
		r.finish(comm.Failed)
		if w.carrier.Borrows() {
			w.carrier.Revoke(r.g.id)
		}
		return fmt.Errorf("%s: %w", r.name(), w.Failure())
	}
	r.finish(comm.Finished)
	if !r.own {
		w.count(r.record)
	}
	w.Failpoint(r.call.Op.String() + ".done")
	return nil
}

func (r *running) finish(s comm.State) {
	r.record.State, r.record.Ended = s, r.g.w.now()
	r.update(r.record)
}

// name is the call with its group, as errors say it.
func (r *running) name() string {
	if r.g.whole {
		return r.record.String()
	}
	return fmt.Sprintf("%v among %s", r.record, ranks(r.g.members))
}

// fail ends the groups with a failure that this rank found.
func (r *running) fail(f *comm.Failure) {
	if f.Kind == comm.ErrAborted {
		f.Rank = r.g.w.rank
	}
	f.By = r.g.w.rank
	r.g.w.Fail(f)
}

// watched does the collective under its deadlines and reports whether it
// succeeded; the world's failure says why not.
func (r *running) watched(ctx context.Context) bool {
	w := r.g.w
	r.heard, r.wanted = make([]bool, r.g.Size()), append([]int64(nil), r.plan.received...)
	for i := range r.heard {
		r.heard[i] = true
	}
	for _, i := range r.plan.involved {
		r.heard[i] = false
	}
	if ctx.Err() != nil {
		r.expire(ctx, ctx)
		return false
	}
	limited, cancel := context.WithTimeoutCause(ctx, w.opts.Timeout, errDeadline)
	defer cancel()
	expired := make(chan struct{})
	stop := context.AfterFunc(limited, func() {
		defer close(expired)
		r.expire(ctx, limited)
	})
	if w.opts.Slow != nil && w.opts.SlowAfter > 0 {
		slow := time.AfterFunc(w.opts.SlowAfter, r.slow)
		defer slow.Stop()
	}
	ok := r.perform()
	w.mu.Lock()
	r.over = true
	w.mu.Unlock()
	if !stop() {
		<-expired
	}
	return ok
}

// perform announces, compares and moves.
func (r *running) perform() bool {
	w := r.g.w
	op := r.call.Op.String()
	moves := !w.countOnly || r.own
	if w.Failure() != nil {
		return false
	}
	if moves {
		if err := r.prepare(); err != nil {
			return r.broken(err)
		}
	}
	r.announce()
	w.Failpoint(op + ".announced")
	if err := r.match(); err != nil {
		return r.broken(err)
	}
	w.Failpoint(op + ".matched")
	if !moves {
		return true
	}
	r.record.State = comm.Moving
	r.update(r.record)
	if err := r.exchange(); err != nil {
		return r.broken(err)
	}
	return w.Failure() == nil // for others it may have failed
}

// broken ends the groups with an error of this rank's own, if they have not ended.
func (r *running) broken(err error) bool {
	w := r.g.w
	if !errors.Is(err, errEnded) {
		r.fail(&comm.Failure{Kind: comm.ErrAborted, Text: fmt.Sprintf("rank %d in %s: %v", w.rank, r.name(), err), Cause: err})
	}
	return false
}

// announcement is what member i is told.
func (r *running) announcement(i int) Announcement {
	return Announcement{
		Op: r.call.Op, Seq: r.seq, DType: r.plan.dtype, Reduce: r.call.Reduce, Peer: r.plan.peer(),
		Place: r.record.Place, To: r.plan.sent[i], From: r.plan.received[i],
	}
}

func (r *running) announce() {
	w := r.g.w
	w.mu.Lock()
	w.seen[w.rank] = r.record.String()
	w.mu.Unlock()
	for _, i := range r.plan.involved {
		peer := r.g.members[i]
		if err := w.carrier.Send(peer, Message{Kind: KindAnnounce, Group: r.g.id, Announce: r.announcement(i)}); err != nil {
			w.Lost(peer, err)
		}
	}
}

// match waits until every involved rank has announced the same call.
func (r *running) match() error {
	w := r.g.w
	for {
		all, f := r.look()
		if f != nil {
			r.fail(f)
			return errEnded
		}
		if w.Failure() != nil {
			return errEnded
		}
		if all {
			return nil
		}
		if _, err := r.drain(); err != nil {
			return err
		}
		select {
		case <-r.g.box.wake:
		case <-w.done:
			return errEnded
		}
	}
}

// look takes the announcements that have come.
func (r *running) look() (all bool, f *comm.Failure) {
	w := r.g.w
	w.mu.Lock()
	defer w.mu.Unlock()
	all = true
	for _, i := range r.plan.involved {
		if r.heard[i] {
			continue
		}
		peer := r.g.members[i]
		calls := r.g.box.calls[peer]
		if len(calls) == 0 {
			if w.left[peer] {
				text := fmt.Sprintf("rank %d has closed its groups, but rank %d is in %s", peer, w.rank, r.name())
				return false, &comm.Failure{Kind: comm.ErrPeerLost, Rank: peer, Text: text}
			}
			all = false
			continue
		}
		theirs := calls[0]
		r.g.box.calls[peer] = append(calls[:0], calls[1:]...)
		if mine := r.announcement(i); !mine.fits(theirs) {
			text := fmt.Sprintf("ranks %d and %d disagree: rank %d is in %s; rank %d is in %s",
				w.rank, peer, w.rank, mine.describe(peer), peer, theirs.describe(w.rank))
			if !r.g.whole {
				text += "; both among " + ranks(r.g.members)
			}
			return false, &comm.Failure{Kind: comm.ErrMismatch, Rank: -1, Text: text}
		}
		r.heard[i] = true
	}
	return all, nil
}
