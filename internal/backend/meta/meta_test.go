package meta_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func plan(t *testing.T) (tensor.Ops, *meta.Backend) {
	like := cpu.New(1)
	t.Cleanup(like.Close)
	b := meta.New(like)
	return tensor.NewOps(context.Background(), b, tensor.Unlimited()), b
}

func TestCounts(t *testing.T) {
	for _, tc := range []struct {
		name string
		run  func(o tensor.Ops)
		want meta.Counts
	}{
		{"matmul", func(o tensor.Ops) {
			o.MatMul(o.Empty(tensor.BF16, 2, 3, 5), o.Empty(tensor.BF16, 7, 5), o.Empty(tensor.F32, 7), tensor.NoActivation, tensor.F32)
		}, meta.Counts{Ops: 1, MatMulFLOPs: 2 * 6 * 7 * 5, BytesMoved: 30*2 + 35*2 + 7*4 + 42*4}},
		{"attention", func(o tensor.Ops) {
			q, k := o.Empty(tensor.F32, 6, 2, 8), o.Empty(tensor.F32, 9, 2, 8)
			o.Attention(q, k, k, tensor.AttentionSpec{Scale: 1, KeyLen: 7})
		}, meta.Counts{Ops: 1, AttentionFLOPs: 4 * 6 * 7 * 2 * 8, BytesMoved: (2*96 + 2*144) * 4}},
		{"conv", func(o tensor.Ops) {
			x, w := o.Empty(tensor.F32, 2, 4, 4, 3), o.Empty(tensor.F32, 5, 3, 3, 3, 3)
			o.Conv3D(x, tensor.Tensor{}, w, tensor.Tensor{},
				tensor.ConvSpec{Stride: [3]int{1, 2, 2}, PadT: 2, PadBottom: 1, PadRight: 1})
		}, meta.Counts{Ops: 1, ConvFLOPs: 2 * (2 * 2 * 2 * 5) * 27 * 3, BytesMoved: (96 + 5*81 + 40) * 4}},
		{"narrow moves the rows alone", func(o tensor.Ops) {
			o.Narrow(o.Empty(tensor.F16, 4, 10), 1, 2, 3)
		}, meta.Counts{Ops: 1, BytesMoved: 2 * 4 * 3 * 2}},
		{"activation", func(o tensor.Ops) {
			o.Activate(o.Empty(tensor.F32, 10), tensor.SiLU)
		}, meta.Counts{Ops: 1, OtherFLOPs: 10, BytesMoved: 80}},
		{"views move nothing", func(o tensor.Ops) {
			o.Reshape(o.Narrow(o.Empty(tensor.F32, 4, 10), 0, 1, 2), 20)
		}, meta.Counts{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, b := plan(t)
			tc.run(o)
			if err := o.Err(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, b.Counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if got, want := b.FLOPs(), tc.want.MatMulFLOPs+tc.want.AttentionFLOPs+tc.want.ConvFLOPs+tc.want.OtherFLOPs; got != want {
				t.Errorf("FLOPs() = %d, want %d", got, want)
			}
			if got := b.Sub(b.Counts); got != (meta.Counts{}) {
				t.Errorf("counts less themselves are %+v", got)
			}
		})
	}
}

// TestHuge plans what no machine could hold.
func TestHuge(t *testing.T) {
	o, b := plan(t)
	x := o.Empty(tensor.BF16, 75600, 5120)
	o.Scope(func() {
		w := o.Using(tensor.Weights).EmptyWeight(tensor.MatrixWeight, tensor.BF16, 13824, 5120)
		o.MatMul(x, w, tensor.Tensor{}, tensor.GELUTanh, tensor.BF16)
	})
	for range 40 {
		o.Attention(o.Reshape(x, 75600, 40, 128), o.Reshape(x, 75600, 40, 128), o.Reshape(x, 75600, 40, 128),
			tensor.AttentionSpec{Scale: 1, KeyLen: 75600})
	}
	if err := o.Err(); err != nil {
		t.Fatal(err)
	}
	want := tensor.RoundUp(75600*5120*2) * 41
	if got := o.Space().Peaks()[tensor.Activations]; got != want {
		t.Errorf("peak of activations %d bytes, want %d", got, want)
	}
	if got := o.Space().Peaks()[tensor.Weights]; got != 13824*5120*2 {
		t.Errorf("weights %d bytes, want %d", got, 13824*5120*2)
	}
	if got, want := b.AttentionFLOPs, int64(40)*4*75600*75600*5120; got != want {
		t.Errorf("attention takes %d FLOPs, want %d", got, want)
	}
}

// TestRead gives zeros, so that a plan reads no old memory.
func TestRead(t *testing.T) {
	o, _ := plan(t)
	x := o.FromFloats([]float32{1, 2, 3}, 3)
	if diff := cmp.Diff([]float32{0, 0, 0}, o.Floats(x)); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	if _, err := o.Backend().Reserve(1<<60, tensor.Weights); err != nil {
		t.Errorf("reserving nothing: %v", err)
	}
}
