package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// suite is one group's backend, with arenas that its cases use in turn.
type suite struct {
	*testing.T
	backend tensor.Backend
	space   *tensor.Space
	opts    Options
}

// arenaBytes is the reservation for a case.
const arenaBytes = 5 << 19

// env is one case: empty arenas whose memory is full of NaN, so that an element
// that an op forgets is seen, and numbers of its own.
type env struct {
	*testing.T
	tensor.Ops
	rng *rand.Rand
}

// run runs fn as a subtest with its own env.
func (s *suite) run(name string, fn func(e *env)) {
	s.Helper()
	if s.space == nil {
		s.space = newSpace(s.T, s.backend)
	}
	s.Run(name, func(t *testing.T) {
		t.Helper()
		e := newEnv(t, s.backend, s.space)
		defer s.clean(t)
		fn(e)
		if err := e.Err(); err != nil {
			t.Fatal(err)
		}
	})
}

// clean empties and poisons the arenas for the next case.
func (s *suite) clean(t *testing.T) {
	for _, p := range []tensor.Purpose{tensor.Activations, tensor.Weights} {
		s.space[p].Release(0)
		if s.space[p].Peak() > 0 {
			poison(t, s.backend, s.space[p])
		}
	}
	s.space.ResetPeaks()
}

// newSpace reserves poisoned arenas until the end of the test.
func newSpace(t *testing.T, b tensor.Backend) *tensor.Space {
	t.Helper()
	var sizes [tensor.NumPurposes]int64
	sizes[tensor.Activations], sizes[tensor.Weights] = arenaBytes, arenaBytes
	space, err := tensor.Reserve(b, sizes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	poison(t, b, space[tensor.Activations])
	poison(t, b, space[tensor.Weights])
	return space
}

// poison fills with NaN what was used of an arena, or all of one that never was.
func poison(t *testing.T, b tensor.Backend, a *tensor.Arena) {
	t.Helper()
	n := a.Peak()
	if n == 0 {
		n = a.Capacity()
	}
	whole := tensor.New(a.Memory(), 0, tensor.U8, tensor.Shape{int(n)})
	if err := b.Write(whole, bytes.Repeat([]byte{0xff}, int(n))); err != nil { // a NaN in every float type
		t.Fatal(err)
	}
}

func newEnv(t *testing.T, b tensor.Backend, space *tensor.Space) *env {
	t.Helper()
	return &env{t, tensor.NewOps(context.Background(), b, space), rand.New(rand.NewPCG(1, 2))}
}

// random returns a tensor of normal numbers times scale and what it holds after
// rounding to d.
func (e *env) random(d tensor.DType, scale float64, dims ...int) (tensor.Tensor, []float64) {
	e.Helper()
	n, _ := tensor.Shape(dims).NumElements()
	values := make([]float64, n)
	for i := range values {
		values[i] = e.rng.NormFloat64() * scale
	}
	return e.tensor(d, values, dims...), values
}

// tensor returns a tensor of the values, which it rounds to d in place.
func (e *env) tensor(d tensor.DType, values []float64, dims ...int) tensor.Tensor {
	e.Helper()
	return e.FromHost(d, encode(d, values), dims...)
}

// weight returns a random weight [N, ..] in the backend's layout, scaled so that
// products with normal numbers are of order 1.
func (e *env) weight(kind tensor.WeightKind, d tensor.DType, dims ...int) (tensor.Tensor, []float64) {
	e.Helper()
	n, _ := tensor.Shape(dims).NumElements()
	values := make([]float64, n)
	for i := range values {
		values[i] = e.rng.NormFloat64() / math.Sqrt(float64(n)/float64(dims[0]))
	}
	w := e.Using(tensor.Weights).EmptyWeight(kind, d, dims...)
	if err := e.Err(); err != nil {
		e.Fatal(err)
	}
	if err := e.Backend().WriteWeight(w, kind, encode(d, values)); err != nil {
		e.Fatal(err)
	}
	return w, values
}

// encode rounds values to d, in place too, and returns their bytes.
func encode(d tensor.DType, values []float64) []byte {
	out := make([]byte, 0, len(values)*int(d.Size()))
	for i, v := range values {
		f := float32(v)
		switch d {
		case tensor.F32:
			bits := math.Float32bits(f)
			out = append(out, byte(bits), byte(bits>>8), byte(bits>>16), byte(bits>>24))
		case tensor.BF16:
			h := tensor.F32ToBF16(f)
			f = tensor.BF16ToF32(h)
			out = append(out, byte(h), byte(h>>8))
		case tensor.F16:
			h := tensor.F32ToF16(f)
			f = tensor.F16ToF32(h)
			out = append(out, byte(h), byte(h>>8))
		default:
			panic(fmt.Sprintf("encode %v", d))
		}
		values[i] = float64(f)
	}
	return out
}

// roundoff is the greatest relative error of rounding to d: half a unit in the
// last place. A result may always be off by its own rounding.
func roundoff(d tensor.DType) float64 {
	switch d {
	case tensor.BF16:
		return 0x1p-8
	case tensor.F16:
		return 0x1p-11
	}
	return 0x1p-24
}

// subnormal is the smallest positive number of d.
func subnormal(d tensor.DType) float64 {
	switch d {
	case tensor.BF16:
		return 0x1p-133
	case tensor.F16:
		return 0x1p-24
	}
	return 0x1p-149
}

// u is the rounding error of one F32 operation.
const u = 0x1p-24

// result is what the oracle says: values, and for each how large the numbers
// were that its F32 arithmetic handled, in which its errors are counted.
type result struct {
	values, sizes []float64
}

func newResult(n int) result { return result{make([]float64, n), make([]float64, n)} }

// exact returns a result without arithmetic.
func exact(values []float64) result { return result{values, make([]float64, len(values))} }

// check compares got, F32 or narrower, with want. An element may be off by its
// own rounding to got's type plus ulps F32 rounding errors of its size.
func (e *env) check(what string, got tensor.Tensor, want result, ulps float64) {
	e.Helper()
	values := e.Floats(got)
	if err := e.Err(); err != nil {
		e.Fatalf("%s: %v", what, err)
	}
	compare(e.T, what, got.Shape(), got.DType(), values, want, ulps)
}

func compare(t *testing.T, what string, shape tensor.Shape, d tensor.DType, got []float32, want result, ulps float64) {
	t.Helper()
	if len(got) != len(want.values) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want.values))
	}
	worst, at, bad := 0.0, -1, 0
	for i, g := range got {
		w := want.values[i]
		if math.IsNaN(w) && g != g || float64(g) == w {
			continue
		}
		allowed := roundoff(d)*math.Abs(w)*1.001 + ulps*u*want.sizes[i]
		allowed += subnormal(d) / 2
		ratio := math.Abs(float64(g)-w) / allowed
		if !(ratio <= 1) { // a NaN is bad
			bad++
		}
		if at < 0 || !(ratio <= worst) {
			worst, at = ratio, i
			if math.IsNaN(ratio) {
				worst = math.Inf(1)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%s %v%v: %d of %d elements wrong; worst at %v: got %v, want %v, %.3g times the allowed error",
			what, d, shape, bad, len(got), index(shape, at), got[at], want.values[at], worst)
	}
}

// index returns the coordinates of element at.
func index(shape tensor.Shape, at int) []int {
	out := make([]int, len(shape))
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = at % shape[i]
		at /= shape[i]
	}
	return out
}

// types runs fn once a storage type.
func (s *suite) types(name string, fn func(e *env, d tensor.DType)) {
	s.Helper()
	for _, d := range s.opts.Types {
		s.run(fmt.Sprintf("%s/%v", name, d), func(e *env) { fn(e, d) })
	}
}
