package tensor_test

import (
	"errors"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestMergeAttentionRules(t *testing.T) {
	for _, tc := range []struct {
		name                    string
		acc, lse, part, partLSE func(o tensor.Ops) tensor.Tensor
		ok                      bool
	}{
		{"F32", shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), true},
		{"BF16 part", shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), shaped(tensor.BF16, 5, 2, 8), shaped(tensor.F32, 5, 2), true},
		{"BF16 acc", shaped(tensor.BF16, 5, 2, 8), shaped(tensor.F32, 5, 2), shaped(tensor.BF16, 5, 2, 8), shaped(tensor.F32, 5, 2), false},
		{"BF16 lse", shaped(tensor.F32, 5, 2, 8), shaped(tensor.BF16, 5, 2), shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), false},
		{"other part", shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), shaped(tensor.F32, 5, 2, 9), shaped(tensor.F32, 5, 2), false},
		{"other part lse", shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 2, 5), false},
		{"flat", shaped(tensor.F32, 10, 8), shaped(tensor.F32, 10), shaped(tensor.F32, 10, 8), shaped(tensor.F32, 10), false},
		{"none", shaped(tensor.F32, 5, 2, 8), shaped(tensor.F32, 5, 2), shaped(tensor.F32, 5, 2, 8), func(tensor.Ops) tensor.Tensor { return none }, false},
	} {
		o := plan(t)
		o.MergeAttention(tc.acc(o), tc.lse(o), tc.part(o), tc.partLSE(o))
		if err := o.Err(); (err == nil) != tc.ok || (err != nil && !errors.Is(err, tensor.ErrShape)) {
			t.Errorf("%s: error %v, want none: %v", tc.name, err, tc.ok)
		}
	}
}

func shaped(d tensor.DType, dims ...int) func(o tensor.Ops) tensor.Tensor {
	return func(o tensor.Ops) tensor.Tensor { return o.Empty(d, dims...) }
}
