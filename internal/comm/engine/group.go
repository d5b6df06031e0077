package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sort"
	"sync"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Group is a rank's membership in a set of ranks, over a World.
type Group struct {
	w       *World
	id      uint64
	rank    int
	members []int
	box     *inbox
	whole   bool // the job's own group

	mu      sync.Mutex
	tail    chan struct{} // closed at the end of the last call that was begun
	seq     int64         // collectives begun
	pairs   []int64       // sends and recvs begun with each member
	splits  int64
	history []comm.Record // a ring, next is the oldest once full
	next    int
	closed  bool
}

var _ comm.Group = (*Group)(nil)

// wholeID is the id of the job's own group.
const wholeID = 1

// NewGroup returns the group of all ranks of w.
func NewGroup(w *World) *Group {
	members := make([]int, w.size)
	for i := range members {
		members[i] = i
	}
	g := newGroup(w, wholeID, w.rank, members)
	g.whole = true
	return g
}

func newGroup(w *World, id uint64, rank int, members []int) *Group {
	w.mu.Lock()
	defer w.mu.Unlock()
	tail := make(chan struct{})
	close(tail)
	return &Group{w: w, id: id, rank: rank, members: members, box: w.inbox(id), tail: tail, pairs: make([]int64, len(members))}
}

// Rank returns this rank's number in the group.
func (g *Group) Rank() int { return g.rank }

// Size returns the number of ranks.
func (g *Group) Size() int { return len(g.members) }

// Members returns the ranks as numbered in the job.
func (g *Group) Members() []int { return g.members }

// Done is closed by the first failure.
func (g *Group) Done() <-chan struct{} { return g.w.done }

// Err returns the first failure.
func (g *Group) Err() error {
	if f := g.w.Failure(); f != nil {
		return f
	}
	return nil
}

// Kill makes this rank look dead to its peers. For tests.
func (g *Group) Kill() { g.w.Kill() }

// Carrier returns the transport. For tests.
func (g *Group) Carrier() Carrier { return g.w.carrier }

// AllToAll trades parts with every rank.
func (g *Group) AllToAll(ctx context.Context, at comm.Place, dst, src tensor.Tensor, dstCounts, srcCounts []int64) error {
	return g.do(ctx, comm.Call{Op: comm.OpAllToAll, Place: at, Dst: dst, Src: src, DstCounts: dstCounts, SrcCounts: srcCounts})
}

// AllGather collects every rank's src.
func (g *Group) AllGather(ctx context.Context, at comm.Place, dst, src tensor.Tensor, counts []int64) error {
	return g.do(ctx, comm.Call{Op: comm.OpAllGather, Place: at, Dst: dst, Src: src, DstCounts: counts})
}

// ReduceScatter reduces this rank's part.
func (g *Group) ReduceScatter(ctx context.Context, at comm.Place, dst, src tensor.Tensor, counts []int64, r comm.Reduction) error {
	return g.do(ctx, comm.Call{Op: comm.OpReduceScatter, Place: at, Dst: dst, Src: src, SrcCounts: counts, Reduce: r})
}

// AllReduce reduces x in place.
func (g *Group) AllReduce(ctx context.Context, at comm.Place, x tensor.Tensor, r comm.Reduction) error {
	return g.do(ctx, comm.Call{Op: comm.OpAllReduce, Place: at, Dst: x, Reduce: r})
}

// Broadcast copies the root's x.
func (g *Group) Broadcast(ctx context.Context, at comm.Place, x tensor.Tensor, root int) error {
	return g.do(ctx, comm.Call{Op: comm.OpBroadcast, Place: at, Dst: x, Peer: root})
}

// Shift passes src on by a distance.
func (g *Group) Shift(ctx context.Context, at comm.Place, dst, src tensor.Tensor, by int) error {
	return g.do(ctx, comm.Call{Op: comm.OpShift, Place: at, Dst: dst, Src: src, Peer: by})
}

// Send sends to one rank.
func (g *Group) Send(ctx context.Context, at comm.Place, src tensor.Tensor, to int) error {
	return g.do(ctx, comm.Call{Op: comm.OpSend, Place: at, Src: src, Peer: to})
}

// Recv receives from one rank.
func (g *Group) Recv(ctx context.Context, at comm.Place, dst tensor.Tensor, from int) error {
	return g.do(ctx, comm.Call{Op: comm.OpRecv, Place: at, Dst: dst, Peer: from})
}

// Barrier waits for every rank.
func (g *Group) Barrier(ctx context.Context, at comm.Place) error {
	return g.do(ctx, comm.Call{Op: comm.OpBarrier, Place: at})
}

