package backendtest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

func testMemory(s *suite) {
	for _, size := range []int64{0, 1, 4096, 1 << 20} {
		m, err := s.backend.Reserve(size, tensor.Activations)
		if err != nil {
			s.Fatalf("reserve %d: %v", size, err)
		}
		if m.Bytes() != size {
			s.Errorf("reserved %d bytes, want %d", m.Bytes(), size)
		}
		if err := m.Release(); err != nil {
			s.Errorf("release %d: %v", size, err)
		}
	}
	for _, size := range []int64{-1, 1 << 55, math.MaxInt64} {
		if m, err := s.backend.Reserve(size, tensor.Weights); !errors.Is(err, tensor.ErrNoMemory) {
			s.Errorf("reserve %d gave %v and error %v, want ErrNoMemory", size, m, err)
		}
	}
	s.run("lengths", func(e *env) {
		x := e.Empty(tensor.F32, 3)
		if err := s.backend.Write(x, make([]byte, 8)); !errors.Is(err, tensor.ErrShape) {
			e.Errorf("write of 8 bytes to %v: %v, want ErrShape", x, err)
		}
		if err := s.backend.Read(make([]byte, 16), x); !errors.Is(err, tensor.ErrShape) {
			e.Errorf("read of %v to 16 bytes: %v, want ErrShape", x, err)
		}
		w := e.EmptyWeight(tensor.MatrixWeight, tensor.BF16, 5, 3)
		if err := s.backend.WriteWeight(w, tensor.MatrixWeight, make([]byte, 28)); !errors.Is(err, tensor.ErrShape) {
			e.Errorf("write of 28 bytes to weight %v: %v, want ErrShape", w, err)
		}
	})
}

func testCopy(s *suite) {
	for _, from := range s.opts.Types {
		for _, to := range s.opts.Types {
			s.run(fmt.Sprintf("%v_to_%v", from, to), func(e *env) {
				x, values := e.random(from, 3, 4, 7, 1001)
				values[0], values[1], values[2], values[3] = math.Inf(1), math.Inf(-1), math.NaN(), 1e-6
				values[4], values[5] = 1e6, math.Copysign(0, -1)
				if err := s.backend.Write(x, encode(from, values)); err != nil {
					e.Fatal(err)
				}
				want := append([]float64(nil), values...)
				encode(to, want)
				e.check("clone", e.Clone(x, to), exact(want), 0)
				// A view that begins inside, so that vector loads are not aligned.
				part := e.Clone(x.Slice(3, 1), to)
				e.check("clone of a view", part, exact(want[3*7*1001:]), 0)
				wide := e.zeros(to, 4, 7, 1001)
				e.CopyTo(wide.Slice(1, 2), x.Slice(1, 2))
				mixed := make([]float64, len(want))
				copy(mixed[7*1001:3*7*1001], want[7*1001:])
				e.check("copy into a view", wide, exact(mixed), 0)
			})
		}
	}
}

// zeros returns a tensor of zeros.
func (e *env) zeros(d tensor.DType, dims ...int) tensor.Tensor {
	x := e.Empty(d, dims...)
	e.Fill(x, 0)
	return x
}

