package tensor_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// plan returns ops that compute nothing.
func plan(t *testing.T) tensor.Ops {
	like := cpu.NewReference(1)
	t.Cleanup(like.Close)
	return tensor.NewOps(context.Background(), meta.New(like), tensor.Unlimited())
}

var none tensor.Tensor

// causal pads for a 3x3x3 kernel.
var causal = tensor.ConvSpec{Stride: [3]int{1, 1, 1}, PadT: 2, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1}

func f32(o tensor.Ops, dims ...int) tensor.Tensor  { return o.Empty(tensor.F32, dims...) }
func bf16(o tensor.Ops, dims ...int) tensor.Tensor { return o.Empty(tensor.BF16, dims...) }

func packed(o tensor.Ops, kind tensor.WeightKind, dims ...int) tensor.Tensor {
	return o.Using(tensor.Weights).EmptyWeight(kind, tensor.BF16, dims...)
}

// in returns x for ops that work in place and return nothing.
func in(x tensor.Tensor, op func(x tensor.Tensor)) tensor.Tensor {
	op(x)
	return x
}

// TestShapeRules has one line for each rule of each op: what it gives, or that
// it refuses.
func TestShapeRules(t *testing.T) {
	type ops = tensor.Ops
	attend := func(o ops, q, k, v tensor.Tensor, keyLen int) tensor.Tensor {
		return o.Attention(q, k, v, tensor.AttentionSpec{Scale: 1, KeyLen: keyLen})
	}
	strided := func(t, h, w int) tensor.ConvSpec {
		s := causal
		s.Stride = [3]int{t, h, w}
		return s
	}
	for _, tc := range []struct {
		name string
		run  func(o ops) tensor.Tensor
		want string // type and shape of the result; "" if refused
	}{
		{"empty", func(o ops) tensor.Tensor { return o.Empty(tensor.U8, 2, 3) }, "U8[2, 3]"},
		{"empty scalar", func(o ops) tensor.Tensor { return f32(o) }, "F32[]"},
		{"empty, no elements", func(o ops) tensor.Tensor { return f32(o, 2, 0) }, ""},
		{"empty, negative", func(o ops) tensor.Tensor { return f32(o, -1) }, ""},
		{"empty, elements overflow", func(o ops) tensor.Tensor { return f32(o, 1<<32, 1<<31) }, ""},
		{"empty, bytes overflow", func(o ops) tensor.Tensor { return f32(o, math.MaxInt64/4+1) }, ""},
		{"empty, unknown type", func(o ops) tensor.Tensor { return o.Empty(tensor.Invalid, 2) }, ""},

		{"from host", func(o ops) tensor.Tensor { return o.FromHost(tensor.BF16, make([]byte, 12), 2, 3) }, "BF16[2, 3]"},
		{"from host, too few", func(o ops) tensor.Tensor { return o.FromHost(tensor.BF16, make([]byte, 11), 2, 3) }, ""},
		{"from floats", func(o ops) tensor.Tensor { return o.FromFloats(make([]float32, 6), 3, 2) }, "F32[3, 2]"},
		{"from floats, too many", func(o ops) tensor.Tensor { return o.FromFloats(make([]float32, 7), 3, 2) }, ""},

		{"reshape", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), 2, 12) }, "F32[2, 12]"},
		{"reshape, one unknown", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), 3, -1, 2) }, "F32[3, 4, 2]"},
		{"reshape to scalar", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 1, 1)) }, "F32[]"},
		{"reshape, two unknown", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), -1, -1) }, ""},
		{"reshape, does not divide", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), 5, -1) }, ""},
		{"reshape, other number", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), 5, 5) }, ""},
		{"reshape, zero", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), 0, -1) }, ""},
		{"reshape, negative", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), -4, -6) }, ""},
		{"reshape, overflow", func(o ops) tensor.Tensor { return o.Reshape(f32(o, 4, 6), 1<<32, 1<<32, -1) }, ""},
		{"reshape, packed", func(o ops) tensor.Tensor { return o.Reshape(packed(o, tensor.MatrixWeight, 4, 6), 24) }, ""},

		{"cast", func(o ops) tensor.Tensor { return o.Cast(f32(o, 3), tensor.F16) }, "F16[3]"},
		{"cast to U8", func(o ops) tensor.Tensor { return o.Cast(f32(o, 3), tensor.U8) }, ""},
		{"cast packed", func(o ops) tensor.Tensor { return o.Cast(packed(o, tensor.MatrixWeight, 4, 6), tensor.F32) }, ""},
		{"clone bytes", func(o ops) tensor.Tensor { return o.Clone(o.Empty(tensor.U8, 3), tensor.U8) }, "U8[3]"},
		{"clone bytes as floats", func(o ops) tensor.Tensor {
			o.Clone(o.Empty(tensor.U8, 3), tensor.F32)
			return none
		}, ""},
		{"copy, other shape", func(o ops) tensor.Tensor { return in(f32(o, 6), func(x tensor.Tensor) { o.CopyTo(x, f32(o, 2, 3)) }) }, ""},
		{"copy to packed", func(o ops) tensor.Tensor {
			return in(packed(o, tensor.MatrixWeight, 4, 6), func(x tensor.Tensor) { o.CopyTo(x, bf16(o, 4, 6)) })
		}, ""},
		{"fill bytes", func(o ops) tensor.Tensor { return in(o.Empty(tensor.U8, 3), func(x tensor.Tensor) { o.Fill(x, 7) }) }, "U8[3]"},
		{"fill integers", func(o ops) tensor.Tensor { return in(o.Empty(tensor.I64, 3), func(x tensor.Tensor) { o.Fill(x, 7) }) }, ""},
		{"fill packed", func(o ops) tensor.Tensor {
			return in(packed(o, tensor.MatrixWeight, 4, 6), func(x tensor.Tensor) { o.Fill(x, 7) })
		}, ""},

		{"narrow dim 0", func(o ops) tensor.Tensor { return o.Narrow(f32(o, 4, 6), 0, 1, 3) }, "F32[3, 6]"},
		{"narrow dim 1", func(o ops) tensor.Tensor { return o.Narrow(f32(o, 4, 6), 1, 5, 1) }, "F32[4, 1]"},
		{"narrow past the end", func(o ops) tensor.Tensor { return o.Narrow(f32(o, 4, 6), 1, 5, 2) }, ""},
		{"narrow nothing", func(o ops) tensor.Tensor { return o.Narrow(f32(o, 4, 6), 1, 5, 0) }, ""},
		{"narrow, no such dim", func(o ops) tensor.Tensor { return o.Narrow(f32(o, 4, 6), 2, 0, 1) }, ""},
		{"narrow packed", func(o ops) tensor.Tensor { return o.Narrow(packed(o, tensor.MatrixWeight, 4, 6), 0, 0, 1) }, ""},
		{"place past the end", func(o ops) tensor.Tensor {
			return in(f32(o, 4, 6), func(x tensor.Tensor) { o.Place(x, f32(o, 4, 2), 1, 5) })
		}, ""},
		{"place, other type", func(o ops) tensor.Tensor {
			return in(f32(o, 4, 6), func(x tensor.Tensor) { o.Place(x, bf16(o, 4, 2), 1, 0) })
		}, ""},
		{"place, other dims differ", func(o ops) tensor.Tensor {
			return in(f32(o, 4, 6), func(x tensor.Tensor) { o.Place(x, f32(o, 3, 2), 1, 0) })
		}, ""},
		{"concat", func(o ops) tensor.Tensor { return o.Concat(1, f32(o, 4, 6), f32(o, 4, 1), f32(o, 4, 2)) }, "F32[4, 9]"},
		{"concat of one", func(o ops) tensor.Tensor { return o.Concat(0, f32(o, 4, 6)) }, "F32[4, 6]"},
		{"concat of nothing", func(o ops) tensor.Tensor { return o.Concat(0) }, ""},
		{"concat, other dims differ", func(o ops) tensor.Tensor { return o.Concat(1, f32(o, 4, 6), f32(o, 5, 1)) }, ""},
		{"concat, other rank", func(o ops) tensor.Tensor { return o.Concat(1, f32(o, 4, 6), f32(o, 4)) }, ""},
		{"permute", func(o ops) tensor.Tensor { return o.Permute(f32(o, 2, 3, 5), 2, 0, 1) }, "F32[5, 2, 3]"},
		{"permute, dim twice", func(o ops) tensor.Tensor { return o.Permute(f32(o, 2, 3, 5), 2, 0, 2) }, ""},
		{"permute, too few", func(o ops) tensor.Tensor { return o.Permute(f32(o, 2, 3, 5), 1, 0) }, ""},
		{"permute, no such dim", func(o ops) tensor.Tensor { return o.Permute(f32(o, 2, 3), 2, 0) }, ""},
		{"permute, too many dims", func(o ops) tensor.Tensor {
			return o.Permute(f32(o, 1, 1, 1, 1, 1, 1, 1, 1, 1), 0, 1, 2, 3, 4, 5, 6, 7, 8)
		}, ""},

		{"mul", func(o ops) tensor.Tensor { return o.Mul(bf16(o, 2, 3), f32(o, 2, 3)) }, "BF16[2, 3]"},
		{"mul, other shape", func(o ops) tensor.Tensor { return o.Mul(f32(o, 2, 3), f32(o, 3)) }, ""},
		{"mul bytes", func(o ops) tensor.Tensor { return o.Mul(o.Empty(tensor.U8, 3), o.Empty(tensor.U8, 3)) }, ""},
		{"add", func(o ops) tensor.Tensor {
			return in(f32(o, 2, 3), func(x tensor.Tensor) { o.AddTo(x, bf16(o, 2, 3), f32(o, 3)) })
		}, "F32[2, 3]"},
		{"add, gate of other length", func(o ops) tensor.Tensor {
			return in(f32(o, 2, 3), func(x tensor.Tensor) { o.AddTo(x, f32(o, 2, 3), f32(o, 2)) })
		}, ""},
		{"add, gate not F32", func(o ops) tensor.Tensor {
			return in(bf16(o, 2, 3), func(x tensor.Tensor) { o.AddTo(x, bf16(o, 2, 3), bf16(o, 3)) })
		}, ""},
		{"add, other shape", func(o ops) tensor.Tensor {
			return in(f32(o, 2, 3), func(x tensor.Tensor) { o.AddTo(x, f32(o, 3, 2), none) })
		}, ""},
		{"affine", func(o ops) tensor.Tensor { return o.Affine(f32(o, 2, 3), f32(o, 1, 3), none, 1, tensor.BF16) }, "BF16[2, 3]"},
		{"affine, shift of other length", func(o ops) tensor.Tensor { return o.Affine(f32(o, 2, 3), none, f32(o, 4), 1, tensor.F32) }, ""},
		{"affine to bytes", func(o ops) tensor.Tensor { return o.Affine(f32(o, 2, 3), none, none, 1, tensor.U8) }, ""},
		{"activate", func(o ops) tensor.Tensor { return o.Activate(bf16(o, 5), tensor.SiLU) }, "BF16[5]"},
		{"activate bytes", func(o ops) tensor.Tensor { return o.Activate(o.Empty(tensor.U8, 5), tensor.SiLU) }, ""},
		{"clamp bytes", func(o ops) tensor.Tensor { return o.Clamp(o.Empty(tensor.U8, 5), 0, 1) }, ""},
		{"quantize", func(o ops) tensor.Tensor { return o.Quantize(f32(o, 2, 3), true) }, "U8[2, 3]"},
		{"quantize bytes", func(o ops) tensor.Tensor { return o.Quantize(o.Empty(tensor.U8, 2), true) }, ""},
		{"rms norm", func(o ops) tensor.Tensor { return o.RMSNorm(bf16(o, 2, 3), f32(o, 3), 1e-6, tensor.F32) }, "F32[2, 3]"},
		{"rms norm, no weight", func(o ops) tensor.Tensor { return o.RMSNorm(bf16(o, 2, 3), none, 1e-6, tensor.F32) }, ""},
		{"rms norm, weight of other length", func(o ops) tensor.Tensor { return o.RMSNorm(bf16(o, 2, 3), f32(o, 2), 1e-6, tensor.F32) }, ""},
		{"rms norm to integers", func(o ops) tensor.Tensor { return o.RMSNorm(f32(o, 2, 3), f32(o, 3), 1e-6, tensor.I32) }, ""},
		{"l2 norm", func(o ops) tensor.Tensor { return o.L2Norm(bf16(o, 2, 3), f32(o, 3)) }, "BF16[2, 3]"},
		{"l2 norm, weight not F32", func(o ops) tensor.Tensor { return o.L2Norm(bf16(o, 2, 3), bf16(o, 3)) }, ""},
		{"layer norm", func(o ops) tensor.Tensor { return o.LayerNorm(f32(o, 4, 2, 3), none, f32(o, 3), 1e-6, tensor.F16) }, "F16[4, 2, 3]"},
		{"layer norm, bias of other length", func(o ops) tensor.Tensor { return o.LayerNorm(f32(o, 2, 3), none, f32(o, 6), 1e-6, tensor.F16) }, ""},
		{"layer norm to nothing", func(o ops) tensor.Tensor { return o.LayerNorm(f32(o, 2, 3), none, none, 1e-6, tensor.Invalid) }, ""},

		{"rope", func(o ops) tensor.Tensor { return o.Rope(bf16(o, 7, 3, 8), f32(o, 7, 4), f32(o, 7, 4)) }, "BF16[7, 3, 8]"},
		{"rope, odd head dim", func(o ops) tensor.Tensor { return o.Rope(f32(o, 7, 3, 9), f32(o, 7, 4), f32(o, 7, 4)) }, ""},
		{"rope, angles of fewer tokens", func(o ops) tensor.Tensor { return o.Rope(f32(o, 7, 3, 8), f32(o, 6, 4), f32(o, 6, 4)) }, ""},
		{"rope, angles not F32", func(o ops) tensor.Tensor { return o.Rope(bf16(o, 7, 3, 8), bf16(o, 7, 4), bf16(o, 7, 4)) }, ""},
		{"rope, flat heads", func(o ops) tensor.Tensor { return o.Rope(f32(o, 7, 24), f32(o, 7, 12), f32(o, 7, 12)) }, ""},

		{"matmul", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 2, 3, 5), packed(o, tensor.MatrixWeight, 7, 5), f32(o, 7), tensor.SiLU, tensor.BF16)
		}, "BF16[2, 3, 7]"},
		{"matmul of a vector", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 5), f32(o, 7, 5), none, tensor.NoActivation, tensor.F32)
		}, "F32[7]"},
		{"matmul, other depth", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 3, 6), f32(o, 7, 5), none, tensor.NoActivation, tensor.F32)
		}, ""},
		{"matmul, weight of rank 3", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 3, 5), f32(o, 7, 5, 1), none, tensor.NoActivation, tensor.F32)
		}, ""},
		{"matmul, bias of other length", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 3, 5), f32(o, 7, 5), f32(o, 5), tensor.NoActivation, tensor.F32)
		}, ""},
		{"matmul, bias not F32", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 3, 5), f32(o, 7, 5), bf16(o, 7), tensor.NoActivation, tensor.F32)
		}, ""},
		{"matmul, packed x", func(o ops) tensor.Tensor {
			return o.MatMul(packed(o, tensor.MatrixWeight, 3, 5), f32(o, 7, 5), none, tensor.NoActivation, tensor.F32)
		}, ""},
		{"matmul to bytes", func(o ops) tensor.Tensor {
			return o.MatMul(f32(o, 3, 5), f32(o, 7, 5), none, tensor.NoActivation, tensor.U8)
		}, ""},

		{"attention", func(o ops) tensor.Tensor { return attend(o, bf16(o, 5, 2, 8), f32(o, 9, 2, 8), f32(o, 9, 2, 8), 9) }, "BF16[5, 2, 8]"},
		{"attention, other heads", func(o ops) tensor.Tensor { return attend(o, f32(o, 5, 2, 8), f32(o, 9, 3, 8), f32(o, 9, 3, 8), 9) }, ""},
		{"attention, other head dim", func(o ops) tensor.Tensor { return attend(o, f32(o, 5, 2, 8), f32(o, 9, 2, 4), f32(o, 9, 2, 4), 9) }, ""},
		{"attention, fewer values", func(o ops) tensor.Tensor { return attend(o, f32(o, 5, 2, 8), f32(o, 9, 2, 8), f32(o, 8, 2, 8), 8) }, ""},
		{"attention, no key", func(o ops) tensor.Tensor { return attend(o, f32(o, 5, 2, 8), f32(o, 9, 2, 8), f32(o, 9, 2, 8), 0) }, ""},
		{"attention, too many keys", func(o ops) tensor.Tensor { return attend(o, f32(o, 5, 2, 8), f32(o, 9, 2, 8), f32(o, 9, 2, 8), 10) }, ""},
		{"attention, flat heads", func(o ops) tensor.Tensor { return attend(o, f32(o, 5, 16), f32(o, 9, 16), f32(o, 9, 16), 9) }, ""},
		{"attention, bias", func(o ops) tensor.Tensor {
			q, k := f32(o, 5, 2, 8), f32(o, 9, 2, 8)
			return o.Attention(q, k, k, tensor.AttentionSpec{Scale: 1, KeyLen: 9, RelBias: f32(o, 2, 13), LSE: f32(o, 5, 2)})
		}, "F32[5, 2, 8]"},
		{"attention, bias too short", func(o ops) tensor.Tensor {
			q, k := f32(o, 5, 2, 8), f32(o, 9, 2, 8)
			return o.Attention(q, k, k, tensor.AttentionSpec{Scale: 1, KeyLen: 9, RelBias: f32(o, 2, 12)})
		}, ""},
		{"attention, lse transposed", func(o ops) tensor.Tensor {
			q, k := f32(o, 5, 2, 8), f32(o, 9, 2, 8)
			return o.Attention(q, k, k, tensor.AttentionSpec{Scale: 1, KeyLen: 9, LSE: f32(o, 2, 5)})
		}, ""},

		{"conv", func(o ops) tensor.Tensor {
			return o.Conv3D(bf16(o, 4, 6, 8, 3), none, packed(o, tensor.ConvWeight, 5, 3, 3, 3, 3), f32(o, 5), causal)
		}, "BF16[4, 6, 8, 5]"},
		{"conv, strides", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), f32(o, 1, 6, 8, 3), f32(o, 5, 3, 3, 3, 3), none, strided(3, 2, 7))
		}, "F32[2, 3, 2, 5]"},
		{"conv, kernel larger than the input", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), none, f32(o, 5, 7, 3, 3, 3), none, causal)
		}, ""},
		{"conv, kernel as large as the input", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), none, f32(o, 5, 6, 8, 10, 3), none, causal)
		}, "F32[1, 1, 1, 5]"},
		{"conv, other channels", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), none, f32(o, 5, 3, 3, 3, 4), none, causal)
		}, ""},
		{"conv, no time", func(o ops) tensor.Tensor { return o.Conv3D(f32(o, 6, 8, 3), none, f32(o, 5, 3, 3, 3, 3), none, causal) }, ""},
		{"conv, history of another size", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), f32(o, 2, 6, 7, 3), f32(o, 5, 3, 3, 3, 3), none, causal)
		}, ""},
		{"conv, history of another type", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), bf16(o, 2, 6, 8, 3), f32(o, 5, 3, 3, 3, 3), none, causal)
		}, ""},
		{"conv, stride 0", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), none, f32(o, 5, 3, 3, 3, 3), none, strided(1, 0, 1))
		}, ""},
		{"conv, negative padding", func(o ops) tensor.Tensor {
			spec := causal
			spec.PadTop, spec.PadBottom = -1, 3
			return o.Conv3D(f32(o, 4, 6, 8, 3), none, f32(o, 5, 3, 3, 3, 3), none, spec)
		}, ""},
		{"conv, bias of other length", func(o ops) tensor.Tensor {
			return o.Conv3D(f32(o, 4, 6, 8, 3), none, f32(o, 5, 3, 3, 3, 3), f32(o, 3), causal)
		}, ""},
		{"upsample", func(o ops) tensor.Tensor { return o.Upsample2x(f32(o, 2, 3, 5, 7)) }, "F32[2, 6, 10, 7]"},
		{"upsample, no time", func(o ops) tensor.Tensor { return o.Upsample2x(f32(o, 3, 5, 7)) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := plan(t)
			got := tc.run(o)
			switch {
			case tc.want == "" && !errors.Is(o.Err(), tensor.ErrShape):
				t.Errorf("got %v and error %v, want ErrShape", got, o.Err())
			case tc.want == "" && strings.Count(o.Err().Error(), "\n") > 0:
				t.Errorf("the error has several lines: %v", o.Err())
			case tc.want != "" && (o.Err() != nil || got.String() != tc.want):
				t.Errorf("got %v and error %v, want %s", got, o.Err(), tc.want)
			}
		})
	}
}

