package ulysses

import (
	"math"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// ring returns the attention [C, M, H] of this rank's queries over the keys of every
// chunk. At each step a rank attends to the chunk that it has while it passes it on and
// gets the one before: R-1 times, so that each has seen all. kv is overwritten.
func (a *Attention) ring(ops tensor.Ops, g *geometry, qCMH, kv tensor.Tensor, scale float32) tensor.Tensor {
	shape := []int{g.chunk(), g.ownHeads(), g.headDim}
	acc := ops.Empty(tensor.F32, shape...)
	lse, partLSE := ops.Empty(tensor.F32, shape[:2]...), ops.Empty(tensor.F32, shape[:2]...)
	other := ops.Using(tensor.Collective).Empty(g.dtype, 2*g.longest()*g.row())
	ops.Fill(acc, 0)
	ops.Fill(lse, float32(math.Inf(-1)))
	size := a.circle.Size()
	for step := range size {
		if ops.Err() != nil {
			return tensor.Tensor{}
		}
		chunk := g.chunks[(g.circle-step+size)%size] // that kv holds
		var moving comm.Pending
		if step+1 < size {
			before := g.chunks[(g.circle-step-1+size)%size]
			moving = a.circle.Start(ops.Context(), comm.Call{Op: comm.OpShift, Place: a.at("ring"), Peer: 1,
				Src: kv.Slice(0, 2*chunk.Count*g.row()), Dst: other.Slice(0, 2*before.Count*g.row())})
		}
		if keys := chunk.Overlap(g.keyLen).Count; keys > 0 {
			ops.Scope(func() {
				k, v := g.split(kv, chunk.Count)
				part := a.inner(ops, qCMH, k, v, tensor.AttentionSpec{Scale: scale, KeyLen: keys, LSE: partLSE})
				ops.MergeAttention(acc, lse, part, partLSE)
			})
		}
		if moving != nil {
			ops.Fail(moving.Wait()) // after an error of the attention too: the buffers are in use until then
		}
		kv, other = other, kv
	}
	return ops.Cast(acc, g.dtype)
}
