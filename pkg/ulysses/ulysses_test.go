package ulysses_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
	"github.com/wanrun/wanrun/pkg/ulysses"
)

// problem is one attention over a whole sequence, on the host.
type problem struct {
	tokens, heads, dim int
	q, k, v            []float32
	pieces             int // Options.Pieces
}

func newProblem(tokens, heads, dim int) problem {
	rng := rand.New(rand.NewPCG(uint64(tokens), uint64(heads)))
	random := func() []float32 {
		out := make([]float32, tokens*heads*dim)
		for i := range out {
			out[i] = float32(rng.NormFloat64())
		}
		return out
	}
	return problem{tokens: tokens, heads: heads, dim: dim, q: random(), k: random(), v: random()}
}

func (p problem) spec() tensor.AttentionSpec {
	return tensor.AttentionSpec{Scale: float32(1 / math.Sqrt(float64(p.dim))), KeyLen: p.tokens}
}

// rows returns rows [start, start+count) in type d; those behind the sequence are
// padding of value pad.
func (p problem) rows(ops tensor.Ops, x []float32, d tensor.DType, start, count int, pad float32) tensor.Tensor {
	width := p.heads * p.dim
	part := make([]float32, count*width)
	for i := range part {
		part[i] = pad
	}
	if start < p.tokens {
		copy(part, x[start*width:min(start+count, p.tokens)*width])
	}
	t := ops.Empty(d, count, p.heads, p.dim)
	ops.Scope(func() { ops.CopyTo(t, ops.Cast(ops.FromFloats(part, count, p.heads, p.dim), d)) })
	return t
}

