package ulysses

// Shapes: S rows of this rank, C rows of its chunk (those of its all-to-all group),
// N heads of the model, M heads of this rank, H head dim.

import (
	"context"
	"errors"
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Options are the settings of an Attention; all ranks have the same.
type Options struct {
	// Heads is the model's number of heads.
	Heads int
	// Degree is the number of ranks that trade tokens for heads; the ring has the
	// group's size divided by it. Where it does not divide Heads, ranks have head ranges
	// that differ by one: see sharding.Imbalance for what that costs.
	Degree int
	// CompatPadding does as the official code: the sequence is padded to a multiple of
	// the ranks and padding takes part as keys. Otherwise every rank has nearly equally
	// many tokens, and padding exists only where there are more ranks than tokens.
	CompatPadding bool
	// Pieces is how many parts a rank's heads are exchanged in, so that one travels
	// while the attention of another is computed; at most the heads of the rank with
	// fewest. 0 chooses by the heads and the bytes.
	Pieces int
	// Inner computes the attention of some of a rank's heads, a piece at a time; nil is
	// Ops.Attention. It may be called with spec.LSE, to be filled.
	Inner func(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor
}

// Attention is a rank's part of attention over a sequence that a group holds
// together. Its methods are called by every rank of the group, in the same order, from
// the goroutine that issues the rank's ops.
type Attention struct {
	opts          Options
	seq           comm.Group // all ranks of the sequence
	trade, circle comm.Group // the all-to-all's and the ring's
	place         comm.Place
	branches      int // attentions a block
	calls         int // attentions since Begin
}

// New splits the ranks seq of one sequence into groups for all-to-all and ring. It is
// a collective. The caller keeps seq and closes the Attention before it.
// Errors: tensor.ErrShape for degrees that do not fit; what Split reports.
func New(ctx context.Context, seq comm.Group, opts Options) (*Attention, error) {
	if opts.Degree < 1 || seq.Size()%opts.Degree != 0 {
		return nil, fmt.Errorf("ulysses degree %d for a sequence of %d ranks; choices: %v: %w",
			opts.Degree, seq.Size(), sharding.Divisors(seq.Size()), tensor.ErrShape)
	}
	if err := sharding.CheckUneven(opts.Heads, opts.Degree); err != nil {
		return nil, fmt.Errorf("ulysses: %w: %w", err, tensor.ErrShape)
	}
	at := comm.Place{Purpose: "groups"}
	trade, err := seq.Split(ctx, at, seq.Rank()/opts.Degree, seq.Rank())
	if err != nil {
		return nil, fmt.Errorf("ulysses groups: %w", err)
	}
	circle, err := seq.Split(ctx, at, seq.Rank()%opts.Degree, seq.Rank())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ring groups: %w", err), trade.Close())
	}
	return &Attention{opts: opts, seq: seq, trade: trade, circle: circle, branches: 1}, nil
}

// Close leaves the groups that New made.
func (a *Attention) Close() error { return errors.Join(a.circle.Close(), a.trade.Close()) }

// Begin says that a forward of so many branches comes next and where in the run it
// is, for errors and for the traffic's report. Blocks are counted from then on.
func (a *Attention) Begin(phase string, step, branches int) {
	a.place, a.branches, a.calls = comm.Place{Phase: phase, Step: step}, max(branches, 1), 0
}

func (a *Attention) at(purpose string) comm.Place {
	p := a.place
	p.Purpose = purpose
	if p.Phase != "" {
		p.Block = a.calls/a.branches + 1
	}
	return p
}

// tokens returns every rank's rows of a sequence.
func (a *Attention) tokens(numTokens int) []sharding.Range {
	if a.opts.CompatPadding {
		return sharding.All(sharding.Even, numTokens, a.seq.Size())
	}
	return sharding.All(sharding.Tokens, numTokens, a.seq.Size())
}

// Shard returns the rows of this rank.
func (a *Attention) Shard(numTokens int) (start, count int) {
	own := a.tokens(numTokens)[a.seq.Rank()]
	return own.Start, own.Count
}

// Gather returns all rows [numTokens, X] of a tensor of which y [S, X] are this rank's.
func (a *Attention) Gather(ops tensor.Ops, y tensor.Tensor, numTokens int) tensor.Tensor {
	if a.seq.Size() == 1 || ops.Err() != nil {
		return y
	}
	tokens := a.tokens(numTokens)
	width := y.Dim(1)
	if y.Rank() != 2 || y.Dim(0) != tokens[a.seq.Rank()].Count {
		ops.Fail(fmt.Errorf("gather %v: rank %d holds %d rows of %d: %w", y, a.seq.Rank(), tokens[a.seq.Rank()].Count, numTokens, tensor.ErrShape))
		return tensor.Tensor{}
	}
	counts := make([]int64, len(tokens))
	for i, r := range tokens {
		counts[i] = int64(r.Count) * int64(width)
	}
	all := ops.Empty(y.DType(), tokens[len(tokens)-1].End(), width)
	if ops.Err() != nil {
		return tensor.Tensor{}
	}
	at := a.place
	at.Purpose = "prediction"
	if err := a.seq.AllGather(ops.Context(), at, all, y, counts); err != nil {
		ops.Fail(err)
		return tensor.Tensor{}
	}
	return all.Slice(0, numTokens)
}

// Attend returns softmax(q·kᵀ·scale)·v over the whole sequence, although each rank
// holds only its rows of q, k and v: an all-to-all trades tokens for heads, keys and
// values go round the ring, and a second all-to-all trades back.
//
//	q, k, v  [S, N, H]
//	result   [S, N, H]   owned by the current scope
//
// spec.KeyLen is the number of tokens of the sequence. Without a ring the result is
// bit-equal to one rank's, as heads do not depend on each other; with one, partial
// results are merged in F32, in the order in which they come round.
//
// The exchanges are cut into pieces of heads: while the attention of one piece is
// computed, q, k and v of the next come and the output of the last leaves.
//
// Beside the result and what Inner takes, it uses, from the Collective arena, three
// times q, k and v and once the output of the largest piece (of a single piece two
// times q, k and v), and with a ring a further k and v. From the ops' own arena come
// the outputs of all pieces, together as large as result, and with a ring, where the
// type is not F32, a piece of the output in F32.
//
// Errors stick to ops: tensor.ErrShape, comm.ErrAborted.
func (a *Attention) Attend(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor {
	defer func() { a.calls++ }()
	if ops.Err() != nil {
		return tensor.Tensor{}
	}
	if err := a.check(q, k, v, spec); err != nil {
		ops.Fail(err)
		return tensor.Tensor{}
	}
	g := a.geometry(q, spec.KeyLen)
	if a.seq.Size() == 1 {
		spec.KeyLen = g.keyLen
		return a.inner(ops, q, k, v, spec)
	}
	result := ops.Empty(q.DType(), q.Shape()...)
	ops.Using(tensor.Collective).Scope(func() {
		ops.Scope(func() {
			if a.trade.Size() == 1 {
				a.allHeads(ops, g, result, q, k, v, spec.Scale)
			} else {
				a.inPieces(ops, g, result, q, k, v, spec.Scale)
			}
		})
	})
	return result
}

// allHeads sets result from a ring alone, in which every rank has all heads.
func (a *Attention) allHeads(ops tensor.Ops, g *geometry, result, qCNH, kCNH, vCNH tensor.Tensor, scale float32) {
	n := int(kCNH.NumElements())
	buffers := ops.Using(tensor.Collective)
	room := 2 * g.longest() * a.opts.Heads * g.headDim
	kv, other := buffers.Empty(g.dtype, room), buffers.Empty(g.dtype, room)
	if ops.Err() != nil {
		return
	}
	ops.CopyTo(kv.Slice(0, n), ops.Reshape(kCNH, n))
	ops.CopyTo(kv.Slice(n, n), ops.Reshape(vCNH, n))
	a.ring(ops, g, result, qCNH, kv, other, scale)
}

// inPieces sets result by exchanges around the attention of each piece of heads. What
// travels while a piece is computed: q, k, v of the next and the output of the last.
func (a *Attention) inPieces(ops tensor.Ops, g *geometry, result, qSNH, kSNH, vSNH tensor.Tensor, scale float32) {
	x := a.newExchange(ops, g, result, qSNH, kSNH, vSNH)
	defer x.settle()
	x.send(0)
	for i := range g.pieces {
		qCMH, kv := x.receive(i)
		if i+1 < len(g.pieces) {
			x.send(i + 1)
		}
		if ops.Err() != nil {
			return
		}
		var yCMH tensor.Tensor
		if a.circle.Size() == 1 {
			kCMH, vCMH := g.split(kv, g.chunk(), qCMH)
			yCMH = a.inner(ops, qCMH, kCMH, vCMH, tensor.AttentionSpec{Scale: scale, KeyLen: g.keyLen})
		} else {
			yCMH = ops.Empty(g.dtype, qCMH.Shape()...)
			a.ring(ops, g, yCMH, qCMH, kv, x.ringed, scale)
		}
		x.arrived()
		x.giveBack(i, yCMH)
	}
	x.arrived()
}

func (a *Attention) inner(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor {
	if a.opts.Inner != nil {
		return a.opts.Inner(ops, q, k, v, spec)
	}
	return ops.Attention(q, k, v, spec)
}

func (a *Attention) check(q, k, v tensor.Tensor, spec tensor.AttentionSpec) error {
	switch {
	case q.Rank() != 3 || q.Dim(1) != a.opts.Heads || !q.Shape().Equal(k.Shape()) || !q.Shape().Equal(v.Shape()) ||
		q.DType() != k.DType() || q.DType() != v.DType():
		return fmt.Errorf("ulysses: q %v, k %v, v %v; want three of [rows, %d, head dim]: %w", q, k, v, a.opts.Heads, tensor.ErrShape)
	case spec.KeyLen < 1:
		return fmt.Errorf("ulysses: a sequence of %d tokens: %w", spec.KeyLen, tensor.ErrShape)
	case !spec.RelBias.IsNone() || !spec.LSE.IsNone():
		return fmt.Errorf("ulysses: a relative bias or an lse is not supported: %w", tensor.ErrShape)
	}
	if _, want := a.Shard(spec.KeyLen); q.Dim(0) != want {
		return fmt.Errorf("ulysses: rank %d has %d rows of a sequence of %d; want %d: %w", a.seq.Rank(), q.Dim(0), spec.KeyLen, want, tensor.ErrShape)
	}
	return nil
}
