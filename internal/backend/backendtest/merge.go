package backendtest

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// testMergeAttention splits the keys at several places, attends to each run of
// them and merges: the attention over all.
func testMergeAttention(s *suite) {
	for _, cuts := range [][]int{{90}, {33, 57}, {1, 88, 1}, {30, 30, 30}} {
		s.types(fmt.Sprintf("keys_%v", cuts), func(e *env, d tensor.DType) {
			const queries, keys, heads, dim = 11, 90, 3, 24
			c := attentionCase{queries: queries, keys: keys, keyLen: keys, heads: heads, dim: dim, scale: 0.2}
			var q, k, v tensor.Tensor
			q, c.q = e.random(d, 2, queries, heads, dim)
			k, c.k = e.random(d, 2, keys, heads, dim)
			v, c.v = e.random(d, 1, keys, heads, dim)
			acc, lse := e.Empty(tensor.F32, queries, heads, dim), e.Empty(tensor.F32, queries, heads)
			e.Fill(acc, 0)
			e.Fill(lse, float32(math.Inf(-1)))
			from := 0
			for i, n := range cuts {
				spec := tensor.AttentionSpec{Scale: 0.2, KeyLen: n, LSE: e.Empty(tensor.F32, queries, heads)}
				part := e.Attention(q, k.Slice(from, n), v.Slice(from, n), spec)
				e.MergeAttention(acc, lse, part, spec.LSE)
				if i == 0 { // into nothing: the part itself
					requireEqualBits(e.T, "first part", e.Bytes(acc), e.Bytes(e.Cast(part, tensor.F32)))
					requireEqualBits(e.T, "lse of the first part", e.Bytes(lse), e.Bytes(spec.LSE))
				}
				from += n
			}
			want, wantLSE := c.attention()
			for i := range want.sizes { // each part was rounded to d
				want.sizes[i] *= 1 + roundoff(d)/u/attentionUlps(c)
			}
			e.check("merged", acc, want, 2*attentionUlps(c))
			e.check("lse", lse, wantLSE, 2*attentionUlps(c))
		})
	}
	s.run("nothing_into_something", func(e *env) {
		acc, _ := e.random(tensor.F32, 1, 2, 1, 4)
		lse, _ := e.random(tensor.F32, 1, 2, 1)
		part, none := e.Empty(tensor.F32, 2, 1, 4), e.Empty(tensor.F32, 2, 1)
		e.Fill(part, 3)
		e.Fill(none, float32(math.Inf(-1)))
		wantAcc, wantLSE := e.Bytes(acc), e.Bytes(lse)
		e.MergeAttention(acc, lse, part, none)
		requireEqualBits(e.T, "acc", e.Bytes(acc), wantAcc)
		requireEqualBits(e.T, "lse", e.Bytes(lse), wantLSE)
	})
	s.run("nothing_into_nothing", func(e *env) {
		acc, lse := e.Empty(tensor.F32, 2, 1, 4), e.Empty(tensor.F32, 2, 1)
		e.Fill(acc, 0)
		e.Fill(lse, float32(math.Inf(-1)))
		want := e.Bytes(lse)
		e.MergeAttention(acc, lse, e.Clone(acc, tensor.F32), e.Clone(lse, tensor.F32))
		e.check("acc", acc, exact(make([]float64, 8)), 0)
		requireEqualBits(e.T, "lse", e.Bytes(lse), want)
	})
}