// whole returns the attention on one rank, over extra rows of padding too.
func (p problem) whole(t *testing.T, d tensor.DType, padded int, pad float32) []float32 {
	backend := cpu.NewExact(1)
	defer backend.Close()
	space, err := tensor.Reserve(backend, ranktest.Bytes{tensor.Activations: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer space.Close()
	ops := tensor.NewOps(context.Background(), backend, space)
	part := func(x []float32) tensor.Tensor { return p.rows(ops, x, d, 0, padded, pad) }
	spec := p.spec()
	spec.KeyLen = padded
	y := ops.Floats(ops.Attention(part(p.q), part(p.k), part(p.v), spec))
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
	return y
}

// spread runs the attention over size ranks twice, as two blocks do, and returns every
// rank's gathered result.
func (p problem) spread(t *testing.T, d tensor.DType, size, degree int, compat bool, pad float32) ([][]float32, ranktest.Result) {
	outs := make([][]float32, size)
	result := ranktest.Run(t, size, func(r ranktest.Rank) {
		a, err := ulysses.New(r.Context(), r.Group, ulysses.Options{Heads: p.heads, Degree: degree, CompatPadding: compat, Pieces: p.pieces})
		if err != nil {
			r.Fail(err)
			return
		}
		a.Begin("denoise", 1, 1)
		start, count := a.Shard(p.tokens)
		for range 2 {
			r.Scope(func() {
				part := func(x []float32) tensor.Tensor { return p.rows(r.Ops, x, d, start, count, pad) }
				y := a.Attend(r.Ops, part(p.q), part(p.k), part(p.v), p.spec())
				rows := r.Cast(r.Reshape(y, count, p.heads*p.dim), tensor.F32)
				outs[r.Rank] = r.Floats(a.Gather(r.Ops, rows, p.tokens))
			})
		}
		if r.Err() == nil {
			r.Fail(a.Close())
		}
	})
	return outs, result
}

// Every legal way to spread 8 heads over up to 8 ranks, and sequences that divide, do
// not, and are shorter than the ranks. Without a ring the bits are one rank's.
func TestAttend(t *testing.T) {
	for _, tokens := range []int{3, 41, 64} {
		p := newProblem(tokens, 8, 12)
		for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
			want := p.whole(t, d, tokens, 0)
			for _, size := range []int{1, 2, 3, 4, 5, 6, 8} {
				for _, degree := range sharding.Divisors(size) {
					t.Run(fmt.Sprintf("%d tokens/%v/ulysses %d ring %d", tokens, d, degree, size/degree), func(t *testing.T) {
						// What is masked must not matter, not even NaN.
						outs, _ := p.spread(t, d, size, degree, false, float32(math.NaN()))
						for rank, out := range outs {
							name := fmt.Sprintf("rank %d", rank)
							switch {
							case degree == size:
								golden.Compare(t, name, out, want, 0)
							case d == tensor.F32:
								golden.Compare(t, name, out, want, 2e-6)
							default: // parts, their sum and the reference are rounded to BF16, by 2^-9 of values below 4
								golden.Compare(t, name, out, want, 3*4*0x1p-9)
							}
						}
					})
				}
			}
		}
	}
}

// Uneven head ranges: 12 heads over 8 ranks, and over 5.
func TestUnevenHeads(t *testing.T) {
	p := newProblem(41, 12, 8)
	want := p.whole(t, tensor.F32, 41, 0)
	for _, size := range []int{5, 7, 8} {
		outs, _ := p.spread(t, tensor.F32, size, size, false, 0)
		for rank, out := range outs {
			golden.Compare(t, fmt.Sprintf("%d ranks, rank %d", size, rank), out, want, 0)
		}
	}
}

// The official code's padding takes part as keys.
func TestCompatPadding(t *testing.T) {
	p := newProblem(41, 8, 12)
	for _, tc := range []struct{ size, degree int }{{2, 2}, {4, 4}, {4, 2}, {8, 8}, {8, 1}} {
		padded := (p.tokens + tc.size - 1) / tc.size * tc.size
		want := p.whole(t, tensor.F32, padded, 0.5)[:len(p.q)]
		tol := float32(0)
		if tc.degree < tc.size {
			tol = 2e-6
		}
		outs, _ := p.spread(t, tensor.F32, tc.size, tc.degree, true, 0.5)
		for rank, out := range outs {
			golden.Compare(t, fmt.Sprintf("ulysses %d of %d, rank %d", tc.degree, tc.size, rank), out, want, tol)
		}
		if masked := p.whole(t, tensor.F32, p.tokens, 0); golden.MaxDiff(want, masked) < 1e-3 {
			t.Fatal("padding makes no difference: the test sees nothing")
		}
	}
}

// What goes over the links is what the package's formulas say, and no more memory is
// planned for it than Attend's comment says.
func TestTraffic(t *testing.T) {
	const tokens, heads, dim, blocks = 240, 40, 8, 2
	p := newProblem(tokens, heads, dim)
	const e, d = 2, heads * dim // bytes of BF16
	for _, tc := range []struct{ size, degree int }{{2, 2}, {4, 4}, {8, 8}, {4, 1}, {4, 2}, {8, 4}, {8, 2}} {
		t.Run(fmt.Sprintf("ulysses %d of %d", tc.degree, tc.size), func(t *testing.T) {
			_, result := p.spread(t, tensor.BF16, tc.size, tc.degree, false, 0)
			u, ring := int64(tc.degree), int64(tc.size/tc.degree)
			part := int64(tokens/tc.size*d) * e // (L/P) D e
			for rank, traffic := range result.Traffic {
				for purpose, want := range map[string]int64{
					"qkv": 3 * part * (u - 1) / u, "output": part * (u - 1) / u, "ring": 2 * part * (ring - 1), // a block
					"prediction": 4 * tokens / int64(tc.size) * d * int64(tc.size-1), // gathered in F32
				} {
					sent, received := ranktest.Sent(traffic, purpose)
					if sent != blocks*want || received != blocks*want {
						t.Errorf("rank %d, %s: %d bytes sent and %d received, want %d", rank, purpose, sent, received, blocks*want)
					}
				}
				most := 6 * part // q, k and v twice
				if ring > 1 {
					most = max(most, 3*part+2*part+part) // them, another k and v, the output
				}
				const buffers = 3
				if got := result.Peaks[rank][tensor.Collective]; got > most+256*buffers {
					t.Errorf("rank %d: %d bytes of buffers, want at most %d", rank, got, most)
				}
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	groups := local.New(6, nil)
	for _, g := range groups {
		defer g.Close()
	}
	for _, tc := range []struct {
		heads, degree int
		want          string
	}{{40, 4, "choices: [1 2 3 6]"}, {40, 0, "choices"}, {40, -6, "choices"}, {4, 6, "nearest choices that do: 4"}} {
		_, err := ulysses.New(context.Background(), groups[0], ulysses.Options{Heads: tc.heads, Degree: tc.degree})
		if !errors.Is(err, tensor.ErrShape) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%d heads, degree %d: %v, want %q", tc.heads, tc.degree, err, tc.want)
		}
	}
	for _, tc := range []struct {
		name string
		call func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor)
	}{
		{"rows", func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor) {
			a.Attend(r.Ops, x, x, x, tensor.AttentionSpec{Scale: 1, KeyLen: 9})
		}},
		{"heads", func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor) {
			x = r.Reshape(x, 4, 2, 16)
			a.Attend(r.Ops, x, x, x, tensor.AttentionSpec{Scale: 1, KeyLen: 8})
		}},
		{"types", func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor) {
			a.Attend(r.Ops, x, r.Cast(x, tensor.BF16), x, tensor.AttentionSpec{Scale: 1, KeyLen: 8})
		}},
		{"no tokens", func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor) {
			a.Attend(r.Ops, x, x, x, tensor.AttentionSpec{Scale: 1})
		}},
		{"bias", func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor) {
			a.Attend(r.Ops, x, x, x, tensor.AttentionSpec{Scale: 1, KeyLen: 8, RelBias: r.Empty(tensor.F32, 4, 15)})
		}},
		{"gather", func(r ranktest.Rank, a *ulysses.Attention, x tensor.Tensor) {
			a.Gather(r.Ops, r.Reshape(x, 4, 32), 9)
		}},
	} {
		result := ranktest.Plan(t, 2, func(r ranktest.Rank) {
			a, err := ulysses.New(r.Context(), r.Group, ulysses.Options{Heads: 4, Degree: 2})
			if err != nil {
				r.Fail(err)
				return
			}
			tc.call(r, a, r.Empty(tensor.F32, 4, 4, 8))
		})
		if !slices.ContainsFunc(result.Errs, func(err error) bool { return errors.Is(err, tensor.ErrShape) }) {
			t.Errorf("%s: %v, want ErrShape", tc.name, result.Errs)
		}
	}
}

