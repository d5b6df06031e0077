package backendtest

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// attentionUlps bounds the errors of an attention: products over the head dim
// and scale, exponentials and rescalings, and the sums over the keys.
func attentionUlps(c attentionCase) float64 { return 2*sumUlps(c.dim) + sumUlps(c.keyLen) }

func testAttention(s *suite) {
	for _, tc := range []struct {
		queries, keys, keyLen, heads, dim int
		bias                              bool
	}{
		{1, 1, 1, 1, 1, false},
		{1, 5, 5, 2, 16, true},
		{7, 7, 7, 3, 12, false},
		{5, 200, 131, 2, 20, true},
		{130, 129, 129, 1, 128, false},
		{65, 300, 257, 4, 16, true},
		{33, 64, 64, 1, 384, false}, // the VAE's single head
		{20, 20, 1, 2, 8, false},
		{3, 514, 512, 2, 40, true},
		{400, 30, 29, 1, 128, false},
	} {
		name := fmt.Sprintf("%dx%d_of_%d_heads_%dx%d_bias_%v", tc.queries, tc.keyLen, tc.keys, tc.heads, tc.dim, tc.bias)
		s.types(name, func(e *env, d tensor.DType) {
			c := attentionCase{queries: tc.queries, keys: tc.keys, keyLen: tc.keyLen, heads: tc.heads, dim: tc.dim}
			spec := tensor.AttentionSpec{Scale: float32(1 / math.Sqrt(float64(tc.dim))), KeyLen: tc.keyLen}
			c.scale = float64(spec.Scale)
			var q, k, v tensor.Tensor
			q, c.q = e.random(d, 2, tc.queries, tc.heads, tc.dim)
			k, c.k = e.random(d, 2, tc.keys, tc.heads, tc.dim)
			v, c.v = e.random(d, 1, tc.keys, tc.heads, tc.dim)
			if tc.bias {
				spec.RelBias, c.bias = e.random(tensor.F32, 2, tc.heads, tc.queries+tc.keys-1)
			}
			want, wantLSE := c.attention()
			e.check("attention", e.Attention(q, k, v, spec), want, attentionUlps(c))
			spec.LSE = e.Empty(tensor.F32, tc.queries, tc.heads)
			e.check("attention with lse", e.Attention(q, k, v, spec), want, attentionUlps(c))
			e.check("lse", spec.LSE, wantLSE, attentionUlps(c))
		})
	}
	s.types("peaks", func(e *env, d tensor.DType) {
		// Logits of thousands, rising from block to block: without the running
		// maximum exp overflows, and with it the first blocks must vanish.
		c := attentionCase{queries: 9, keys: 300, keyLen: 300, heads: 1, dim: 4, scale: 1}
		c.q, c.k = make([]float64, 9*4), make([]float64, 300*4)
		for i := range c.q {
			c.q[i] = 8
		}
		for i := range c.k {
			c.k[i] = float64(i/4) / 4
		}
		q, k := e.tensor(d, c.q, 9, 1, 4), e.tensor(d, c.k, 300, 1, 4)
		var v tensor.Tensor
		v, c.v = e.random(d, 1, 300, 1, 4)
		want, _ := c.attention()
		e.check("attention", e.Attention(q, k, v, tensor.AttentionSpec{Scale: 1, KeyLen: 300}), want, attentionUlps(c))
	})
	s.run("masked_by_bias", func(e *env) {
		// Keys whose bias is -infinity count for nothing, a whole first block too.
		c := attentionCase{queries: 3, keys: 200, keyLen: 200, heads: 1, dim: 8, scale: 1}
		var q, k, v tensor.Tensor
		q, c.q = e.random(tensor.F32, 1, 3, 1, 8)
		k, c.k = e.random(tensor.F32, 1, 200, 1, 8)
		v, c.v = e.random(tensor.F32, 1, 200, 1, 8)
		c.bias = make([]float64, 202)
		for i := range 170 {
			c.bias[i] = math.Inf(-1)
		}
		bias := e.tensor(tensor.F32, c.bias, 1, 202)
		want, _ := c.attention()
		for i := range want.sizes {
			want.sizes[i] = 10 // the bias's size is infinite
		}
		e.check("attention", e.Attention(q, k, v, tensor.AttentionSpec{Scale: 1, KeyLen: 200, RelBias: bias}), want, attentionUlps(c))
	})
	s.types("masked_keys", func(e *env, d tensor.DType) {
		// What lies behind KeyLen must not be read into the result, not even NaN.
		q, _ := e.random(d, 1, 4, 2, 16)
		k, _ := e.random(d, 1, 20, 2, 16)
		v, _ := e.random(d, 1, 20, 2, 16)
		spec := tensor.AttentionSpec{Scale: 0.25, KeyLen: 13}
		want := e.Bytes(e.Attention(q, k.Slice(0, 13), v.Slice(0, 13), spec))
		e.Fill(k.Slice(13, 7), float32(math.NaN()))
		e.Fill(v.Slice(13, 7), float32(math.NaN()))
		requireEqualBits(e.T, "attention over masked NaN", e.Bytes(e.Attention(q, k, v, spec)), want)
	})
}

// testAttentionParts splits the keys and merges the parts by their LSE, as
// attention over several ranks does.
func testAttentionParts(s *suite) {
	s.run("merge", func(e *env) {
		const queries, keys, heads, dim = 11, 90, 3, 24
		c := attentionCase{queries: queries, keys: keys, keyLen: keys, heads: heads, dim: dim, scale: 0.2}
		var q, k, v tensor.Tensor
		q, c.q = e.random(tensor.F32, 2, queries, heads, dim)
		k, c.k = e.random(tensor.F32, 2, keys, heads, dim)
		v, c.v = e.random(tensor.F32, 1, keys, heads, dim)
		want, _ := c.attention()
		part := func(from, n int) (out, lse []float32) {
			spec := tensor.AttentionSpec{Scale: 0.2, KeyLen: n, LSE: e.Empty(tensor.F32, queries, heads)}
			o := e.Attention(q, k.Slice(from, n), v.Slice(from, n), spec)
			return e.Floats(o), e.Floats(spec.LSE)
		}
		out1, lse1 := part(0, 33)
		out2, lse2 := part(33, 57)
		if e.Err() != nil {
			return
		}
		merged := make([]float32, len(out1))
		for i := range merged {
			a, b := float64(lse1[i/dim]), float64(lse2[i/dim])
			w := 1 / (1 + math.Exp(b-a))
			merged[i] = float32(w*float64(out1[i]) + (1-w)*float64(out2[i]))
		}
		compare(e.T, "merged", q.Shape(), tensor.F32, merged, want, 2*attentionUlps(c))
	})
}
