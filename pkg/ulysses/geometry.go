package ulysses

import (
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// geometry is what one attention's sizes follow from.
type geometry struct {
	dtype   tensor.DType
	headDim int
	tokens  []sharding.Range // of each rank of the all-to-all's group, within the chunk
	chunks  []sharding.Range // of each rank of the ring, within the sequence
	pieces  []piece
	trade   int // this rank in the all-to-all's group
	circle  int // and in the ring
	keyLen  int // keys of the sequence that count
}

func (g *geometry) rows() int  { return g.tokens[g.trade].Count }
func (g *geometry) chunk() int { return g.chunks[g.circle].Count }

// ownHeads is the number of this rank's heads of piece i.
func (g *geometry) ownHeads(i int) int { return g.pieces[i][g.trade].Count }

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
		pieces: a.pieces(int64(numTokens) * int64(q.Dim(2)) * q.DType().Size())}
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

// piece are the heads that are exchanged together: some of each rank's of the
// all-to-all's group, as ranges of the model's.
type piece []sharding.Range

// all returns the number of heads of all ranks.
func (p piece) all() int {
	sum := 0
	for _, heads := range p {
		sum += heads.Count
	}
	return sum
}

const (
	// maxPieces leaves a fifth of an exchange uncovered, and divides the heads that a
	// rank has of 40, whatever the degree (5, 10, 20), without a rest.
	maxPieces = 5
	// minPiece is what a rank's q, k and v of a piece should have for the messages of
	// an exchange (20 to 50 us) to be small beside its bytes (2 to 6 GB/s on hosts).
	minPiece = 512 << 10 // bytes
)

// pieces cuts the heads of all ranks; headBytes are those of one head's q over the
// whole sequence. Every rank comes to the same pieces.
func (a *Attention) pieces(headBytes int64) []piece {
	ranks := sharding.All(sharding.Balanced, a.opts.Heads, a.opts.Degree)
	fewest, most := ranks[len(ranks)-1].Count, ranks[0].Count
	count := a.opts.Pieces
	if count <= 0 {
		bytes := 3 * headBytes * int64(a.opts.Heads) / int64(a.seq.Size())
		count = int(min(max(bytes/minPiece, 1), maxPieces))
	}
	// As many as it takes for the largest to be as small as it can be.
	largest := (most + count - 1) / count
	count = min((most+largest-1)/largest, fewest)
	pieces := make([]piece, count)
	for i := range pieces {
		for _, heads := range ranks {
			part := sharding.Balanced(heads.Count, i, count)
			pieces[i] = append(pieces[i], sharding.Range{Start: heads.Start + part.Start, Count: part.Count})
		}
	}
	return pieces
}

// split returns k and v of a tensor that begins with both: rows of as many heads as q
// [C, M, H] has.
func (g *geometry) split(kv tensor.Tensor, rows int, q tensor.Tensor) (k, v tensor.Tensor) {
	if kv.IsNone() || q.IsNone() {
		return kv, kv
	}
	n := rows * q.Dim(1) * q.Dim(2)
	part := func(at int) tensor.Tensor {
		x := kv.Slice(at, n)
		return tensor.New(x.Memory(), x.Offset(), x.DType(), tensor.Shape{rows, q.Dim(1), q.Dim(2)})
	}
	return part(0), part(n)
}