func (g *Group) do(ctx context.Context, c comm.Call) error {
	t, err := g.begin(c)
	if err != nil {
		return err
	}
	return t.run(ctx)
}

type pending struct {
	done chan struct{}
	err  error
}

func (p *pending) Wait() error {
	<-p.done
	return p.err
}

// Start begins a collective on a goroutine of its own, which Close waits for.
func (g *Group) Start(ctx context.Context, c comm.Call) comm.Pending {
	p := &pending{done: make(chan struct{})}
	t, err := g.begin(c)
	if err != nil {
		p.err = err
		close(p.done)
		return p
	}
	go func() {
		defer close(p.done)
		p.err = t.run(ctx)
	}()
	return p
}

// Split makes groups of equal color.
func (g *Group) Split(ctx context.Context, at comm.Place, color, key int) (comm.Group, error) {
	g.mu.Lock()
	index := g.splits
	g.splits++
	g.mu.Unlock()
	mine := le.AppendUint64(le.AppendUint64(nil, uint64(color)), uint64(key))
	all := make([]byte, len(mine)*g.Size())
	src, err := comm.OfBytes(tensor.I64, mine, 2)
	if err != nil {
		return nil, err
	}
	dst, err := comm.OfBytes(tensor.I64, all, g.Size(), 2)
	if err != nil {
		return nil, err
	}
	t, err := g.begin(comm.Call{Op: comm.OpAllGather, Place: at, Dst: dst, Src: src})
	if err != nil {
		return nil, err
	}
	t.own = true
	if err := t.run(ctx); err != nil {
		return nil, fmt.Errorf("split: %w", err)
	}
	if color < 0 {
		return nil, nil
	}
	type entry struct{ key, rank int }
	var same []entry
	for i := range g.Size() {
		if int(le.Uint64(all[i*16:])) == color {
			same = append(same, entry{int(le.Uint64(all[i*16+8:])), i})
		}
	}
	sort.SliceStable(same, func(i, j int) bool { return same[i].key < same[j].key })
	members, rank := make([]int, len(same)), 0
	for i, e := range same {
		members[i] = g.members[e.rank]
		if e.rank == g.rank {
			rank = i
		}
	}
	return newGroup(g.w, childID(g.id, index, color), rank, members), nil
}

// childID is the same on every rank of a new group, without asking.
func childID(parent uint64, index int64, color int) uint64 {
	h := fnv.New64a()
	var b []byte
	for _, v := range []uint64{parent, uint64(index), uint64(color)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	_, _ = h.Write(b) // a hash never fails
	return h.Sum64()
}

// Enter tells every rank of the job where this one is.
func (g *Group) Enter(at comm.Place) {
	w := g.w
	w.mu.Lock()
	w.seen[w.rank] = at.Cut().String()
	stop := w.failure != nil || w.closing
	left := slices.Clone(w.left)
	w.mu.Unlock()
	for i := range w.size {
		if i != w.rank && !stop && !left[i] {
			// A peer that cannot be told is noticed by its connection.
			_ = w.carrier.Send(i, Message{Kind: KindEnter, Where: at.Cut()})
		}
	}
}

// Abort ends the job's groups.
func (g *Group) Abort(cause error) {
	if cause == nil {
		cause = errors.New("no cause given")
	}
	text := fmt.Sprintf("rank %d aborted: %v", g.w.rank, cause)
	g.w.Fail(&comm.Failure{Kind: comm.ErrAborted, Rank: g.w.rank, By: g.w.rank, Text: text, Cause: cause})
}

// History returns the last collectives.
func (g *Group) History() []comm.Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append(slices.Clone(g.history[g.next:]), g.history[:g.next]...)
}

// Traffic returns the sums of the rank.
func (g *Group) Traffic() []comm.Traffic { return g.w.sums() }

// Close leaves the group.
func (g *Group) Close() error {
	if g.whole {
		return g.w.Close()
	}
	g.mu.Lock()
	again := g.closed
	g.closed = true
	tail := g.tail
	g.mu.Unlock()
	if again {
		return errors.New("group closed twice")
	}
	select {
	case <-tail:
	default:
		text := fmt.Sprintf("rank %d closed a group during a collective", g.w.rank)
		g.w.Fail(&comm.Failure{Kind: comm.ErrAborted, Rank: g.w.rank, By: g.w.rank, Text: text})
		<-tail
	}
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	delete(g.w.inboxes, g.id)
	return nil
}
