package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// testAlias runs every op whose dst may be its input both ways: the same bits.
func testAlias(s *suite) {
	s.types("in_place", func(e *env, d tensor.DType) {
		const rows, n = 33, 96
		b := s.backend
		g, _ := e.random(tensor.F32, 1, n)
		c, _ := e.random(tensor.F32, 1, rows, 8)
		y, _ := e.random(d, 1, rows, n)
		none := tensor.Tensor{}
		for name, op := range map[string]func(dst, x tensor.Tensor) error{
			"mul":        func(dst, x tensor.Tensor) error { return b.Mul(dst, x, y) },
			"mul right":  func(dst, x tensor.Tensor) error { return b.Mul(dst, y, x) },
			"affine":     func(dst, x tensor.Tensor) error { return b.Affine(dst, x, g, g, 1) },
			"activate":   func(dst, x tensor.Tensor) error { return b.Activate(dst, x, tensor.SiLU) },
			"clamp":      func(dst, x tensor.Tensor) error { return b.Clamp(dst, x, -0.5, 0.5) },
			"rms norm":   func(dst, x tensor.Tensor) error { return b.RMSNorm(dst, x, g, 1e-6) },
			"l2 norm":    func(dst, x tensor.Tensor) error { return b.L2Norm(dst, x, g) },
			"layer norm": func(dst, x tensor.Tensor) error { return b.LayerNorm(dst, x, none, none, 1e-6) },
			"rope": func(dst, x tensor.Tensor) error {
				return b.Rope(e.Reshape(dst, rows, 6, 16), e.Reshape(x, rows, 6, 16), c, c)
			},
		} {
			x, _ := e.random(d, 1, rows, n)
			dst := e.Empty(d, rows, n)
			if err := op(dst, x); err != nil {
				e.Fatalf("%s: %v", name, err)
			}
			want := e.Bytes(dst)
			if err := op(x, x); err != nil {
				e.Fatalf("%s in place: %v", name, err)
			}
			requireEqualBits(e.T, name+" in place", e.Bytes(x), want)
		}
	})
}

// program runs every op once or more and returns the bytes of all results.
// It reads no values, so that it runs the same on any backend.
func program(o tensor.Ops, d tensor.DType) (results [][]byte) {
	values := func(seed, n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			seed = seed*1103515245 + 12345
			out[i] = float32(seed>>16&0x7fff)/16384 - 1
		}
		return out
	}
	fresh := func(seed int, dims ...int) tensor.Tensor {
		n, _ := tensor.Shape(dims).NumElements()
		return o.Cast(o.FromFloats(values(seed, int(n)), dims...), d)
	}
	vector := func(seed, n int) tensor.Tensor { return o.FromFloats(values(seed, n), n) }
	weight := func(kind tensor.WeightKind, seed int, dims ...int) tensor.Tensor {
		w := o.Using(tensor.Weights).EmptyWeight(kind, d, dims...)
		if o.Err() == nil {
			n, _ := tensor.Shape(dims).NumElements()
			wide := make([]float64, n)
			for i, v := range values(seed, int(n)) {
				wide[i] = float64(v)
			}
			o.Fail(o.Backend().WriteWeight(w, kind, encode(d, wide)))
		}
		return w
	}
	keep := func(xs ...tensor.Tensor) {
		for _, x := range xs {
			results = append(results, o.Bytes(x))
		}
	}
	o.Scope(func() {
		x := fresh(1, 150, 64)
		w, bias := weight(tensor.MatrixWeight, 2, 192, 64), vector(3, 192)
		y := o.MatMul(x, w, bias, tensor.GELUTanh, d)
		o.Scope(func() {
			keep(o.RMSNorm(y, bias, 1e-6, d), o.LayerNorm(y, bias, bias, 1e-6, tensor.F32), o.L2Norm(y, bias))
		})
		q := o.Reshape(y, 150, 12, 16)
		angles := o.FromFloats(values(4, 150*8), 150, 8)
		o.Rope(q, angles, angles)
		lse := o.Empty(tensor.F32, 150, 12)
		rel := o.FromFloats(values(5, 12*299), 12, 299)
		a := o.Attention(q, q, q, tensor.AttentionSpec{Scale: 0.25, KeyLen: 149, RelBias: rel, LSE: lse})
		keep(a, lse)
		o.AddTo(y, o.Reshape(a, 150, 192), bias)
		keep(o.Affine(y, bias, bias, 1, tensor.F32), o.Permute(q, 1, 0, 2), o.Narrow(y, 1, 5, 100))
		keep(o.Mul(o.Clone(y, d), y), o.Activate(o.Clone(y, d), tensor.SiLU))
	})
	o.Scope(func() {
		x, past := fresh(6, 3, 10, 14, 24), fresh(7, 2, 10, 14, 24)
		w, bias := weight(tensor.ConvWeight, 8, 40, 3, 3, 3, 24), vector(9, 40)
		y := o.Conv3D(x, past, w, bias, same)
		keep(y, o.Upsample2x(y), o.Quantize(o.Clamp(o.Clone(y, d), -1, 1), true))
		o.Fill(y, 0.5)
		keep(o.Concat(3, x, x), y)
	})
	return results
}

