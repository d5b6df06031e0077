package commtest

import (
	"fmt"
	"testing"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Bench measures a transport on 2 and 4 ranks beside a plain copy of as many bytes.
// Bandwidths are of the bytes that all ranks together send to others.
func Bench(b *testing.B, newGroups New) {
	const bytes = 16 << 20 // of a rank's larger buffer
	b.Run("memcpy", func(b *testing.B) {
		src, dst := make([]byte, bytes), make([]byte, bytes)
		b.SetBytes(bytes)
		for b.Loop() {
			copy(dst, src)
		}
	})
	for _, size := range []int{2, 4} {
		for _, op := range []comm.Op{comm.OpAllToAll, comm.OpAllGather} {
			b.Run(fmt.Sprintf("%v/%d", op, size), func(b *testing.B) {
				groups := closed(b, newGroups(b, size, nil))
				dst, src := make([]tensor.Tensor, size), make([]tensor.Tensor, size)
				for rank := range size {
					dst[rank], src[rank] = alloc(tensor.U8, bytes).Tensor, alloc(tensor.U8, bytes).Tensor
					if op == comm.OpAllGather {
						src[rank] = src[rank].Slice(0, bytes/size)
					}
				}
				b.SetBytes(bytes * int64(size-1)) // size ranks, each (size-1)/size of its buffer
				n := b.N
				b.ResetTimer()
				all(b, groups, func(g comm.Group) error {
					for range n {
						if err := g.Start(bg, comm.Call{Op: op, Dst: dst[g.Rank()], Src: src[g.Rank()]}).Wait(); err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
		b.Run(fmt.Sprintf("barrier/%d", size), func(b *testing.B) {
			groups := closed(b, newGroups(b, size, nil))
			n := b.N
			b.ResetTimer()
			all(b, groups, func(g comm.Group) error {
				for range n {
					if err := g.Barrier(bg, comm.Place{}); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
