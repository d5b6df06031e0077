package comm

import (
	"context"
	"time"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// DefaultTimeout is the deadline of a collective when Options sets none: above
// the longest step of any rank, as ranks that compute are not late.
const DefaultTimeout = 30 * time.Minute

// DefaultHistory is how many of its last collectives a group remembers.
const DefaultHistory = 64

// Options are a rank's settings of all its groups.
type Options struct {
	// Timeout limits one collective, from call to end. 0 is DefaultTimeout.
	Timeout time.Duration
	// History is how many collectives are remembered. 0 is DefaultHistory.
	History int
	// Slow, if set, is told once of each collective that has waited for SlowAfter,
	// with the ranks that wait and those that are late. It must not call the group.
	Slow      func(text string)
	SlowAfter time.Duration
	// Checksum adds a CRC-32C to bulk data, checked on arrival.
	Checksum bool
	// Now, if set, dates the history.
	Now func() time.Time
	// Failpoint, if set, is called at named points; nil in production.
	Failpoint func(name string)
}

// Group is a rank's membership in a set of ranks. Counts are in elements; Dst and
// Src do not overlap except where a method says so; every rank passes the same
// element type, and place. A none tensor stands for no elements.
//
// A rank has one collective of a group under way at a time: further ones wait
// for their turn, in the order of the calls. Different groups of a rank may be
// used at the same time by different goroutines.
//
// A collective returns when this rank's buffers may be used again. A device
// transport may return earlier, with the work queued in the order of the
// backend's ops. Tensors must stay allocated until then. Host transports work on
// the bytes themselves: the caller has synced a backend that is asynchronous.
//
// Errors of collectives are a *Failure in a wrapping that names the collective:
// ErrAborted always, and ErrTimeout, ErrMismatch or ErrPeerLost where they apply;
// tensor.ErrShape for wrong arguments. After an error every group of the job is
// dead, on all ranks.
type Group interface {
	// Rank is this rank's number in the group: 0 <= Rank < Size.
	Rank() int
	Size() int
	// Members are the group's ranks as numbered in the whole job, in the group's
	// order. The caller must not change it.
	Members() []int

	// AllToAll sends part i of src to rank i and puts what rank i sent into part i
	// of dst. nil counts are equal parts.
	AllToAll(ctx context.Context, at Place, dst, src tensor.Tensor, dstCounts, srcCounts []int64) error
	// AllGather puts the src of rank i into part i of dst. src may be this rank's
	// part of dst.
	AllGather(ctx context.Context, at Place, dst, src tensor.Tensor, counts []int64) error
	// ReduceScatter puts into dst the reduction over the ranks of part Rank of src.
	ReduceScatter(ctx context.Context, at Place, dst, src tensor.Tensor, counts []int64, r Reduction) error
	// AllReduce replaces x by its reduction over the ranks.
	AllReduce(ctx context.Context, at Place, x tensor.Tensor, r Reduction) error
	// Broadcast replaces x by the root's.
	Broadcast(ctx context.Context, at Place, x tensor.Tensor, root int) error
	// Shift sends src to rank Rank+by and receives dst from rank Rank-by, both modulo
	// Size: the step of a ring.
	Shift(ctx context.Context, at Place, dst, src tensor.Tensor, by int) error
	// Send sends src to one rank, which must call Recv for as many bytes. It waits
	// for it.
	Send(ctx context.Context, at Place, src tensor.Tensor, to int) error
	Recv(ctx context.Context, at Place, dst tensor.Tensor, from int) error
	// Barrier returns when every rank has called it.
	Barrier(ctx context.Context, at Place) error

	// Start begins a collective behind those already begun and returns; c's tensors
	// and counts belong to the group until Wait.
	Start(ctx context.Context, c Call) Pending

	// Split is a collective that makes one group of the ranks with equal color,
	// ordered by key, then by rank. A negative color takes part but gets no group.
	Split(ctx context.Context, at Place, color, key int) (Group, error)

	// Enter tells the other ranks where this one is, for their reports. It does not
	// wait.
	Enter(at Place)
	// Abort ends every group of the job on every rank. It returns at once.
	Abort(cause error)
	// Done is closed when the job's groups have failed; Err then says why. A rank
	// that computes watches it.
	Done() <-chan struct{}
	Err() error
	// History returns the last collectives of this group, oldest first.
	History() []Record
	// Traffic returns the sums of all groups of this rank since the start.
	Traffic() []Traffic
	// Close leaves the group; the whole job's group also says goodbye to the peers
	// and frees the transport. A collective still under way fails. Close every
	// sub-group first; each once.
	Close() error
}

// Pending is a collective under way.
type Pending interface {
	// Wait returns the collective's error when dst holds its result and src is
	// free. A device transport makes later ops of the backend wait instead. It may
	// be called any number of times.
	Wait() error
}