func testThreads(s *suite) {
	if s.opts.WithThreads == nil {
		s.Skip("the backend has no number of threads to choose")
	}
	for _, d := range s.opts.Types {
		s.Run(fmt.Sprint(d), func(t *testing.T) {
			var want [][]byte
			for _, threads := range []int{1, 2, 3, 7} {
				b := s.opts.WithThreads(threads)
				e := newEnv(t, b, newSpace(t, b))
				got := program(e.Ops, d)
				if err := e.Err(); err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				}
				for i := range want {
					requireEqualBits(t, fmt.Sprintf("result %d on %d threads against 1", i, threads), got[i], want[i])
				}
			}
		})
	}
}

// testPeak plans the program on meta and runs it in exactly that much memory.
func testPeak(s *suite) {
	for _, d := range s.opts.Types {
		s.Run(fmt.Sprint(d), func(t *testing.T) {
			plan := tensor.NewOps(context.Background(), meta.New(s.backend), tensor.Unlimited())
			program(plan, d)
			if err := plan.Err(); err != nil {
				t.Fatal(err)
			}
			predicted := plan.Space().Peaks()
			if predicted[tensor.Activations] == 0 || predicted[tensor.Weights] == 0 {
				t.Fatalf("nothing was planned: %v", predicted)
			}
			space, err := tensor.Reserve(s.backend, predicted)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := space.Close(); err != nil {
					t.Error(err)
				}
			}()
			o := tensor.NewOps(context.Background(), s.backend, space)
			program(o, d)
			if err := o.Err(); err != nil {
				t.Fatalf("in the predicted %v bytes: %v", predicted, err)
			}
			if used := space.Peaks(); used != predicted {
				t.Errorf("used %v bytes, predicted %v", used, predicted)
			}
		})
	}
}

// testIsolation looks at all memory before and after: an op writes its result
// and nothing else.
func testIsolation(s *suite) {
	s.types("bytes_outside", func(e *env, d tensor.DType) {
		const rows, n = 37, 51
		x, _ := e.random(d, 1, rows, n)
		g, _ := e.random(tensor.F32, 1, n)
		w, _ := e.weight(tensor.MatrixWeight, d, 29, n)
		cw, _ := e.weight(tensor.ConvWeight, d, 13, 3, 3, 3, 17)
		video := e.Reshape(x, 1, rows, 3, 17)
		heads := e.Reshape(x, rows, 3, 17)
		none := tensor.Tensor{}
		whole := tensor.New(e.Space()[tensor.Activations].Memory(), 0, tensor.U8, tensor.Shape{arenaBytes})
		for name, op := range map[string]func() tensor.Tensor{
			"clone":    func() tensor.Tensor { return e.Clone(x, tensor.F32) },
			"affine":   func() tensor.Tensor { return e.Affine(x, g, g, 1, d) },
			"rms norm": func() tensor.Tensor { return e.RMSNorm(x, g, 1e-6, d) },
			"matmul":   func() tensor.Tensor { return e.MatMul(x, w, none, tensor.SiLU, d) },
			"attention": func() tensor.Tensor {
				return e.Attention(heads, heads, heads, tensor.AttentionSpec{Scale: 1, KeyLen: 36})
			},
			"conv":     func() tensor.Tensor { return e.Conv3D(video, none, cw, none, same) },
			"upsample": func() tensor.Tensor { return e.Upsample2x(video) },
			"quantize": func() tensor.Tensor { return e.Quantize(x, true) },
			"permute":  func() tensor.Tensor { return e.Permute(heads, 2, 0, 1) },
			"narrow":   func() tensor.Tensor { return e.Narrow(x, 1, 3, 5) },
		} {
			before := make([]byte, arenaBytes)
			after := make([]byte, arenaBytes)
			if err := s.backend.Read(before, whole); err != nil {
				e.Fatal(err)
			}
			y := op()
			if err := errors.Join(e.Err(), s.backend.Read(after, whole)); err != nil {
				e.Fatalf("%s: %v", name, err)
			}
			copy(after[y.Offset():], before[y.Offset():y.Offset()+y.Bytes()])
			if !bytes.Equal(before, after) {
				e.Errorf("%s wrote outside its result %v", name, y)
			}
		}
	})
}

