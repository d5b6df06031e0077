package weights_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/internal/checkpoint/safetensors"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// stored is a tensor of a test file: element i is value(i).
type stored struct {
	name  string
	d     tensor.DType
	shape tensor.Shape
	value func(i int) float32
}

func count(i int) float32 { return float32(i%256) - 128 } // exact in every type

func (s stored) bytes() []byte {
	n, _ := s.shape.NumElements()
	out := make([]byte, 0, n*s.d.Size())
	for i := range int(n) {
		out = appendFloat(out, s.d, s.value(i))
	}
	return out
}

func appendFloat(b []byte, d tensor.DType, v float32) []byte {
	switch d {
	case tensor.BF16:
		return binary.LittleEndian.AppendUint16(b, tensor.F32ToBF16(v))
	case tensor.F16:
		return binary.LittleEndian.AppendUint16(b, tensor.F32ToF16(v))
	case tensor.F64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(v)))
	}
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
}

// open writes the tensors to a file, in their order, and opens it.
func open(t testing.TB, tensors ...stored) checkpoint.Source {
	t.Helper()
	header, data := map[string]any{}, []byte(nil)
	for _, s := range tensors {
		begin := len(data)
		data = append(data, s.bytes()...)
		header[s.name] = map[string]any{"dtype": s.d.String(), "shape": append([]int{}, s.shape...), "data_offsets": []int{begin, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	dir := t.TempDir()
	content := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if err := os.WriteFile(filepath.Join(dir, "w.safetensors"), append(content, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	folder, err := file.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	f, err := folder.Open("w.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	src, err := safetensors.New(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src
}

// model is a file with a parameter of each kind, and the units that ask for them.
func model(t testing.TB) (checkpoint.Source, []nn.Unit) {
	src := open(t,
		stored{"emb", tensor.BF16, tensor.Shape{10, 4}, count},
		stored{"b.conv3", tensor.F32, tensor.Shape{2, 3, 2, 1, 2}, count},
		stored{"b.conv2", tensor.F16, tensor.Shape{2, 3, 1, 2}, count},
		stored{"a.bias", tensor.BF16, tensor.Shape{1, 2, 3}, count},
		stored{"a.scalar", tensor.F32, tensor.Shape{}, func(int) float32 { return 7 }},
		stored{"a.w", tensor.F32, tensor.Shape{4, 2, 3}, count},
		stored{"a.w32", tensor.BF16, tensor.Shape{3, 5}, count},
	)
	return src, []nn.Unit{
		{Name: "a", Params: []nn.Param{
			{Name: "a.w", Local: "w", Shape: tensor.Shape{4, 2, 3}, Kind: nn.Matrix},
			{Name: "a.w32", Local: "w32", Shape: tensor.Shape{3, 5}, Kind: nn.MatrixF32},
			{Name: "a.bias", Local: "bias", Shape: tensor.Shape{1, 2, 3}, Kind: nn.Vector},
			{Name: "a.scalar", Local: "scalar", Shape: tensor.Shape{}, Kind: nn.Vector},
		}},
		{Name: "b", Params: []nn.Param{
			{Name: "emb", Local: "emb", Shape: tensor.Shape{10, 4}, Kind: nn.Rows},
			{Name: "b.conv2", Local: "conv2", Shape: tensor.Shape{2, 3, 1, 2}, Kind: nn.Conv},
			{Name: "b.conv3", Local: "conv3", Shape: tensor.Shape{2, 3, 2, 1, 2}, Kind: nn.Conv},
		}},
	}
}

// channelsLast lists the values of a counted [o, c, rest] as [o, rest, c].
func channelsLast(out, channels, rest int) (v []float32) {
	for o := range out {
		for r := range rest {
			for c := range channels {
				v = append(v, count((o*channels+c)*rest+r))
			}
		}
	}
	return v
}

func counted(n int) (v []float32) {
	for i := range n {
		v = append(v, count(i))
	}
	return v
}

func TestLoad(t *testing.T) {
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		for _, pack := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v packed %v", compute, pack), func(t *testing.T) {
				src, units := model(t)
				if err := weights.Check("model", units, src, nil); err != nil {
					t.Fatal(err)
				}
				b := &hostBackend{pack: pack}
				ops := newOps(t, b, 1<<16)
				r := weights.Load(ops, units, src, compute)
				if err := ops.Err(); err != nil {
					t.Fatal(err)
				}
				for _, tc := range []struct {
					unit, local string
					d           tensor.DType
					shape       tensor.Shape
					want        []float32
				}{
					{"a", "w", compute, tensor.Shape{4, 6}, counted(24)},
					{"a", "w32", tensor.F32, tensor.Shape{3, 5}, counted(15)},
					{"a", "bias", tensor.F32, tensor.Shape{6}, counted(6)},
					{"a", "scalar", tensor.F32, tensor.Shape{1}, []float32{7}},
					{"b", "conv2", compute, tensor.Shape{2, 1, 1, 2, 3}, channelsLast(2, 3, 2)},
					{"b", "conv3", compute, tensor.Shape{2, 2, 1, 2, 3}, channelsLast(2, 3, 4)},
				} {
					p, release := r.Acquire(ops, tc.unit)
					w := p[tc.local]
					if w.DType() != tc.d || !w.Shape().Equal(tc.shape) {
						t.Errorf("%s.%s is %v, want %v%v", tc.unit, tc.local, w, tc.d, tc.shape)
						continue
					}
					if packed := pack && tc.local != "bias" && tc.local != "scalar"; packed != (w.Packed() > 0) {
						t.Errorf("%s.%s: packed bytes %d", tc.unit, tc.local, w.Packed())
					}
					want := stored{d: tc.d, shape: tensor.Shape{len(tc.want)}, value: func(i int) float32 { return tc.want[i] }}.bytes()
					if got := read(w, len(want)); !bytes.Equal(got, want) {
						t.Errorf("%s.%s: bytes % x, want % x", tc.unit, tc.local, got, want)
					}
					release()
				}
				checkPlan(t, b, ops, units, compute)
				if p, _ := r.Acquire(ops, "c"); p != nil || ops.Err() == nil {
					t.Error("a unit that is not there was acquired")
				}
			})
		}
	}
}

// checkPlan compares a load without a source, in an arena without memory, with
// what a real load took.
func checkPlan(t *testing.T, b *hostBackend, real tensor.Ops, units []nn.Unit, compute tensor.DType) {
	t.Helper()
	space := tensor.Unlimited()
	plan := tensor.NewOps(context.Background(), b, space)
	weights.Load(plan, units, nil, compute)
	if err := plan.Err(); err != nil {
		t.Fatal(err)
	}
	if got, want := space.Used(), real.Space().Used(); got != want {
		t.Errorf("planned %v bytes, used %v", got, want)
	}
	if peak := real.Space().Peaks()[tensor.Activations]; peak != 0 {
		t.Errorf("%d bytes of activations were used for loading", peak)
	}
}

// TestFileOrder fills in the order of the file, not of the units.
func TestFileOrder(t *testing.T) {
	src, units := model(t)
	b := &hostBackend{}
	ops := newOps(t, b, 1<<16)
	weights.Load(ops, units, src, tensor.BF16)
	want := []string{"conv BF16[2, 2, 1, 2, 3]", "conv BF16[2, 1, 1, 2, 3]", "vector F32[6]", "vector F32[1]", "matrix BF16[4, 6]", "matrix F32[3, 5]"}
	if !slices.Equal(b.log, want) || ops.Err() != nil {
		t.Errorf("wrote %q, want %q; %v", b.log, want, ops.Err())
	}
}

// TestStaging loads tensors larger than the buffer: in pieces, unless the backend
// packs them.
func TestStaging(t *testing.T) {
	const limit = 16 << 20
	shape := tensor.Shape{5000, 3, 700} // 42 MB in F32
	value := func(i int) float32 { return float32(i % 251) }
	conv := tensor.Shape{40, 30, 5, 30, 30} // 21.6 MB in F32
	src := open(t, stored{"w", tensor.BF16, shape, value}, stored{"c", tensor.BF16, conv, value})
	units := []nn.Unit{{Name: "u", Params: []nn.Param{
		{Name: "w", Local: "w", Shape: shape, Kind: nn.Matrix}, {Name: "c", Local: "c", Shape: conv, Kind: nn.Conv}}}}
	for _, pack := range []bool{false, true} {
		b := &hostBackend{pack: pack}
		ops := newOps(t, b, 160<<20)
		r := weights.Load(ops, units, src, tensor.F32)
		if err := ops.Err(); err != nil {
			t.Fatal(err)
		}
		if largest := slices.Max(b.pieces); !pack && largest > limit || pack && len(b.pieces) != 2 {
			t.Errorf("packed %v: %d writes, the largest of %d bytes", pack, len(b.pieces), largest)
		}
		p, _ := r.Acquire(ops, "u")
		got := read(p["w"], 5000*3*700*4)
		for i := 0; i < len(got); i += 4 {
			if v := math.Float32frombits(binary.LittleEndian.Uint32(got[i:])); v != value(i/4) {
				t.Fatalf("packed %v: element %d is %g, want %g", pack, i/4, v, value(i/4))
			}
		}
		got = read(p["c"], 40*30*5*900*4)
		for i := 0; i < len(got); i += 4 {
			o, k, c := i/4/30/4500, i/4/30%4500, i/4%30
			if v, want := math.Float32frombits(binary.LittleEndian.Uint32(got[i:])), value((o*30+c)*4500+k); v != want {
				t.Fatalf("packed %v: element [%d, %d, %d] of the convolution is %g, want %g", pack, o, k, c, v, want)
			}
		}
	}
}

func TestRows(t *testing.T) {
	src, units := model(t)
	ops := newOps(t, &hostBackend{}, 1<<16)
	r := weights.Load(ops, units, src, tensor.BF16)
	rows := []int32{3, 0, 9, 3}
	x := r.Rows(ops, "emb", rows)
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
	if x.DType() != tensor.F32 || !x.Shape().Equal(tensor.Shape{4, 4}) {
		t.Fatalf("got %v, want F32[4, 4]", x)
	}
	for i, got := range ops.Floats(x) {
		if want := count(int(rows[i/4])*4 + i%4); got != want {
			t.Errorf("element %d is %g, want %g", i, got, want)
		}
	}
	planned := tensor.NewOps(context.Background(), &hostBackend{}, tensor.Unlimited())
	p := weights.Load(planned, units, nil, tensor.BF16).Rows(planned, "emb", rows)
	if planned.Err() != nil || p.String() != x.String() {
		t.Errorf("planned %v, %v; want %v", p, planned.Err(), x)
	}
	for _, tc := range []struct {
		name string
		rows []int32
	}{{"emb", []int32{10}}, {"emb", []int32{-1}}, {"a.w", []int32{0}}, {"emb", nil}} {
		ops := newOps(t, &hostBackend{}, 1<<16)
		r := weights.Load(ops, units, src, tensor.BF16)
		if x := r.Rows(ops, tc.name, tc.rows); !x.IsNone() || !errors.Is(ops.Err(), tensor.ErrShape) {
			t.Errorf("rows %v of %s: %v, %v", tc.rows, tc.name, x, ops.Err())
		}
	}
}

func TestLoadErrors(t *testing.T) {
	src, units := model(t)
	broken := errors.New("broken")
	with := func(p nn.Param) []nn.Unit { return []nn.Unit{{Name: "u", Params: []nn.Param{p}}} }
	for _, tc := range []struct {
		name  string
		b     *hostBackend
		room  int64
		units []nn.Unit
		want  error
		text  string
	}{
		{"no room", &hostBackend{}, 512, units, tensor.ErrArena, "weights"},
		{"backend fails", &hostBackend{failed: broken}, 1 << 16, units, broken, `"b.conv3"`},
		{"no such tensor", &hostBackend{}, 1 << 16, with(nn.Param{Name: "x", Shape: tensor.Shape{1}}), checkpoint.ErrCheckpoint, `"x"`},
		{"another shape", &hostBackend{}, 1 << 16, with(nn.Param{Name: "a.w32", Shape: tensor.Shape{5, 3}}), checkpoint.ErrCheckpoint, "expected [5, 3], got [3, 5]"},
		{"convolution of 3 dims", &hostBackend{}, 1 << 16, with(nn.Param{Name: "a.w", Shape: tensor.Shape{4, 2, 3}, Kind: nn.Conv}), tensor.ErrShape, `"a.w"`},
		{"no elements", &hostBackend{}, 1 << 16, with(nn.Param{Name: "a.w", Shape: tensor.Shape{4, 0}, Kind: nn.Matrix}), tensor.ErrShape, `"a.w"`},
	} {
		ops := newOps(t, tc.b, tc.room)
		weights.Load(ops, tc.units, src, tensor.F32)
		if err := ops.Err(); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %v with %q", tc.name, err, tc.want, tc.text)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(broken)
	ops := tensor.NewOps(ctx, &hostBackend{}, newOps(t, &hostBackend{}, 1<<16).Space())
	weights.Load(ops, units, src, tensor.F32)
	if !errors.Is(ops.Err(), broken) {
		t.Errorf("cancelled: %v", ops.Err())
	}
}

func TestCheckListsUnits(t *testing.T) {
	src, units := model(t)
	units[0].Params[0].Name = "a.other"
	units[1].Params[1].Shape = tensor.Shape{3, 2, 1, 2}
	err := weights.Check("model", units, src, func(name string) bool { return false })
	if !errors.Is(err, checkpoint.ErrCheckpoint) {
		t.Fatalf("got %v, want ErrCheckpoint", err)
	}
	for _, want := range []string{"a.other [4, 2, 3]", `"a.w" [4, 2, 3]`, "b.conv2: expected [3, 2, 1, 2], got [2, 3, 1, 2]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

func TestScan(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	src := open(t,
		stored{"good", tensor.F32, tensor.Shape{3, 100_000}, count},
		stored{"nan", tensor.BF16, tensor.Shape{1, 2, 500_000}, func(i int) float32 {
			if i%250_000 == 7 {
				return nan
			}
			return 1
		}},
		stored{"inf", tensor.F16, tensor.Shape{2, 2}, func(i int) float32 {
			if i > 0 {
				return inf
			}
			return nan
		}},
		stored{"scalar", tensor.F64, tensor.Shape{}, count},
	)
	err := weights.Scan(context.Background(), src)
	if !errors.Is(err, checkpoint.ErrCheckpoint) {
		t.Fatalf("got %v, want ErrCheckpoint", err)
	}
	for _, want := range []string{`"nan": 4 NaN, 0 infinite of 1000000 values`, `"inf": 1 NaN, 3 infinite of 4 values`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "good") || strings.Contains(err.Error(), "scalar") {
		t.Errorf("got %q, which names finite tensors", err)
	}
	if err := weights.Scan(context.Background(), open(t, stored{"good", tensor.F32, tensor.Shape{7}, count})); err != nil {
		t.Errorf("finite tensors: %v", err)
	}
	broken := errors.New("stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(broken)
	if err := weights.Scan(ctx, src); !errors.Is(err, broken) {
		t.Errorf("cancelled: %v", err)
	}
}

// BenchmarkLoad loads 256 MB of BF16 from a mapped file.
func BenchmarkLoad(b *testing.B) {
	shape := tensor.Shape{4096, 4096}
	var tensors []stored
	var params []nn.Param
	for i := range 8 {
		name := fmt.Sprintf("w%d", i)
		tensors = append(tensors, stored{name, tensor.BF16, shape, count})
		params = append(params, nn.Param{Name: name, Local: name, Shape: shape, Kind: nn.Matrix})
	}
	src := open(b, tensors...)
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		b.Run("BF16 to "+compute.String(), func(b *testing.B) {
			backend := &hostBackend{}
			ops := newOps(b, backend, 8*4096*4096*compute.Size())
			b.SetBytes(8 * 4096 * 4096 * 2)
			for b.Loop() {
				ops.Space()[tensor.Weights].Release(0)
				weights.Load(ops, []nn.Unit{{Name: "u", Params: params}}, src, compute)
				if err := ops.Err(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
