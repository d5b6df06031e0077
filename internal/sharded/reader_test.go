package sharded

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// source is a checkpoint in memory.
type source map[string]checkpoint.Entry

func (s source) Names() []string { return nil }
func (s source) Close() error    { return nil }
func (s source) Lookup(name string) (checkpoint.Entry, bool) {
	e, ok := s[name]
	return e, ok
}

// Any range of any tensor, contiguous or not, is that range of the whole.
func TestReadRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		e := checkpoint.Entry{Name: "w", DType: tensor.F32}
		rank := 1 + rng.IntN(5)
		for range rank {
			e.Shape = append(e.Shape, 1+rng.IntN(6))
		}
		e.Data = make([]byte, 4*e.NumElements())
		for i := range e.Data {
			e.Data[i] = byte(rng.IntN(120)) // finite
		}
		if rng.IntN(3) > 0 {
			e = e.Permute(rng.Perm(rank)...)
		}
		d := []tensor.DType{tensor.F32, tensor.BF16}[rng.IntN(2)]
		n := e.NumElements()
		whole := make([]byte, n*d.Size())
		if err := checkpoint.Read(whole, d, e); err != nil {
			t.Fatal(err)
		}
		p := fsdp.Param{Name: "w", Kind: tensor.MatrixWeight, DType: d, Shape: e.Shape}
		first := rng.Int64N(n)
		count := rng.Int64N(n-first) + 1
		got := make([]byte, count*d.Size())
		if err := Reader(source{"w": e}).ReadRange(p, first, got); err != nil {
			t.Fatal(err)
		}
		if want := whole[first*d.Size() : (first+count)*d.Size()]; !bytes.Equal(got, want) {
			t.Fatalf("elements [%d, %d) of %v strides %v: got %v, want %v", first, first+count, e.Shape, e.Strides, got, want)
		}
	}
}

// A convolution's weight is read channels-last.
func TestReadConv(t *testing.T) {
	for _, shape := range []tensor.Shape{{3, 4, 2, 3, 2}, {3, 4, 3, 2}} {
		units, err := Units([]nn.Unit{{Name: "u", Params: []nn.Param{{Name: "w", Local: "w", Shape: shape, Kind: nn.Conv}}}}, tensor.F32)
		if err != nil {
			t.Fatal(err)
		}
		e := checkpoint.Entry{Name: "w", DType: tensor.F32, Shape: shape}
		n := int(e.NumElements())
		floats := make([]float32, n)
		for i := range floats {
			floats[i] = float32(i)
		}
		e.Data = tensor.FloatBytes(floats)
		got := make([]float32, n)
		half := n/2 + 1
		for _, r := range [][2]int{{0, half}, {half, n}} {
			if err := Reader(source{"w": e}).ReadRange(units[0].Params[0], int64(r[0]), tensor.FloatBytes(got[r[0]:r[1]])); err != nil {
				t.Fatal(err)
			}
		}
		volume := n / 12
		for o := range 3 {
			for v := range volume {
				for c := range 4 {
					if g, w := got[(o*volume+v)*4+c], float32((o*4+c)*volume+v); g != w {
						t.Fatalf("%v: output %d, tap %d, channel %d is element %v, want %v", shape, o, v, c, g, w)
					}
				}
			}
		}
	}
}

func TestRefuses(t *testing.T) {
	e := checkpoint.Entry{Name: "w", DType: tensor.F32, Shape: tensor.Shape{4}, Data: make([]byte, 16)}
	r := Reader(source{"w": e})
	p := fsdp.Param{Name: "w", DType: tensor.F32, Shape: tensor.Shape{4}}
	for _, tc := range []struct {
		name  string
		p     fsdp.Param
		first int64
		bytes int
		want  error
	}{
		{"missing", fsdp.Param{Name: "v", DType: tensor.F32, Shape: tensor.Shape{4}}, 0, 4, checkpoint.ErrCheckpoint},
		{"other size", fsdp.Param{Name: "w", DType: tensor.F32, Shape: tensor.Shape{5}}, 0, 4, checkpoint.ErrCheckpoint},
		{"conv of a vector", fsdp.Param{Name: "w", Kind: tensor.ConvWeight, DType: tensor.F32, Shape: tensor.Shape{4}}, 0, 4, checkpoint.ErrCheckpoint},
		{"behind the end", p, 3, 8, tensor.ErrShape},
		{"before the start", p, -1, 4, tensor.ErrShape},
		{"part of an element", p, 0, 6, tensor.ErrShape},
	} {
		if err := r.ReadRange(tc.p, tc.first, make([]byte, tc.bytes)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if Reader(nil) != nil {
		t.Error("a reader without a source")
	}
	for _, param := range []nn.Param{
		{Name: "w", Kind: nn.Matrix}, {Name: "w", Kind: nn.Vector, Shape: tensor.Shape{0}}, {Name: "w", Kind: nn.Conv, Shape: tensor.Shape{4, 4}},
	} {
		if _, err := Units([]nn.Unit{{Name: "u", Params: []nn.Param{param}}}, tensor.F32); !errors.Is(err, tensor.ErrShape) {
			t.Errorf("%+v: %v, want ErrShape", param, err)
		}
	}
}
