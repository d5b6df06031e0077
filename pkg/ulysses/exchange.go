package ulysses

import (
	"github.com/wanrun/wanrun/pkg/tensor"
)

// toHeads returns q [C, M, H] and, one behind the other in one tensor, k and v: all
// rows of the chunk of this rank's heads. With a ring, the tensor of k and v has room
// for the longest chunk.
//
// One exchange carries all three. A part is [3, S, M, H]: q, k and v of the sender's
// rows and the receiver's heads. What has been sent makes room for what is
// unpacked, so that two buffers do, and the second is free again on return.
//
// An exchange in pieces, beside the projections that make q, k and v, would begin
// here: with Start in place of AllToAll, and parts of fewer heads.
func (a *Attention) toHeads(buffers tensor.Ops, g *geometry, qSNH, kSNH, vSNH tensor.Tensor) (qCMH, kv tensor.Tensor) {
	unpacked := (g.chunk() + 2*g.longest()) * g.row()
	packed := 3 * int(qSNH.NumElements())
	store := buffers.Empty(g.dtype, max(packed, unpacked))
	inputs := []tensor.Tensor{qSNH, kSNH, vSNH}
	buffers.Scope(func() {
		received := store
		if a.trade.Size() > 1 {
			received = buffers.Empty(g.dtype, 3*g.chunk()*g.row())
			if buffers.Err() != nil {
				return
			}
			sent := make([]int64, a.trade.Size())
			got := make([]int64, a.trade.Size())
			at := 0
			for j, heads := range g.heads {
				for _, x := range inputs {
					n := g.rows() * heads.Count * g.headDim
					copyColumns(buffers, store.Slice(at, n), x, g.rows(), heads.Start*g.headDim, heads.Count*g.headDim)
					at += n
				}
				sent[j] = int64(3 * g.rows() * heads.Count * g.headDim)
				got[j] = int64(3 * g.tokens[j].Count * g.row())
			}
			if buffers.Err() != nil {
				return
			}
			buffers.Fail(a.trade.AllToAll(buffers.Context(), a.at("qkv"), received, store.Slice(0, packed), got, sent))
		}
		if buffers.Err() != nil {
			return
		}
		to := [3]int{0, g.chunk() * g.row(), 2 * g.chunk() * g.row()}
		if a.trade.Size() == 1 {
			for i, x := range inputs {
				n := int(x.NumElements())
				buffers.CopyTo(store.Slice(to[i], n), buffers.Reshape(x, n))
			}
			return
		}
		at := 0
		for _, tokens := range g.tokens {
			n := tokens.Count * g.row()
			for i := range inputs {
				buffers.CopyTo(store.Slice(to[i]+tokens.Start*g.row(), n), received.Slice(at, n))
				at += n
			}
		}
	})
	if buffers.Err() != nil {
		return tensor.Tensor{}, tensor.Tensor{}
	}
	n := g.chunk() * g.row()
	return buffers.Reshape(store.Slice(0, n), g.chunk(), g.ownHeads(), g.headDim), store.Slice(n, 2*g.longest()*g.row())
}

// split returns k and v [rows, M, H] of a tensor that begins with both.
func (g *geometry) split(kv tensor.Tensor, rows int) (k, v tensor.Tensor) {
	if kv.IsNone() {
		return kv, kv
	}
	n := rows * g.row()
	part := func(at int) tensor.Tensor {
		x := kv.Slice(at, n)
		return tensor.New(x.Memory(), x.Offset(), x.DType(), tensor.Shape{rows, g.ownHeads(), g.headDim})
	}
	return part(0), part(n)
}

// toTokens sets result [S, N, H] from what each rank has computed of its heads,
// yCMH [C, M, H] this one. Rows of a rank lie together, so that y is sent as it is.
func (a *Attention) toTokens(ops tensor.Ops, g *geometry, result, yCMH tensor.Tensor) {
	if ops.Err() != nil {
		return
	}
	if a.trade.Size() == 1 {
		ops.CopyTo(result, yCMH)
		return
	}
	buffers := ops.Using(tensor.Collective)
	buffers.Scope(func() {
		received := buffers.Empty(g.dtype, int(result.NumElements()))
		if ops.Err() != nil {
			return
		}
		sent, got := make([]int64, len(g.tokens)), make([]int64, len(g.tokens))
		for j := range g.tokens {
			sent[j] = int64(g.tokens[j].Count * g.row())
			got[j] = int64(g.rows() * g.heads[j].Count * g.headDim)
		}
		if err := a.trade.AllToAll(ops.Context(), a.at("output"), received, yCMH, got, sent); err != nil {
			ops.Fail(err)
			return
		}
		at := 0
		for _, heads := range g.heads {
			n := g.rows() * heads.Count * g.headDim
			ops.Place(result, ops.Reshape(received.Slice(at, n), g.rows(), heads.Count, g.headDim), 1, heads.Start)
			at += n
		}
	})
}

// copyColumns sets dst to columns [from, from+count) of the rows of x: Narrow without
// an allocation of its own.
func copyColumns(ops tensor.Ops, dst, x tensor.Tensor, rows, from, count int) {
	if ops.Err() != nil {
		return
	}
	size := x.DType().Size()
	run, stride := int64(count)*size, x.Bytes()/int64(rows)
	ops.Fail(ops.Backend().CopyRows(dst, x, int64(rows), run, 0, run, int64(from)*size, stride))
}