func testRows(s *suite) {
	s.types("narrow_place_concat", func(e *env, d tensor.DType) {
		x, values := e.random(d, 1, 3, 5, 7)
		at := func(i, j, k int) float64 { return values[(i*5+j)*7+k] }
		pick := func(n0, n1, n2, s0, s1, s2 int) (out []float64) {
			for i := range n0 {
				for j := range n1 {
					for k := range n2 {
						out = append(out, at(i+s0, j+s1, k+s2))
					}
				}
			}
			return out
		}
		e.check("narrow dim 0", e.Narrow(x, 0, 1, 2), exact(pick(2, 5, 7, 1, 0, 0)), 0)
		e.check("narrow dim 1", e.Narrow(x, 1, 2, 3), exact(pick(3, 3, 7, 0, 2, 0)), 0)
		e.check("narrow dim 2", e.Narrow(x, 2, 3, 1), exact(pick(3, 5, 1, 0, 0, 3)), 0)
		for dim, size := range []int{3, 5, 7} {
			left, right := e.Narrow(x, dim, 0, 1), e.Narrow(x, dim, 1, size-1)
			e.check(fmt.Sprint("concat dim ", dim), e.Concat(dim, left, right), exact(values), 0)
		}
	})
	s.run("bytes", func(e *env) { // one long row, odd offsets
		src := make([]byte, 300001)
		for i := range src {
			src[i] = byte(i * 7)
		}
		x := e.FromHost(tensor.U8, src, len(src))
		y := e.Empty(tensor.U8, len(src)+2)
		if err := s.backend.CopyRows(y, x, 1, int64(len(src)), 1, 0, 0, 0); err != nil {
			e.Fatal(err)
		}
		if got := e.Bytes(y); !bytes.Equal(got[1:len(src)+1], src) || got[0] != 0xff || got[len(src)+1] != 0xff {
			e.Error("one row of bytes was not copied as it is, or something beside it was")
		}
	})
}

func testPermute(s *suite) {
	for _, tc := range []struct {
		shape tensor.Shape
		perm  []int
	}{
		{tensor.Shape{5}, []int{0}},
		{tensor.Shape{37, 53}, []int{1, 0}},
		{tensor.Shape{3, 4, 5}, []int{2, 0, 1}},
		{tensor.Shape{3, 16, 9, 11}, []int{0, 2, 3, 1}},
		{tensor.Shape{2, 3, 4, 1, 2, 2, 5}, []int{6, 0, 3, 1, 4, 2, 5}}, // unpatchify
		{tensor.Shape{2, 3, 4, 5, 6}, []int{1, 0, 2, 3, 4}},
		{tensor.Shape{1, 2, 1, 2, 1, 2, 1, 3}, []int{7, 6, 5, 4, 3, 2, 1, 0}},
	} {
		s.types(fmt.Sprint(tc.shape, tc.perm), func(e *env, d tensor.DType) {
			x, values := e.random(d, 1, tc.shape...)
			y := e.Permute(x, tc.perm...)
			want := make([]float64, len(values))
			for i := range want {
				from := make([]int, len(tc.perm))
				for j, c := range index(y.Shape(), i) {
					from[tc.perm[j]] = c
				}
				at := 0
				for j, c := range from {
					at = at*tc.shape[j] + c
				}
				want[i] = values[at]
			}
			e.check("permute", y, exact(want), 0)
		})
	}
	s.run("bytes", func(e *env) {
		x := e.FromHost(tensor.U8, []byte{1, 2, 3, 4, 5, 6}, 2, 3)
		if got := e.Bytes(e.Permute(x, 1, 0)); !bytes.Equal(got, []byte{1, 4, 2, 5, 3, 6}) {
			e.Errorf("transposed bytes are %v", got)
		}
	})
}

func testFill(s *suite) {
	s.types("fill", func(e *env, d tensor.DType) {
		x, values := e.random(d, 1, 3, 70001)
		e.Fill(x.Slice(1, 1), 0.1)
		want := []float64{0.1}
		encode(d, want)
		for i := range values[70001:140002] {
			values[70001+i] = want[0]
		}
		e.check("fill of a view", x, exact(values), 0)
	})
}

func testUpsample(s *suite) {
	s.types("upsample", func(e *env, d tensor.DType) {
		x, values := e.random(d, 1, 2, 3, 5, 7)
		y := e.Upsample2x(x)
		want := make([]float64, 4*len(values))
		for i := range want {
			c := index(y.Shape(), i)
			want[i] = values[((c[0]*3+c[1]/2)*5+c[2]/2)*7+c[3]]
		}
		e.check("upsample", y, exact(want), 0)
	})
}

// requireEqualBits fails unless both hold the same bytes.
func requireEqualBits(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d bytes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: byte %d of %d is %#x, want %#x", what, i, len(got), got[i], want[i])
		}
	}
}
