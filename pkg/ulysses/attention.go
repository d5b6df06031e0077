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
	// Inner computes the attention of a rank's heads; nil is Ops.Attention. It may be
	// called with spec.LSE, to be filled.
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

// geometry is what one attention's sizes follow from.
type geometry struct {
	dtype   tensor.DType
	headDim int
	tokens  []sharding.Range // of each rank of the all-to-all's group, within the chunk
	heads   []sharding.Range // likewise
	chunks  []sharding.Range // of each rank of the ring, within the sequence
	trade   int              // this rank in the all-to-all's group
	circle  int              // and in the ring
	keyLen  int              // keys of the sequence that count
}

func (g *geometry) rows() int     { return g.tokens[g.trade].Count }
func (g *geometry) chunk() int    { return g.chunks[g.circle].Count }
func (g *geometry) ownHeads() int { return g.heads[g.trade].Count }

// row is the elements of one row of this rank's heads.
func (g *geometry) row() int { return g.ownHeads() * g.headDim }

// longest is the most rows of any chunk.
func (g *geometry) longest() int {
	most := 0
	for _, c := range g.chunks {
		most = max(most, c.Count)
	}
	return most
}

func (a *Attention) geometry(q tensor.Tensor, numTokens int) *geometry {
	tokens := a.tokens(numTokens)
	degree := a.opts.Degree
	g := &geometry{dtype: q.DType(), headDim: q.Dim(2), trade: a.trade.Rank(), circle: a.circle.Rank(), keyLen: numTokens,
		heads: sharding.All(sharding.Balanced, a.opts.Heads, degree)}
	for i := 0; i < len(tokens); i += degree {
		start := tokens[i].Start
		g.chunks = append(g.chunks, sharding.Range{Start: start, Count: tokens[i+degree-1].End() - start})
	}
	own := g.chunks[g.circle]
	for _, t := range tokens[g.circle*degree : (g.circle+1)*degree] {
		g.tokens = append(g.tokens, sharding.Range{Start: t.Start - own.Start, Count: t.Count})
	}
	if a.opts.CompatPadding {
		g.keyLen = tokens[len(tokens)-1].End()
	}
	return g
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
// Beside the result and what Inner takes, it uses, from the Collective arena, two
// times q, k and v while they are exchanged, then one time them and the output, and
// with a ring a second k and v; and, with a ring, from the ops' own arena the output
// in F32.
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
	buffers := ops.Using(tensor.Collective)
	buffers.Scope(func() {
		ops.Scope(func() {
			qCMH, kv := a.toHeads(buffers, g, q, k, v)
			var yCMH tensor.Tensor
			if a.circle.Size() == 1 {
				kCMH, vCMH := g.split(kv, g.chunk())
				yCMH = a.inner(ops, qCMH, kCMH, vCMH, tensor.AttentionSpec{Scale: spec.Scale, KeyLen: g.keyLen})
			} else {
				yCMH = a.ring(ops, g, qCMH, kv, spec.Scale)
			}
			a.toTokens(ops, g, result, yCMH)
		})
	})
	return result
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