// A rank that fails inside of its attention takes the others with it, with exchanges
// under way or not: nobody waits.
func TestFailure(t *testing.T) {
	broken := errors.New("no attention today")
	run := map[string]func(fn func(r ranktest.Rank)) ranktest.Result{
		"planned": func(fn func(r ranktest.Rank)) ranktest.Result { return ranktest.Plan(t, 4, fn) },
		"real": func(fn func(r ranktest.Rank)) ranktest.Result {
			room := ranktest.Bytes{tensor.Activations: 1 << 20, tensor.Collective: 1 << 20}
			return ranktest.Try(t, 4, []ranktest.Bytes{room, room, room, room}, fn)
		},
	}
	for name, run := range run {
		for _, degree := range []int{1, 2, 4} {
			for fails := range 4 { // in which of its attentions
				result := run(func(r ranktest.Rank) {
					opts := ulysses.Options{Heads: 16, Degree: degree, Pieces: 4}
					if r.Rank == 2 {
						calls := 0
						opts.Inner = func(ops tensor.Ops, q, k, v tensor.Tensor, spec tensor.AttentionSpec) tensor.Tensor {
							if calls++; calls > fails {
								ops.Fail(broken)
							}
							return ops.Attention(q, k, v, spec)
						}
					}
					a, err := ulysses.New(r.Context(), r.Group, opts)
					if err != nil {
						r.Fail(err)
						return
					}
					x := r.Empty(tensor.F32, 2, 16, 8)
					r.Fill(x, 1)
					a.Attend(r.Ops, x, x, x, tensor.AttentionSpec{Scale: 1, KeyLen: 8})
					a.Gather(r.Ops, r.Empty(tensor.F32, 2, 128), 8)
				})
				for rank, err := range result.Errs {
					if !errors.Is(err, broken) && (rank == 2 || !errors.Is(err, comm.ErrAborted)) {
						t.Errorf("%s, degree %d, attention %d, rank %d: %v", name, degree, fails, rank, err)
					}
				}
			}
		}
	}
}
