package umt5_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The tolerances of the reference data's README: ten times what F32 differs from
// F64 there, and twice what BF16 differs from F32.
const (
	tolF32  = 3e-5
	tolBF16 = 0.12
)

func reserve(t testing.TB, threads int, bytes [tensor.NumPurposes]int64) tensor.Ops {
	t.Helper()
	backend := cpu.New(threads)
	t.Cleanup(backend.Close)
	space, err := tensor.Reserve(backend, bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	return tensor.NewOps(context.Background(), backend, space)
}

// room is enough for every test; only touched pages of it become resident.
var room = [tensor.NumPurposes]int64{tensor.Weights: 256 << 20, tensor.Activations: 256 << 20}

// open returns the encoder of a reference checkpoint, whose source stays open
// for the rows of its tables.
func open(t *testing.T, ops tensor.Ops, name string, compute tensor.DType) *umt5.Model {
	t.Helper()
	c, err := checkpoint.OpenDir("../../../testdata/ckpt_" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, err := c.T5()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	units := umt5.Units(c.Spec.T5)
	if err := weights.Check("t5", units, src, nil); err != nil {
		t.Fatal(err)
	}
	return umt5.New(c.Spec.T5, weights.Load(ops, units, src, compute), compute)
}

// realIDs are the ids of a prompt without padding, which is id 0.
func realIDs(padded []int64) (ids []int32) {
	for _, id := range padded {
		if id == 0 {
			break
		}
		ids = append(ids, int32(id))
	}
	return ids
}

func eachGolden(t *testing.T, run func(t *testing.T, name string, data map[string]golden.Tensor)) {
	for _, name := range []string{"i2v", "flf2v", "t2v", "t2v_quick"} {
		t.Run(name, func(t *testing.T) { run(t, name, golden.Load(t, "../../../testdata/t5/"+name+".safetensors")) })
	}
}

// The original code ran over the padded prompt with its padding masked: leaving
// padding out gives the same context.
func TestEncode(t *testing.T) {
	for _, tc := range []struct {
		compute tensor.DType
		suffix  string
		tol     float32
	}{{tensor.F32, ".context", tolF32}, {tensor.BF16, ".context", tolBF16}, {tensor.BF16, ".context_bf16", tolBF16}} {
		t.Run(fmt.Sprint(tc.compute, tc.suffix), func(t *testing.T) {
			eachGolden(t, func(t *testing.T, name string, data map[string]golden.Tensor) {
				ops := reserve(t, 2, room)
				m := open(t, ops, name, tc.compute)
				var names []string
				var prompts [][]int32
				for key, x := range data {
					if prompt, ok := strings.CutSuffix(key, ".ids"); ok {
						names, prompts = append(names, prompt), append(prompts, realIDs(x.I64))
					}
				}
				if len(names) < 4 {
					t.Fatalf("%d prompts, want at least 4", len(names))
				}
				for i, context := range m.Encode(ops, prompts...) {
					want := data[names[i]+tc.suffix]
					got := ops.Floats(context)
					golden.CompareShape(t, names[i], want.Shape, got, want.F32, tc.tol)
					t.Logf("%s, %d tokens: max difference %.2g", names[i], len(prompts[i]), golden.MaxDiff(got, want.F32))
				}
				if err := ops.Err(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// The intermediate results of one prompt; of its 40 rows those of real tokens.
func TestTraces(t *testing.T) {
	eachGolden(t, func(t *testing.T, name string, data map[string]golden.Tensor) {
		prompt := "one_letter"
		if name == "t2v_quick" {
			prompt = "zh_official_example"
		}
		ops := reserve(t, 2, room)
		m := open(t, ops, name, tensor.F32)
		seen := map[string]bool{}
		m.Trace = func(part string, x tensor.Tensor) {
			want, ok := data["detail."+part]
			if !ok {
				return
			}
			seen[part] = true
			got := ops.Floats(x)
			n := min(len(got), len(want.F32))
			golden.Compare(t, part, got[:n], want.F32[:n], tolF32)
		}
		m.Encode(ops, realIDs(data[prompt+".ids"].I64))
		if err := ops.Err(); err != nil {
			t.Fatal(err)
		}
		for key := range data {
			if part, ok := strings.CutPrefix(key, "detail."); ok && !seen[part] {
				t.Errorf("%s was not traced", part)
			}
		}
	})
}

// Each prompt of a call gets what a call of its own gives, bit for bit.
func TestPromptsTogether(t *testing.T) {
	ops := reserve(t, 2, room)
	m := open(t, ops, "i2v", tensor.F32)
	prompts := [][]int32{{900, 17, 4, 1}, {1}, {5, 6, 7, 8, 9, 10, 1}}
	for i, together := range m.Encode(ops, prompts...) {
		alone := m.Encode(ops, prompts[i])
		golden.Compare(t, fmt.Sprint(prompts[i]), ops.Floats(together), ops.Floats(alone[0]), 0)
	}
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
}

func small(layers int) umt5.Config {
	return umt5.Config{VocabSize: 50, Dim: 48, AttnDim: 64, FFNDim: 80, NumHeads: 4, NumLayers: layers,
		NumBuckets: 32, MaxDist: 128, Eps: 1e-6, TextLen: 64}
}

var smallPrompts = [][]int32{{3, 4, 5, 1}, {7, 8, 9, 10, 11, 12, 13, 1}}

// plan encodes the small prompts on the meta backend.
func plan(t *testing.T, c umt5.Config, compute tensor.DType) (peaks [tensor.NumPurposes]int64, flops int64) {
	t.Helper()
	cpuBackend := cpu.New(1)
	defer cpuBackend.Close()
	backend := meta.New(cpuBackend)
	space := tensor.Unlimited()
	ops := tensor.NewOps(context.Background(), backend, space)
	umt5.New(c, weights.Load(ops, umt5.Units(c), nil, compute), compute).Encode(ops, smallPrompts...)
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
	return space.Peaks(), backend.MatMulFLOPs + backend.AttentionFLOPs
}

// What a plan reserves is, to the byte, what a run takes, and enough for it.
// Activations do not grow with depth.
func TestPlannedPeak(t *testing.T) {
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		c := small(3)
		planned, flops := plan(t, c, compute)
		if want := c.FLOPs(4) + c.FLOPs(8); flops != want {
			t.Errorf("%d FLOPs counted, want %d", flops, want)
		}
		if deeper, _ := plan(t, small(6), compute); deeper[tensor.Activations] != planned[tensor.Activations] {
			t.Errorf("%v: 3 layers peak at %d bytes, 6 layers at %d", compute, planned[tensor.Activations], deeper[tensor.Activations])
		}
		ops := reserve(t, 2, planned)
		units := umt5.Units(c)
		umt5.New(c, weights.Load(ops, units, newRandomSource(units), compute), compute).Encode(ops, smallPrompts...)
		if err := ops.Err(); err != nil {
			t.Fatal(err)
		}
		if used := ops.Space().Peaks(); used != planned {
			t.Errorf("%v: peaks %v, planned %v", compute, used, planned)
		}
	}
}

// without hands out weights that lack one parameter of one unit.
type without struct {
	nn.Weights
	unit, local string
}

func (w without) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	p, release := w.Weights.Acquire(ops, unit)
	if unit == w.unit {
		p = maps.Clone(p)
		delete(p, w.local)
	}
	return p, release
}

func metaOps(t *testing.T) tensor.Ops {
	backend := cpu.New(1)
	t.Cleanup(backend.Close)
	return tensor.NewOps(context.Background(), meta.New(backend), tensor.Unlimited())
}

func TestMissingParameter(t *testing.T) {
	c := small(1)
	for _, u := range umt5.Units(c) {
		for _, p := range u.Params {
			if p.Kind == nn.Rows {
				continue // read by its name, which the store checks
			}
			ops := metaOps(t)
			w := without{weights.Load(ops, umt5.Units(c), nil, tensor.F32), u.Name, p.Local}
			umt5.New(c, w, tensor.F32).Encode(ops, smallPrompts...)
			if err := ops.Err(); err == nil || !strings.Contains(err.Error(), `"`+p.Local+`"`) {
				t.Errorf("without %q: error %v", p.Name, err)
			}
		}
	}
}

func TestWrongIDs(t *testing.T) {
	for _, tc := range []struct {
		name string
		ids  []int32
		want string
	}{
		{"none", nil, "prompt 1: 0 ids; want 1 to 64"},
		{"too many", make([]int32, 65), "prompt 1: 65 ids"},
		{"beyond the vocabulary", []int32{3, 50, 1}, "id 50 at 1 is not in the vocabulary of 50"},
		{"negative", []int32{-1}, "id -1 at 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, ops := small(1), metaOps(t)
			m := umt5.New(c, weights.Load(ops, umt5.Units(c), nil, tensor.F32), tensor.F32)
			if got := len(m.Encode(ops, []int32{1}, tc.ids)); got != 2 {
				t.Errorf("%d contexts, want 2", got)
			}
			if err := ops.Err(); !errors.Is(err, tensor.ErrShape) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// randomSource makes up parameters of a size that keeps activations near 1.
type randomSource struct {
	names  []string
	params map[string]nn.Param
}

func newRandomSource(units []nn.Unit) *randomSource {
	s := &randomSource{params: map[string]nn.Param{}}
	for _, u := range units {
		for _, p := range u.Params {
			s.names = append(s.names, p.Name)
			s.params[p.Name] = p
		}
	}
	return s
}

func (s *randomSource) Names() []string { return s.names }
func (s *randomSource) Close() error    { return nil }

func (s *randomSource) Lookup(name string) (checkpoint.Entry, bool) {
	p, ok := s.params[name]
	n, _ := p.Shape.NumElements()
	scale := 1.0
	if p.Kind == nn.Matrix {
		scale = 1 / math.Sqrt(float64(p.Shape[1]))
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)+uint64(len(name))))
	data := make([]byte, 0, 4*n)
	for range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(scale*rng.NormFloat64())))
	}
	return checkpoint.Entry{Name: name, DType: tensor.F32, Shape: p.Shape, Data: data}, ok
}

// The size that docs/log.md compares with the original code: 512 tokens, dim 512,
// 4 layers, 14.5 GFLOP.
func BenchmarkEncode(b *testing.B) {
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%v/threads=%d", compute, threads), func(b *testing.B) {
				c := umt5.Config{VocabSize: 512, Dim: 512, AttnDim: 512, FFNDim: 1280, NumHeads: 8, NumLayers: 4,
					NumBuckets: 32, MaxDist: 128, Eps: 1e-6, TextLen: 512}
				ops := reserve(b, threads, room)
				units := umt5.Units(c)
				m := umt5.New(c, weights.Load(ops, units, newRandomSource(units), compute), compute)
				ids := make([]int32, 512)
				for i := range ids {
					ids[i] = int32(i)
				}
				b.ResetTimer()
				for b.Loop() {
					ops.Scope(func() { m.Encode(ops, ids) })
				}
				if err := ops.Err(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(c.FLOPs(512))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
