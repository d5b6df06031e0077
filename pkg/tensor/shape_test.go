package tensor_test

import (
	"math"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestNumElements(t *testing.T) {
	for _, tc := range []struct {
		shape tensor.Shape
		want  int64
		ok    bool
	}{
		{nil, 1, true},
		{tensor.Shape{2, 3, 4}, 24, true},
		{tensor.Shape{5, 0, 7}, 0, true},
		{tensor.Shape{2, -3}, 0, false},
		{tensor.Shape{math.MaxInt64}, math.MaxInt64, true},
		{tensor.Shape{1 << 32, 1 << 31}, 0, false},
		{tensor.Shape{1 << 32, 1 << 31, 0}, 0, false},
		{tensor.Shape{0, math.MaxInt64, math.MaxInt64}, 0, true},
	} {
		if got, ok := tc.shape.NumElements(); got != tc.want || ok != tc.ok {
			t.Errorf("%v has %d elements, %v; want %d, %v", tc.shape, got, ok, tc.want, tc.ok)
		}
	}
}

func TestDTypeNames(t *testing.T) {
	for d := tensor.F32; d <= tensor.Bool; d++ {
		got, err := tensor.ParseDType(d.String())
		if err != nil || got != d {
			t.Errorf("ParseDType(%q) = %v, %v", d.String(), got, err)
		}
		if d.Size() < 1 || d.Size() > 8 {
			t.Errorf("%v has %d bytes", d, d.Size())
		}
	}
	for _, name := range []string{"", "f32", "invalid", "F8_E5M2", "BF16 "} {
		if d, err := tensor.ParseDType(name); err == nil {
			t.Errorf("ParseDType(%q) = %v, want an error", name, d)
		}
	}
	if tensor.DType(200).Size() != 0 || tensor.DType(200).String() != "dtype(200)" {
		t.Errorf("an unknown type prints %v and has %d bytes", tensor.DType(200), tensor.DType(200).Size())
	}
}

func TestTensorViews(t *testing.T) {
	x := tensor.New(nil, 512, tensor.BF16, tensor.Shape{4, 3, 5})
	if x.Bytes() != 120 || x.Rows() != 12 || x.Dim(-1) != 5 || x.Dim(0) != 4 || x.Dim(3) != 0 || x.Dim(-4) != 0 {
		t.Errorf("%v: %d bytes, %d rows, dims %d %d %d %d", x, x.Bytes(), x.Rows(), x.Dim(-1), x.Dim(0), x.Dim(3), x.Dim(-4))
	}
	y := x.Slice(1, 2).Slice(1, 1)
	if y.Offset() != 512+2*30 || !y.Shape().Equal(tensor.Shape{1, 3, 5}) || x.Dim(0) != 4 {
		t.Errorf("slice of a slice: %v at %d, want [1, 3, 5] at 572", y, y.Offset())
	}
	var none tensor.Tensor
	if !none.IsNone() || none.Bytes() != 0 || none.NumElements() != 0 || none.Rows() != 0 || none.Dim(0) != 0 ||
		!none.Slice(3, 4).IsNone() || none.String() != "none" {
		t.Errorf("none is %v with %d bytes", none, none.Bytes())
	}
	for _, bad := range [][2]int{{-1, 1}, {0, 5}, {4, 1}, {2, -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("slice %v of %v did not panic", bad, x)
				}
			}()
			x.Slice(bad[0], bad[1])
		}()
	}
}
