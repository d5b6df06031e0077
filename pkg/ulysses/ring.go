package ulysses

import (
	"math"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// ring sets dst to the attention [C, M, H] of this rank's queries over the keys of
// every chunk. At each step a rank attends to the chunk that it has while it passes it
// on and gets the one before: R-1 times, so that each has seen all. kv is overwritten;
// other has as much room.
func (a *Attention) ring(ops tensor.Ops, g *geometry, dst, qCMH, kv, other tensor.Tensor, scale float32) {
	ops.Scope(func() { a.rounds(ops, g, dst, qCMH, kv, other, scale) })
}

func (a *Attention) rounds(ops tensor.Ops, g *geometry, dst, qCMH, kv, other tensor.Tensor, scale float32) {
	acc := dst
	if g.dtype != tensor.F32 {
		acc = ops.Empty(tensor.F32, qCMH.Shape()...)
	}
	rows, heads := qCMH.Dim(0), qCMH.Dim(1)
	lse, partLSE := ops.Empty(tensor.F32, rows, heads), ops.Empty(tensor.F32, rows, heads)
	ops.Fill(acc, 0)
	ops.Fill(lse, float32(math.Inf(-1)))
	row := heads * g.headDim
	size := a.circle.Size()
	for step := range size {
		if ops.Err() != nil {
			return
		}
		chunk := g.chunks[(g.circle-step+size)%size] // that kv holds
		var moving comm.Pending
		if step+1 < size {
			before := g.chunks[(g.circle-step-1+size)%size]
			moving = a.circle.Start(ops.Context(), comm.Call{Op: comm.OpShift, Place: a.at("ring"), Peer: 1,
				Src: kv.Slice(0, 2*chunk.Count*row), Dst: other.Slice(0, 2*before.Count*row)})
		}
		if keys := chunk.Overlap(g.keyLen).Count; keys > 0 {
			ops.Scope(func() {
				k, v := g.split(kv, chunk.Count, qCMH)
				part := a.inner(ops, qCMH, k, v, tensor.AttentionSpec{Scale: scale, KeyLen: keys, LSE: partLSE})
				ops.MergeAttention(acc, lse, part, partLSE)
			})
		}
		if moving != nil {
			ops.Fail(moving.Wait()) // after an error of the attention too: the buffers are in use until then
		}
		kv, other = other, kv
	}
	ops.CopyTo(dst, acc)
}