// TestNoneArguments sees that a missing tensor is refused by name of the op.
func TestNoneArguments(t *testing.T) {
	for name, run := range map[string]func(o tensor.Ops, x tensor.Tensor){
		"mul":        func(o tensor.Ops, x tensor.Tensor) { o.Mul(x, none) },
		"add":        func(o tensor.Ops, x tensor.Tensor) { o.AddTo(x, none, none) },
		"affine":     func(o tensor.Ops, _ tensor.Tensor) { o.Affine(none, none, none, 1, tensor.F32) },
		"matmul":     func(o tensor.Ops, x tensor.Tensor) { o.MatMul(x, none, none, tensor.SiLU, tensor.F32) },
		"attention":  func(o tensor.Ops, x tensor.Tensor) { o.Attention(x, x, none, tensor.AttentionSpec{KeyLen: 1}) },
		"conv3d":     func(o tensor.Ops, x tensor.Tensor) { o.Conv3D(x, none, none, none, causal) },
		"layer norm": func(o tensor.Ops, _ tensor.Tensor) { o.LayerNorm(none, none, none, 1, tensor.F32) },
		"concat":     func(o tensor.Ops, x tensor.Tensor) { o.Concat(0, x, none) },
		"read":       func(o tensor.Ops, _ tensor.Tensor) { o.Floats(none) },
	} {
		o := plan(t)
		run(o, f32(o, 2, 2))
		if err := o.Err(); !errors.Is(err, tensor.ErrShape) || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%s of none: error %v, want ErrShape that begins with the op", name, err)
		}
	}
}
