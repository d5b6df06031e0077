package wan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The tolerances of the reference data's README: ten times what F32 differs from
// F64 there, and twice what emulated autocast differs from F32.
const (
	tolF32  = 7e-5
	tolBF16 = 0.06
)

// paddedTo is one rank that pads the sequence to a length with masked rows.
type paddedTo struct {
	wan.Whole
	length int
}

func (p paddedTo) Shard(int) (start, count int) { return 0, p.length }

func (p paddedTo) Gather(_ tensor.Ops, y tensor.Tensor, numTokens int) tensor.Tensor {
	return y.Slice(0, numTokens)
}

// cases are the timesteps of each case and the sequence length that the
// reference ran over, padding included.
var cases = []struct {
	timesteps []int64
	seqLen    int
}{{[]int64{999, 417}, 24}, {[]int64{63, 1}, 29}}

func eachGolden(t *testing.T, run func(t *testing.T, name string, data map[string]golden.Tensor)) {
	for _, name := range []string{"i2v", "flf2v", "t2v", "t2v_quick"} {
		t.Run(name, func(t *testing.T) { run(t, name, golden.Load(t, "../../../testdata/dit/"+name+".safetensors")) })
	}
}

func TestForward(t *testing.T) {
	eachGolden(t, func(t *testing.T, name string, data map[string]golden.Tensor) {
		ops := newOps(t, 2)
		m := open(t, ops, name, tensor.F32)
		for i, tc := range cases {
			key := fmt.Sprintf("case%d", i)
			in := inputOf(m.Config, data, key)
			for _, timestep := range tc.timesteps {
				want := data[fmt.Sprintf("%s.t%d.out", key, timestep)]
				for _, seq := range []wan.SeqParallel{wan.Whole{}, paddedTo{length: tc.seqLen}} {
					for _, slab := range []int{4096, 7} {
						m.Seq, m.SlabTokens = seq, slab
						got := predict(t, ops, m, in, timestep)
						name := fmt.Sprintf("%s t %d, %T, slabs of %d", key, timestep, seq, slab)
						golden.CompareShape(t, name, []int{in.t, in.h, in.w, m.OutDim}, got, channelsLast(want), tolF32)
						t.Logf("%s: max difference %.2g", name, golden.MaxDiff(got, channelsLast(want)))
					}
				}
			}
		}
	})
}

// In 16-bit types the result is as near to the F32 one, and to emulated
// autocast, as autocast is to F32, twice over.
func TestForward16Bit(t *testing.T) {
	eachGolden(t, func(t *testing.T, name string, data map[string]golden.Tensor) {
		for _, compute := range []tensor.DType{tensor.BF16, tensor.F16} {
			ops := newOps(t, 2)
			m := open(t, ops, name, compute)
			for i, tc := range cases {
				key := fmt.Sprintf("case%d", i)
				in := inputOf(m.Config, data, key)
				for _, timestep := range tc.timesteps {
					got := predict(t, ops, m, in, timestep)
					at := fmt.Sprintf("%s.t%d.out", key, timestep)
					for _, suffix := range []string{"", "_bf16_autocast"} {
						want := channelsLast(data[at+suffix])
						golden.Compare(t, fmt.Sprintf("%v %s%s", compute, at, suffix), got, want, tolBF16)
						t.Logf("%v %s%s: max difference %.4f", compute, at, suffix, golden.MaxDiff(got, want))
					}
				}
			}
		}
	})
}

// Every intermediate result of case 0 at timestep 417.
func TestTraces(t *testing.T) {
	const key, timestep = "case0", 417
	prefix := fmt.Sprintf("%s.t%d.", key, timestep)
	for _, tc := range []struct {
		compute tensor.DType
		marker  string // of the entries that are compared
		tol     float32
	}{{tensor.F32, "", tolF32}, {tensor.BF16, "bf16_", tolBF16}} {
		eachGolden(t, func(t *testing.T, name string, data map[string]golden.Tensor) {
			want := map[string][]float32{}
			for full, x := range data {
				part, ok := strings.CutPrefix(full, prefix)
				if !ok || strings.HasPrefix(part, "out") || strings.HasPrefix(part, "bf16_") != (tc.marker != "") {
					continue
				}
				part = strings.TrimSuffix(strings.TrimPrefix(part, tc.marker), "_first16")
				if part == "patch_embedding" {
					x.F32 = golden.Permute(x.F32, x.Shape, 1, 2, 3, 0)
				}
				want[part] = x.F32
			}
			ops := newOps(t, 2)
			m := open(t, ops, name, tc.compute)
			seen := 0
			m.Trace = func(part string, x tensor.Tensor) {
				w, ok := want[part]
				if !ok {
					return
				}
				seen++
				golden.Compare(t, fmt.Sprintf("%v %s", tc.compute, part), ops.Floats(x)[:len(w)], w, tc.tol)
			}
			predict(t, ops, m, inputOf(m.Config, data, key), timestep)
			if seen != len(want) || seen < m.NumLayers {
				t.Errorf("%v: %d intermediate results traced, want %d", tc.compute, seen, len(want))
			}
		})
	}
}

// The tables' time embedding of timestep 999.
func TestTimeEmbedding(t *testing.T) {
	eachGolden(t, func(t *testing.T, name string, data map[string]golden.Tensor) {
		want := golden.Load(t, "../../../testdata/dit/"+name+"_tables.safetensors")["time_embedding_t999"]
		ops := newOps(t, 1)
		m := open(t, ops, name, tensor.BF16)
		m.Trace = func(part string, x tensor.Tensor) {
			if part == "time_embedding" { // F32 whatever the compute type
				golden.Compare(t, part, ops.Floats(x), want.F32, tolF32)
			}
		}
		predict(t, ops, m, inputOf(m.Config, data, "case0"), 999)
	})
}

// The branches of one call are what calls of their own give, bit for bit.
func TestBranches(t *testing.T) {
	data := golden.Load(t, "../../../testdata/dit/i2v.safetensors")
	ops := newOps(t, 2)
	m := open(t, ops, "i2v", tensor.F32)
	in := inputOf(m.Config, data, "case0")
	x, y, clip, text := in.tensors(ops)
	other := ops.FromFloats(in.context[:3*m.TextDim], 3, m.TextDim)
	conds := m.Prepare(ops, clip, text, other)
	together := m.Forward(ops, x, y, 417, conds...)
	for i, cond := range conds {
		alone := m.Forward(ops, x, y, 417, cond)
		golden.Compare(t, fmt.Sprintf("branch %d", i), ops.Floats(together[i]), ops.Floats(alone[0]), 0)
	}
	if golden.MaxDiff(ops.Floats(together[0]), ops.Floats(together[1])) == 0 {
		t.Error("both contexts give the same prediction")
	}
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
}
