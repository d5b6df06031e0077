package kernels

import (
	"fmt"
	"math"
)

// attentionCase are the inputs of an attention; bias may be nil.
type attentionCase struct {
	sq, sk, keyLen, n, d int
	scale                float64
	q, k, v, bias        []float64
}

// oracle returns the output [sq, n, d] and the logs of the sums [sq, n]. An error of a
// logit changes its weight by as much, relatively, and so the output by twice that.
func (c attentionCase) oracle() (out, lse result) {
	out, lse = newResult(c.sq*c.n*c.d), newResult(c.sq*c.n)
	out.rounded = make([]float64, len(out.values))
	logits := make([]float64, c.keyLen)
	for i := range c.sq {
		for h := range c.n {
			top, size := math.Inf(-1), 0.0
			for j := range logits {
				logits[j] = 0
				dotSize := 0.0
				for e := range c.d {
					p := c.q[(i*c.n+h)*c.d+e] * c.k[(j*c.n+h)*c.d+e] * c.scale
					logits[j] += p
					dotSize += math.Abs(p)
				}
				if c.bias != nil {
					logits[j] += c.bias[h*(c.sq+c.sk-1)+j-i+c.sq-1]
				}
				top, size = max(top, logits[j]), max(size, dotSize)
			}
			sum := 0.0
			for j := range logits {
				logits[j] = math.Exp(logits[j] - top)
				sum += logits[j]
			}
			for e := range c.d {
				at := (i*c.n+h)*c.d + e
				for j, p := range logits {
					v := c.v[(j*c.n+h)*c.d+e]
					out.values[at] += p / sum * v
					out.rounded[at] += p / sum * math.Abs(v)
				}
				out.sizes[at] = out.rounded[at] * (1 + 2*size)
			}
			lse.values[i*c.n+h] = top + math.Log(sum)
			lse.sizes[i*c.n+h] = 1 + size + math.Abs(top)
		}
	}
	return out, lse
}

// newAttention makes a case; keys and values behind keyLen are NaN, and must not matter.
func newAttention(h *host, d Type, sq, sk, keyLen, n, dim int) (attentionCase, AttentionCall) {
	c := attentionCase{sq: sq, sk: sk, keyLen: keyLen, n: n, d: dim, scale: 1 / math.Sqrt(float64(dim))}
	c.scale = float64(float32(c.scale))
	call := AttentionCall{Type: d, Sq: sq, Sk: sk, KeyLen: keyLen, N: n, D: dim, Scale: float32(c.scale)}
	var q Buffer
	q, c.q = h.random(d, sq*n*dim, 1.5)
	call.Q = q.At
	_, c.k = h.random(d, sk*n*dim, 1.5)
	_, c.v = h.random(d, sk*n*dim, 1)
	for i := keyLen * n * dim; i < len(c.k); i++ {
		c.k[i], c.v[i] = math.NaN(), math.NaN()
	}
	call.K, call.V = h.values(d, c.k).At, h.values(d, c.v).At
	call.O, call.LSE = h.empty(d, sq*n*dim).At, h.empty(F32, sq*n).At
	return c, call
}

