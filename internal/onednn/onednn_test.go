package onednn

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

func open(t *testing.T) *Engine {
	e, err := New()
	if errors.Is(err, ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestNotBuilt(t *testing.T) {
	e, err := New()
	if err == nil {
		t.Logf("built with oneDNN: %s, wide %v, bf16 %v", e.ISA(), e.Wide(), e.BF16())
		if e.ISA() == "" {
			t.Error("the instruction set has no name")
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if e != nil || !errors.Is(err, ErrNotBuilt) {
		t.Errorf("New() = %v, %v; want ErrNotBuilt", e, err)
	}
}

func random(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// check compares a result with a sum of products in float64 and its size.
func check(t *testing.T, at int, got float32, want, size float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= 20*0x1p-24*size) {
		t.Fatalf("element %d: got %v, want %v", at, got, want)
	}
}

func TestMatMul(t *testing.T) {
	e := open(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][3]int{{1, 1, 1}, {3, 40, 17}, {48, 16, 64}, {61, 130, 33}} {
		m, n, k := s[0], s[1], s[2]
		layout, err := e.MatMulLayout(n, k, F32)
		if err != nil {
			t.Fatal(err)
		}
		x, w, bias, before := random(rng, m*k), random(rng, n*k), random(rng, n), random(rng, m*n)
		packed := make([]byte, layout.Bytes())
		if err := e.Pack(layout, packed, bytesOf(w)); err != nil {
			t.Fatal(err)
		}
		for _, spec := range []MatMul{{M: m, N: n, K: k}, {M: m, N: n, K: k, Bias: true}, {M: m, N: n, K: k, Accumulate: true}} {
			p, err := e.MatMul(spec, layout)
			if err != nil {
				t.Fatal(err)
			}
			y := append([]float32(nil), before...)
			if err := p.Execute(bytesOf(x), packed, bias, bytesOf(y), make([]byte, p.ScratchBytes())); err != nil {
				t.Fatal(err)
			}
			for i := range y {
				want := 0.0
				if spec.Bias {
					want += float64(bias[i%n])
				}
				if spec.Accumulate {
					want += float64(before[i])
				}
				size := math.Abs(want)
				for j := range k {
					v := float64(x[i/n*k+j]) * float64(w[i%n*k+j])
					want += v
					size += math.Abs(v)
				}
				check(t, i, y[i], want, size)
			}
			p.Close()
		}
	}
}

func TestConv(t *testing.T) {
	e := open(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range []Conv{
		{Height: 5, Width: 7, In: 8, Out: 16, KernelH: 3, KernelW: 3, StrideH: 1, StrideW: 1, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1},
		{Height: 5, Width: 7, In: 3, Out: 5, KernelH: 3, KernelW: 3, StrideH: 2, StrideW: 2, PadBottom: 1, PadRight: 1, Bias: true},
		{Height: 4, Width: 4, In: 20, Out: 12, KernelH: 1, KernelW: 1, StrideH: 1, StrideW: 1, Accumulate: true},
	} {
		layout, err := e.ConvLayout(c)
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Conv(c, layout)
		if err != nil {
			t.Fatal(err)
		}
		if p.Info() == "" {
			t.Error("the implementation has no name")
		}
		// The weight is the second of three that lie together for each output.
		depth := c.KernelH * c.KernelW * c.In
		height := (c.Height+c.PadTop+c.PadBottom-c.KernelH)/c.StrideH + 1
		width := (c.Width+c.PadLeft+c.PadRight-c.KernelW)/c.StrideW + 1
		x, w, bias, before := random(rng, c.Height*c.Width*c.In), random(rng, 3*c.Out*depth), random(rng, c.Out), random(rng, height*width*c.Out)
		packed := make([]byte, layout.Bytes())
		if err := e.PackStrided(layout, packed, bytesOf(w[depth:]), 3*depth); err != nil {
			t.Fatal(err)
		}
		y := append([]float32(nil), before...)
		if err := p.Execute(bytesOf(x), packed, bias, bytesOf(y), make([]byte, p.ScratchBytes())); err != nil {
			t.Fatal(err)
		}
		for i := range y {
			o, px := i%c.Out, i/c.Out
			want := 0.0
			if c.Bias {
				want += float64(bias[o])
			}
			if c.Accumulate {
				want += float64(before[i])
			}
			size := math.Abs(want)
			for j := range depth {
				ky, kx, in := j/c.In/c.KernelW, j/c.In%c.KernelW, j%c.In
				row, col := px/width*c.StrideH+ky-c.PadTop, px%width*c.StrideW+kx-c.PadLeft
				if row < 0 || row >= c.Height || col < 0 || col >= c.Width {
					continue
				}
				v := float64(x[(row*c.Width+col)*c.In+in]) * float64(w[(o*3+1)*depth+j])
				want += v
				size += math.Abs(v)
			}
			check(t, i, y[i], want, size)
		}
		p.Close()
	}
}

// TestRefused sees a status of the library become an error that names the call.
func TestRefused(t *testing.T) {
	e := open(t)
	if _, err := e.MatMul(MatMul{M: -1, N: 2, K: 3}, nil); err == nil {
		t.Error("a product of -1 rows was prepared")
	}
	if _, err := e.Conv(Conv{Height: 2, Width: 2, In: 1, Out: 1, KernelH: 5, KernelW: 5, StrideH: 1, StrideW: 1}, nil); err == nil {
		t.Error("a convolution with a kernel larger than the picture was prepared")
	}
}
