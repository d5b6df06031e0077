package ulysses_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
	"github.com/wanrun/wanrun/pkg/ulysses"
)

// However many pieces an exchange has, the bits are one rank's and the bytes are the
// same; only messages are more, and buffers as large as the largest piece asks for.
func TestPieces(t *testing.T) {
	for _, tc := range []struct {
		heads, size, degree int
		calls               map[int]int64 // exchanges of q, k and v by Options.Pieces
	}{
		{heads: 8, size: 2, degree: 2, calls: map[int]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 99: 4}},
		{heads: 12, size: 5, degree: 5, calls: map[int]int64{1: 1, 2: 2, 3: 2}}, // 3, 3, 2, 2, 2 heads
		{heads: 7, size: 3, degree: 3, calls: map[int]int64{1: 1, 2: 2, 9: 2}},
		{heads: 6, size: 4, degree: 2, calls: map[int]int64{1: 1, 2: 2, 3: 3}},
	} {
		p := newProblem(41, tc.heads, 12)
		want := p.whole(t, tensor.F32, 41, 0)
		var first [][]float32
		var one ranktest.Result
		for _, pieces := range []int{1, 0, 2, 3, 4, 9, 99} {
			calls, ok := tc.calls[pieces]
			if !ok {
				continue
			}
			p.pieces = pieces
			outs, result := p.spread(t, tensor.F32, tc.size, tc.degree, false, 0)
			if first == nil {
				first, one = outs, result
			}
			tol := float32(0)
			if tc.degree < tc.size {
				tol = 2e-6 // a ring merges parts
			}
			for rank, out := range outs {
				name := fmt.Sprintf("%d heads, ulysses %d of %d, %d pieces, rank %d", tc.heads, tc.degree, tc.size, pieces, rank)
				golden.Compare(t, name, out, want, tol)
				golden.Compare(t, name+" against one piece", out, first[rank], 0)
				for _, purpose := range []string{"qkv", "output", "ring"} {
					sent, received := ranktest.Sent(result.Traffic[rank], purpose)
					if s, r := ranktest.Sent(one.Traffic[rank], purpose); sent != s || received != r {
						t.Errorf("%s, %s: %d bytes sent and %d received; in one piece %d and %d", name, purpose, sent, received, s, r)
					}
				}
				const blocks = 2
				for _, x := range result.Traffic[rank] {
					if x.Purpose == "qkv" && x.Calls != blocks*calls {
						t.Errorf("%s: %d exchanges of q, k, v, want %d", name, x.Calls, blocks*calls)
					}
				}
				if calls == 1 {
					continue
				}
				// One piece takes 6 times its q, several 10 times that of the largest, and 2 more with a ring.
				most := one.Peaks[rank][tensor.Collective] * 10 / 6
				if tc.degree < tc.size {
					most = one.Peaks[rank][tensor.Collective] * 12 / 6
				}
				heads := int64(tc.heads+tc.degree-1) / int64(tc.degree) // of the rank with most
				most = most * ((heads + calls - 1) / calls) / heads
				const buffers = 5
				if got := result.Peaks[rank][tensor.Collective]; got > most+256*buffers {
					t.Errorf("%s: %d bytes of buffers, want at most %d", name, got, most)
				}
			}
		}
	}
}

// Compute goes on while collectives are under way: the attention of each piece but the
// last waits until q, k and v of the next piece have come, and that of each but the
// first two until the output of the piece before has left. Were the exchanges made one
// by one with the attention, no rank would ever get on.
func TestOverlap(t *testing.T) {
	const size, heads, dim, pieces = 2, 8, 16, 4
	p := newProblem(64, heads, dim)
	want := p.whole(t, tensor.F32, p.tokens, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var done [size]atomic.Int32 // all-to-alls that have ended on a rank
	var changed [size]chan struct{}
	groups := local.New(size, func(rank int) comm.Options {
		changed[rank] = make(chan struct{}, 4*pieces)
		return comm.Options{Failpoint: func(name string) {
			if name == "all-to-all.done" {
				done[rank].Add(1)
				changed[rank] <- struct{}{}
			}
		}}
	})
	var outs [size][]float32
	var wg sync.WaitGroup
	for rank, g := range groups {
		wg.Go(func() {
			backend := cpu.NewExact(1)
			defer backend.Close()
			space, err := tensor.Reserve(backend, ranktest.Bytes{tensor.Activations: 8 << 20, tensor.Collective: 8 << 20})
			if err != nil {
				t.Error(err)
				return
			}
			defer space.Close()
			ops := tensor.NewOps(ctx, backend, space)
			piece := 0
			inner := func(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor {
				ended := piece + 1 // q, k and v up to this piece
				ended += max(piece-1, 0)
				if piece+1 < pieces {
					ended++ // of the next
				}
				if piece > 0 {
					ended++ // the output of the last
				}
				for done[rank].Load() < int32(ended) {
					select {
					case <-changed[rank]:
					case <-ctx.Done():
						ops.Fail(fmt.Errorf("rank %d computes piece %d, and %d of %d exchanges have ended", rank, piece, done[rank].Load(), ended))
						return tensor.Tensor{}
					}
				}
				piece++
				return ops.Attention(q, k, v, spec)
			}
			a, err := ulysses.New(ctx, g, ulysses.Options{Heads: heads, Degree: size, Pieces: pieces, Inner: inner})
			if err != nil {
				t.Error(err)
				return
			}
			start, count := a.Shard(p.tokens)
			part := func(x []float32) tensor.Tensor { return p.rows(ops, x, tensor.F32, start, count, 0) }
			outs[rank] = ops.Floats(a.Attend(ops, part(p.q), part(p.k), part(p.v), p.spec()))
			if err := ops.Err(); err != nil {
				g.Abort(err)
				t.Error(err)
				return
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	golden.Compare(t, "both ranks", append(outs[0], outs[1]...), want, 0)
}