func testAttention(h *host) {
	for _, tc := range []struct {
		d                        Type
		sq, sk, keyLen, n, dim   int
		splits                   int
		long, bias, withoutScore bool
	}{
		{d: BF16, sq: 64, sk: 64, keyLen: 64, n: 1, dim: 128},
		{d: BF16, sq: 70, sk: 150, keyLen: 131, n: 2, dim: 128},
		{d: F16, sq: 1, sk: 65, keyLen: 65, n: 2, dim: 128},
		{d: BF16, sq: 130, sk: 66, keyLen: 66, n: 1, dim: 128, long: true},
		{d: F16, sq: 20, sk: 130, keyLen: 129, n: 1, dim: 128, long: true, withoutScore: true},
		{d: BF16, sq: 33, sk: 130, keyLen: 127, n: 3, dim: 64},
		{d: F16, sq: 65, sk: 1, keyLen: 1, n: 2, dim: 64},
		{d: F16, sq: 50, sk: 77, keyLen: 77, n: 2, dim: 80},
		{d: BF16, sq: 67, sk: 200, keyLen: 190, n: 1, dim: 80, withoutScore: true},
		{d: BF16, sq: 9, sk: 300, keyLen: 290, n: 2, dim: 128, splits: 3},
		{d: F16, sq: 17, sk: 300, keyLen: 257, n: 2, dim: 64, splits: 5},
		{d: BF16, sq: 5, sk: 200, keyLen: 193, n: 1, dim: 80, splits: 2, withoutScore: true},
		{d: F32, sq: 7, sk: 200, keyLen: 131, n: 2, dim: 20},
		{d: BF16, sq: 6, sk: 130, keyLen: 130, n: 2, dim: 64, bias: true},
		{d: F16, sq: 3, sk: 5, keyLen: 4, n: 2, dim: 1, bias: true},
		{d: F32, sq: 4, sk: 64, keyLen: 64, n: 1, dim: 384, withoutScore: true},
	} {
		name := fmt.Sprintf("%v_%dx%d_of_%d_heads_%dx%d_splits_%d_long_%v_bias_%v", tc.d, tc.sq, tc.keyLen, tc.sk, tc.n, tc.dim, tc.splits, tc.long, tc.bias)
		h.each(name, func(h *host) {
			c, call := newAttention(h, tc.d, tc.sq, tc.sk, tc.keyLen, tc.n, tc.dim)
			call.ForceSplits, call.ForceLongTile = tc.splits, tc.long
			if tc.bias {
				call.Bias, c.bias = h.vector(tc.n*(tc.sq+tc.sk-1), 2)
			}
			if tc.withoutScore {
				call.LSE = 0
			}
			if n := call.ScratchBytes(); n > 0 {
				call.Parts = h.empty(F32, int(n/4)).At
			} else if tc.splits > 1 {
				h.Fatalf("no scratch for %d splits", tc.splits)
			}
			h.launch(call.Launches()...)
			want, lse := c.oracle()
			// Matrix kernels round the weights to the storage type before the second product.
			extra := 0.0
			if call.matrixUnits() {
				extra = roundoff(tc.d)
			}
			// Sizes of the output have the logits' already: dim products each.
			ulps := 2*math.Sqrt(float64(tc.dim)) + 2*math.Sqrt(float64(tc.keyLen)) + 8
			h.check("attention", Buffer{call.O, tc.d}, want, ulps, extra)
			if !tc.withoutScore {
				h.check("lse", Buffer{call.LSE, F32}, lse, ulps, 0)
			}
		})
	}
	h.each("peaks", func(h *host) {
		// Logits of thousands, rising from tile to tile.
		c, call := newAttention(h, BF16, 9, 200, 200, 1, 64)
		for i := range c.q {
			c.q[i] = 2
		}
		for i := range c.k {
			c.k[i] = float64(i / 64 / 8)
		}
		call.Q, call.K, call.Scale, c.scale = h.values(BF16, c.q).At, h.values(BF16, c.k).At, 1, 1
		h.launch(call.Launches()...)
		want, _ := c.oracle()
		h.check("attention", Buffer{call.O, BF16}, want, 32, roundoff(BF16))
	})
	h.each("masked_by_bias", func(h *host) {
		c, call := newAttention(h, F32, 3, 200, 200, 1, 8)
		c.bias = make([]float64, 202)
		for i := range 170 {
			c.bias[i] = math.Inf(-1) // a whole first chunk of keys
		}
		call.Bias = h.values(F32, c.bias).At
		h.launch(call.Launches()...)
		want, _ := c.oracle()
		h.check("attention", Buffer{call.O, F32}, want, 64, 0)
	})
}

func testSoftmax(h *host) {
	for _, d := range allTypes {
		h.each(fmt.Sprint(d), func(h *host) {
			const n, sq, sk, keyLen, scale = 2, 5, 150, 141, 0.5
			logits, ls := h.vector(n*sq*sk, 2)
			bias, bs := h.vector(n*(sq+sk-1), 2)
			p := h.empty(d, n*sq*sk)
			h.launch(SoftmaxBias(p, logits, bias, n, sq, sk, keyLen, scale))
			want := newResult(n * sq * sk)
			for row := range n * sq {
				head, i, sum, top := row/sq, row%sq, 0.0, math.Inf(-1)
				x := make([]float64, keyLen)
				for j := range x {
					x[j] = scale*ls[row*sk+j] + bs[head*(sq+sk-1)+j-i+sq-1]
					top = max(top, x[j])
				}
				for j := range x {
					sum += math.Exp(x[j] - top)
				}
				for j := range x {
					want.values[row*sk+j] = math.Exp(x[j]-top) / sum
					want.sizes[row*sk+j] = want.values[row*sk+j] * (1 + top - x[j])
				}
			}
			h.check("softmax_bias", p, want, 32, 0)
		})
	}
}

func testMerge(h *host) {
	for _, d := range allTypes {
		h.each(fmt.Sprint(d), func(h *host) {
			const rows, dim = 6, 40
			acc, as := h.vector(rows*dim, 1)
			part, ps := h.random(d, rows*dim, 1)
			ls, bs := []float64{0, 0, 0, 1.5, -3, 2}, []float64{0, 0, 0, 2.5, 4, -5}
			ls[0], ls[1], bs[1], bs[2] = math.Inf(-1), math.Inf(-1), math.Inf(-1), math.Inf(-1)
			lse, added := h.values(F32, ls).At, h.values(F32, bs).At
			want, sums := newResult(rows*dim), newResult(rows)
			for r := range rows {
				top := max(ls[r], bs[r])
				a, b := 1.0, 0.0
				sums.values[r] = top
				if !math.IsInf(top, -1) {
					ea, eb := math.Exp(ls[r]-top), math.Exp(bs[r]-top)
					a, b = ea/(ea+eb), eb/(ea+eb)
					sums.values[r] = top + math.Log(ea+eb)
				}
				sums.sizes[r] = 1 + math.Abs(sums.values[r])
				if math.IsInf(top, -1) {
					sums.sizes[r] = 0
				}
				for i := r * dim; i < (r+1)*dim; i++ {
					want.values[i] = as[i]*a + ps[i]*b
					want.sizes[i] = (math.Abs(as[i]*a) + math.Abs(ps[i]*b)) * 8 // of exponents up to about 8
				}
			}
			h.launch(Merge(acc, lse, part, added, rows, dim))
			h.check("acc", Buffer{acc, F32}, want, 4, 0)
			h.check("lse", Buffer{lse, F32}, sums, 4, 0)
		})
	}
}
