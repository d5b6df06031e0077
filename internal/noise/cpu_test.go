package noise

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
)

// reference is testdata/rng.json: which draws were made, and figures of those
// that are too large to keep.
type reference struct {
	CPU []struct {
		Key    string
		Seed   string
		Shape  []int
		Sum    float64   `json:"sum_f64"`
		SumSq  float64   `json:"sum_sq_f64"`
		First8 []float32 `json:"first8"`
		Last8  []float32 `json:"last8"`
		Sparse []float32 `json:"every_100000th"`
	}
	CUDA struct {
		Cases []struct {
			Key           string
			Seed          string
			N             int
			OffsetAdvance uint64 `json:"offset_advance"`
		}
		Large []struct {
			Device        string
			SMs           int
			ThreadsPerSM  int `json:"threads_per_sm"`
			N             int
			Seed          string
			OffsetAdvance uint64    `json:"offset_advance"`
			Sum           float64   `json:"sum_f64"`
			Sparse        []float32 `json:"every_100000th"`
			Last4         []float32
		} `json:"device_dependent_large"`
	}
}

func loadReference(t *testing.T) reference {
	t.Helper()
	data, err := os.ReadFile("testdata/rng.json")
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.CPU) < 60 || len(r.CUDA.Cases) < 10 || len(r.CUDA.Large) < 3 {
		t.Fatalf("testdata/rng.json lists %d, %d and %d cases; some are lost", len(r.CPU), len(r.CUDA.Cases), len(r.CUDA.Large))
	}
	return r
}

func seedOf(t *testing.T, s string) int64 {
	t.Helper()
	seed, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

func TestCPUEqualsTorch(t *testing.T) {
	tensors := golden.Load(t, "testdata/cpu.safetensors")
	for _, c := range loadReference(t).CPU {
		g := NewCPU(seedOf(t, c.Seed))
		n := golden.Tensor{Shape: c.Shape}.Len()
		got := make([]float32, n)
		if c.First8 != nil { // the noise of a 480p video of 81 frames
			g.Randn(got)
			checkLarge(t, c.Key, got, c.Sum, c.Sparse, 0, 1e-6)
			sumSq := 0.0
			for _, v := range got {
				sumSq += float64(v) * float64(v)
			}
			if d := math.Abs(sumSq - c.SumSq); !(d <= 1e-6) {
				t.Errorf("%s: sum of squares %.12g, want %.12g", c.Key, sumSq, c.SumSq)
			}
			golden.Compare(t, c.Key+" first 8", got[:8], c.First8, 0)
			golden.Compare(t, c.Key+" last 8", got[n-8:], c.Last8, 0)
			continue
		}
		for _, call := range []string{"first", "second"} { // of one generator
			want, ok := tensors[c.Key+"."+call]
			if !ok {
				t.Fatalf("testdata has no %s.%s", c.Key, call)
			}
			g.Randn(got)
			golden.CompareShape(t, c.Key+"."+call, want.Shape, got, want.F32, 0)
		}
	}
}

// TestCPUMixedSizes draws short and long vectors from one generator: the
// spare value of a short draw survives the long one after it.
func TestCPUMixedSizes(t *testing.T) {
	tensors := golden.Load(t, "testdata/cpu.safetensors")
	g := NewCPU(1)
	for _, name := range []string{"mixed0_n3", "mixed1_n20", "mixed2_n5", "mixed3_n16", "mixed4_n1"} {
		want := tensors["cpu_seed1."+name].F32
		if want == nil {
			t.Fatalf("testdata has no %s", name)
		}
		got := make([]float32, len(want))
		g.Randn(got)
		golden.Compare(t, name, got, want, 0)
	}
}

func TestCPUWordsAndUniforms(t *testing.T) {
	tensors := golden.Load(t, "testdata/cpu.safetensors")
	// torch.randint over 2^32 values takes two words each and shows the second.
	words := newTwister(42)
	for i, want := range tensors["cpu_seed42.random_int32_as_int64"].I64 {
		words.uint32()
		if got := int64(words.uint32()); got != want {
			t.Errorf("word %d: got %d, want %d", 2*i+1, got, want)
		}
	}
	want := tensors["cpu_seed42.uniform20"].F32
	got := make([]float32, len(want))
	NewCPU(42).uniforms(got)
	golden.Compare(t, "uniform20", got, want, 0)
}

// TestTwister checks the word that the C++ standard gives for its mt19937: the
// 10,000th after the default seed (ISO/IEC 14882, [rand.predef]).
func TestTwister(t *testing.T) {
	words := newTwister(5489)
	var word uint32
	for range 10_000 {
		word = words.uint32()
	}
	if word != 4123659995 {
		t.Errorf("word 10000 = %d, want 4123659995", word)
	}
}

func TestCPUSeedHas32Bits(t *testing.T) {
	a, b := make([]float32, 20), make([]float32, 20)
	NewCPU(42).Randn(a)
	NewCPU(42 + 7<<32).Randn(b)
	if !slices.Equal(a, b) {
		t.Error("seeds with equal low 32 bits give different noise")
	}
}

// checkLarge compares every 100,000th value, and the sum of all, which finds
// what the samples miss. sumTol has room for the order of summation and for rounding.
func checkLarge(t *testing.T, name string, got []float32, sum float64, sparse []float32, tol float32, sumTol float64) {
	t.Helper()
	gotSum := 0.0
	var gotSparse []float32
	for i, v := range got {
		gotSum += float64(v)
		if i%100_000 == 0 {
			gotSparse = append(gotSparse, v)
		}
	}
	golden.Compare(t, name+" every 100000th", gotSparse, sparse, tol)
	if d := math.Abs(gotSum - sum); !(d <= sumTol) {
		t.Errorf("%s: sum %.9g, want %.9g within %g", name, gotSum, sum, sumTol)
	}
}

func TestFMA32RoundsOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	exact := func(a, b, c float32) float32 {
		x := new(big.Float).SetPrec(400).Mul(big.NewFloat(float64(a)), big.NewFloat(float64(b)))
		x.Add(new(big.Float).SetPrec(400).Set(x), big.NewFloat(float64(c)))
		f, _ := x.Float32()
		return f
	}
	for range 20_000 {
		a := float32(math.Ldexp(r.Float64()-0.5, r.IntN(20)-10))
		b := float32(math.Ldexp(r.Float64()-0.5, r.IntN(20)-10))
		// Aim at ties: c is near a float32 half-way point away from a*b.
		c := float32(-float64(a)*float64(b)) + float32(math.Ldexp(float64(r.IntN(3)-1), r.IntN(30)-40))
		if r.IntN(2) == 0 {
			c = float32(math.Ldexp(1+float64(r.IntN(4)), r.IntN(80)-40))
		}
		if got, want := fma32(a, b, c), exact(a, b, c); got != want {
			t.Fatalf("fma32(%g, %g, %g) = %g, want %g", a, b, c, got, want)
		}
	}
	// A tie: (1+2^-12)^2 = 1 + 2^-11 + 2^-24 lies half-way between two float32. An addend
	// of 2^-80 decides it, which a float64 sum loses.
	a := float32(1 + 0x1p-12)
	if got, want := fma32(a, a, 0x1p-80), float32(1+0x1p-11+0x1p-23); got != want {
		t.Errorf("above a tie: got %v, want %v", got, want)
	}
	if got, want := fma32(a, a, -0x1p-80), float32(1+0x1p-11); got != want {
		t.Errorf("below a tie: got %v, want %v", got, want)
	}
}
