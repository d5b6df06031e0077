package sharded_test

import (
	"fmt"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/internal/sharded"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
	"github.com/wanrun/wanrun/pkg/ulysses"
)

// tolF32 is the tolerance of the reference data's README: ten times what F32
// differs from F64 there.
const tolF32 = 7e-5

// prediction is one case of the reference data for sequence-parallel forwards.
type prediction struct {
	config   wan.Config
	src      checkpoint.Source
	x, y     []float32 // [T, H, W, C]
	t, h, w  int
	context  []float32
	clip     []float32
	timestep int64
}

func openPrediction(t *testing.T, name string, data map[string]golden.Tensor, key string, timestep int64) prediction {
	t.Helper()
	c, err := checkpoint.OpenDir("../../testdata/ckpt_" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	src, err := c.DiT()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	x := data[key+".x"]
	p := prediction{config: c.Spec.DiT, src: src, timestep: timestep, context: data[key+".context"].F32,
		x: golden.Permute(x.F32, x.Shape, 1, 2, 3, 0), t: x.Shape[1], h: x.Shape[2], w: x.Shape[3]}
	if p.config.HasImage() {
		y := data[key+".y"]
		p.y, p.clip = golden.Permute(y.F32, y.Shape, 1, 2, 3, 0), data[key+".clip_fea"].F32
	}
	return p
}

// way is how a forward is spread.
type way struct {
	degree  int
	compat  bool
	compute tensor.DType
	// shard, if not nil, has the weights sharded over all ranks, else each rank has
	// them whole.
	shard *fsdp.Options
	steps int // 0 for 1
	slab  int // 0 for 16
}

// run makes the conditions of two branches, the whole context and half of it, and then
// predicts, as often as there are steps; the last predictions are returned.
func (p prediction) run(r ranktest.Rank, w way) (out [2][]float32) {
	seq, err := ulysses.New(r.Context(), r.Group, ulysses.Options{Heads: p.config.NumHeads, Degree: w.degree, CompatPadding: w.compat})
	if err != nil {
		r.Fail(err)
		return out
	}
	weightsGroup, err := r.Group.Split(r.Context(), comm.Place{Purpose: "groups"}, 0, r.Rank)
	if err != nil {
		r.Fail(err)
		return out
	}
	src := p.src
	if r.Planning {
		src = nil
	}
	// with runs fn with the weights of units, which are gone afterwards.
	with := func(units []nn.Unit, cyclic bool, fn func(nn.Weights)) {
		held, gathered := r.Using(tensor.Weights), r.Using(tensor.Gathered)
		held.Scope(func() {
			gathered.Scope(func() {
				if w.shard == nil {
					fn(weights.Load(r.Ops, units, src, w.compute))
					return
				}
				parts, err := sharded.Units(units, w.compute)
				r.Fail(err)
				opts := *w.shard
				opts.Group, opts.Cyclic, opts.Phase = weightsGroup, cyclic, "prepare"
				if cyclic {
					opts.Phase = "denoise"
				}
				store := fsdp.Open(r.Ops, parts, sharded.Reader(src), opts)
				fn(fsdp.Weights[nn.Params]{Store: store})
				if r.Err() != nil {
					r.Group.Abort(r.Err())
				}
				r.Fail(store.Close())
			})
		})
	}
	c := p.config
	m := wan.New(c, nil, w.compute)
	m.Seq, m.SlabTokens = seq, 16
	if w.slab > 0 {
		m.SlabTokens = w.slab
	}
	var conds []*wan.Cond
	var x, y tensor.Tensor
	x = r.FromFloats(p.x, p.t, p.h, p.w, c.OutDim)
	if c.HasImage() {
		y = r.FromFloats(p.y, p.t, p.h, p.w, c.InDim-c.OutDim)
	}
	with(wan.PrepareUnits(c), false, func(ws nn.Weights) {
		r.Scope(func() {
			m.Weights = ws
			rows := len(p.context) / c.TextDim
			text := r.FromFloats(p.context, rows, c.TextDim)
			var clip tensor.Tensor
			if c.HasImage() {
				clip = r.FromFloats(p.clip, c.ImageTokens(), c.ClipDim)
			}
			conds = m.Prepare(r.Ops, clip, text, text.Slice(0, (rows+1)/2))
		})
	})
	with(wan.ForwardUnits(c), true, func(ws nn.Weights) {
		m.Weights = ws
		for step := range max(w.steps, 1) {
			r.Scope(func() {
				seq.Begin("denoise", step+1, len(conds))
				for i, pred := range m.Forward(r.Ops, x, y, p.timestep, conds...) {
					out[i] = r.Floats(pred)
				}
			})
		}
	})
	if r.Err() == nil {
		r.Fail(weightsGroup.Close())
		r.Fail(seq.Close())
	}
	return out
}

// predict runs on size ranks and returns what each of them predicts.
func (p prediction) predict(t *testing.T, size int, w way) ([][2][]float32, ranktest.Result) {
	t.Helper()
	if w.compute == tensor.Invalid {
		w.compute = tensor.F32
	}
	outs := make([][2][]float32, size)
	result := ranktest.Run(t, size, func(r ranktest.Rank) { outs[r.Rank] = p.run(r, w) })
	return outs, result
}

func (p prediction) shape() []int { return []int{p.t, p.h, p.w, p.config.OutDim} }

// compare checks every rank's prediction of both branches, and that the ranks agree.
func (p prediction) compare(t *testing.T, outs [][2][]float32, want [2][]float32, tol float32) {
	t.Helper()
	for rank, out := range outs {
		for branch := range out {
			golden.CompareShape(t, fmt.Sprintf("rank %d, branch %d", rank, branch), p.shape(), out[branch], want[branch], tol)
			golden.CompareShape(t, fmt.Sprintf("rank %d against rank 0, branch %d", rank, branch), p.shape(), out[branch], outs[0][branch], 0)
		}
	}
}

var uspCases = []struct {
	checkpoint string
	timestep   int64
}{{"i2v", 700}, {"i2v", 250}, {"t2v", 900}, {"t2v", 31}, {"flf2v", 500}}

func eachCase(t *testing.T, run func(t *testing.T, p prediction, data map[string]golden.Tensor, key string)) {
	data := golden.Load(t, "../../testdata/usp/usp.safetensors")
	for i, tc := range uspCases {
		key := fmt.Sprintf("case%d", i)
		t.Run(key, func(t *testing.T) {
			run(t, openPrediction(t, tc.checkpoint, data, key, tc.timestep), data, key)
		})
	}
}

func channelsLast(x golden.Tensor) []float32 { return golden.Permute(x.F32, x.Shape, 1, 2, 3, 0) }

// Every ulysses x ring of up to 8 ranks predicts what one rank does, to the bit
// without a ring, and what the original code's own parallel forward does.
func TestSequenceParallel(t *testing.T) {
	eachCase(t, func(t *testing.T, p prediction, data map[string]golden.Tensor, key string) {
		single, _ := p.predict(t, 1, way{degree: 1})
		golden.CompareShape(t, "one rank", p.shape(), single[0][0], channelsLast(data[key+".single"]), tolF32)
		for _, size := range []int{2, 3, 4, 5, 6, 8} {
			_, reference := data[key+".sp8.masked"]
			if !reference && 8%size != 0 {
				continue // the cases whose tokens do not divide are enough
			}
			for _, degree := range sharding.Divisors(size) {
				if testing.Short() && size > 4 {
					continue
				}
				t.Run(fmt.Sprintf("ulysses %d ring %d", degree, size/degree), func(t *testing.T) {
					outs, _ := p.predict(t, size, way{degree: degree})
					tol := float32(tolF32)
					if degree == size {
						tol = 0
					}
					p.compare(t, outs, single[0], tol)
					if masked, ok := data[fmt.Sprintf("%s.sp%d.masked", key, size)]; ok {
						golden.CompareShape(t, "original, masked", p.shape(), outs[0][0], channelsLast(masked), tolF32)
					}
				})
			}
			upstream, ok := data[fmt.Sprintf("%s.sp%d.upstream", key, size)]
			for _, degree := range sharding.Divisors(size) {
				if !ok {
					break
				}
				t.Run(fmt.Sprintf("padding attended, ulysses %d ring %d", degree, size/degree), func(t *testing.T) {
					outs, _ := p.predict(t, size, way{degree: degree, compat: true})
					golden.CompareShape(t, "original", p.shape(), outs[0][0], channelsLast(upstream), tolF32)
				})
			}
		}
	})
}

// Sharded weights, wherever they rest, predict the same bits as whole ones, alone and
// under a spread sequence.
func TestShardedDiT(t *testing.T) {
	data := golden.Load(t, "../../testdata/usp/usp.safetensors")
	for _, tc := range []struct {
		name, key string
		compute   tensor.DType
	}{{"i2v", "case1", tensor.F32}, {"i2v", "case0", tensor.BF16}, {"flf2v", "case4", tensor.F32}} {
		p := openPrediction(t, tc.name, data, tc.key, 250)
		single, _ := p.predict(t, 1, way{degree: 1, compute: tc.compute})
		for _, size := range []int{1, 2, 3, 4, 5, 6, 8} {
			for _, opts := range []fsdp.Options{
				{Rest: fsdp.OnDevice}, {Rest: fsdp.OnHost}, {Rest: fsdp.InFile}, {Rest: fsdp.OnDevice, Serial: true}, {Rest: fsdp.InFile, Serial: true},
			} {
				if size > 3 && opts.Rest == fsdp.OnHost || size%2 == 1 && opts.Serial || testing.Short() && size > 3 {
					continue
				}
				t.Run(fmt.Sprintf("%s %v, %d ranks, rest %d, serial %v", tc.name, tc.compute, size, opts.Rest, opts.Serial), func(t *testing.T) {
					outs, _ := p.predict(t, size, way{degree: size, compute: tc.compute, shard: &opts, steps: 2})
					p.compare(t, outs, single[0], 0)
				})
			}
		}
		t.Run(tc.name+" with a ring", func(t *testing.T) {
			opts := fsdp.Options{Rest: fsdp.OnDevice}
			whole, _ := p.predict(t, 4, way{degree: 2, compute: tc.compute})
			outs, _ := p.predict(t, 4, way{degree: 2, compute: tc.compute, shard: &opts, steps: 2})
			p.compare(t, outs, whole[0], 0)
		})
	}
}