// testNaN puts a NaN into one row: it must come out there, and nowhere else.
func testNaN(s *suite) {
	s.types("rows", func(e *env, d tensor.DType) {
		const rows, n, bad = 13, 40, 7
		x, _ := e.random(d, 1, rows, n)
		e.Fill(x.Slice(bad, 1), float32(math.NaN()))
		g, _ := e.random(tensor.F32, 1, n)
		w, _ := e.weight(tensor.MatrixWeight, d, 24, n)
		keys, _ := e.random(d, 1, 20, 1, n)
		none := tensor.Tensor{}
		for name, y := range map[string]tensor.Tensor{
			"matmul":     e.MatMul(x, w, none, tensor.GELUTanh, d),
			"rms norm":   e.RMSNorm(x, g, 1e-6, d),
			"l2 norm":    e.L2Norm(x, g),
			"layer norm": e.LayerNorm(x, none, none, 1e-6, d),
			"clamp":      e.Clamp(e.Clone(x, d), -1, 1),
			"activation": e.Activate(e.Clone(x, d), tensor.GELUErf),
			"attention":  e.Attention(e.Reshape(x, rows, 1, n), keys, keys, tensor.AttentionSpec{Scale: 1, KeyLen: 20}),
		} {
			values := e.Floats(y)
			if e.Err() != nil {
				return
			}
			width := len(values) / rows
			for i, v := range values {
				if math.IsNaN(float64(v)) != (i/width == bad) {
					e.Errorf("%s: element %d of row %d is %v; row %d alone had NaN", name, i%width, i/width, v, bad)
					break
				}
			}
		}
	})
}

func testCancel(s *suite) {
	reason := errors.New("stopped by the test")
	ctx, cancel := context.WithCancelCause(context.Background())
	space, err := tensor.Reserve(s.backend, [tensor.NumPurposes]int64{tensor.Activations: 1 << 16})
	if err != nil {
		s.Fatal(err)
	}
	defer func() {
		if err := space.Close(); err != nil {
			s.Error(err)
		}
	}()
	o := tensor.NewOps(ctx, s.backend, space)
	x := o.FromFloats([]float32{1, 2, 3}, 3)
	o.Activate(x, tensor.SiLU)
	if o.Err() != nil {
		s.Fatal(o.Err())
	}
	before := o.Bytes(x)
	cancel(reason)
	o.Activate(x, tensor.SiLU)
	if !errors.Is(o.Err(), reason) {
		s.Errorf("after the cancel the error is %v, want %v", o.Err(), reason)
	}
	after := make([]byte, len(before))
	if err := s.backend.Read(after, x); err != nil || !bytes.Equal(before, after) {
		s.Errorf("an op ran after the cancel (error %v)", err)
	}
}

func testExhausted(s *suite) {
	space, err := tensor.Reserve(s.backend, [tensor.NumPurposes]int64{tensor.Activations: 1024})
	if err != nil {
		s.Fatal(err)
	}
	defer func() {
		if err := space.Close(); err != nil {
			s.Error(err)
		}
	}()
	o := tensor.NewOps(context.Background(), s.backend, space)
	x := o.FromFloats(make([]float32, 64), 64)
	w := o.Empty(tensor.F32, 160, 1)
	if o.Err() != nil {
		s.Fatal(o.Err())
	}
	o.Fill(w, 1)
	if y := o.Concat(0, x, x); !errors.Is(o.Err(), tensor.ErrArena) || !y.IsNone() {
		s.Errorf("%v with error %v, want none with ErrArena", y, o.Err())
	}
	o.Fill(w, 2)
	got := make([]byte, w.Bytes())
	if err := s.backend.Read(got, w); err != nil || !bytes.Equal(got[:4], encode(tensor.F32, []float64{1})) {
		s.Errorf("an op ran after the error (error %v)", err)
	}
}
