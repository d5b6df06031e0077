package nn

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestNewUnit(t *testing.T) {
	u := NewUnit("blocks.3", "blocks.3.",
		LinearParams("q", 4, 2, Matrix), MatrixParams("gate", 5, 2, MatrixF32), NormParams("norm", 2), VectorParams("modulation", 1, 6, 2),
		[]Param{{Local: "conv", Shape: tensor.Shape{3, 2, 1, 1}, Kind: Conv}, {Local: "table", Shape: tensor.Shape{100, 2}, Kind: Rows}})
	want := Unit{Name: "blocks.3", Params: []Param{
		{"blocks.3.q.weight", "q.weight", tensor.Shape{4, 2}, Matrix},
		{"blocks.3.q.bias", "q.bias", tensor.Shape{4}, Vector},
		{"blocks.3.gate.weight", "gate.weight", tensor.Shape{5, 2}, MatrixF32},
		{"blocks.3.norm.weight", "norm.weight", tensor.Shape{2}, Vector},
		{"blocks.3.norm.bias", "norm.bias", tensor.Shape{2}, Vector},
		{"blocks.3.modulation", "modulation", tensor.Shape{1, 6, 2}, Vector},
		{"blocks.3.conv", "conv", tensor.Shape{3, 2, 1, 1}, Conv},
		{"blocks.3.table", "table", tensor.Shape{100, 2}, Rows},
	}}
	if d := cmp.Diff(want, u); d != "" {
		t.Error(d)
	}
	units := []Unit{u, u}
	if got, want := NumParams(units), int64(2*(8+4+10+2+2+12+6+200)); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
	// Matrix and convolution in 2 bytes; vectors and the F32 matrix in 4; no table.
	if got, want := Bytes(units, tensor.BF16), int64(2*(2*(8+6)+4*(4+10+2+2+12))); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}

func TestGetMissing(t *testing.T) {
	for _, p := range []Params{nil, {"q.weight": {}}} {
		ops := tensor.NewOps(context.Background(), nil, tensor.Unlimited())
		p.Get(ops, "q.weight")
		if err := ops.Err(); err == nil || !strings.Contains(err.Error(), `parameter "q.weight" is missing`) {
			t.Errorf("%v: error %v", p, err)
		}
	}
}
