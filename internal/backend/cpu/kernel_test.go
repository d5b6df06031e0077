package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// eachKernels runs a test with every set of kernels that the machine has.
func eachKernels(t *testing.T, run func(t *testing.T, k kernels)) {
	t.Run("go", func(t *testing.T) { run(t, goKernels) })
	t.Run("fast", func(t *testing.T) {
		fast, ok := fastKernels()
		if !ok {
			t.Skip("this machine has no kernels in assembly")
		}
		run(t, fast)
	})
}

func TestTile(t *testing.T) {
	eachKernels(t, func(t *testing.T, kern kernels) {
		rng := rand.New(rand.NewPCG(1, 2))
		for _, tc := range []struct{ taps, k int }{{1, 1}, {1, 2}, {1, 7}, {3, 1}, {9, 3}, {27, 16}, {2, 33}, {1, 384}} {
			depth := tc.taps * tc.k
			x := make([]float32, tileRows*depth)
			panel := make([]float32, depth*tileCols)
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			for i := range panel {
				panel[i] = float32(rng.NormFloat64())
			}
			pointers := make([]*float32, tc.taps*tileRows)
			for i := range pointers { // tap-major, each run anywhere
				pointers[i] = &x[(i*7%len(pointers))*tc.k]
			}
			const stride = 21
			factors := [tileRows]float32{0, 1, 0.5, -1, 2, 3}
			for _, f := range []*[tileRows]float32{nil, &factors} {
				got := make([]float32, tileRows*stride)
				before := make([]float32, len(got))
				for i := range got {
					before[i] = float32(rng.NormFloat64())
				}
				if f == nil {
					before[0] = float32(math.NaN()) // what is replaced must not matter
				}
				copy(got, before)
				kern.tile(&got[0], stride, f, &pointers[0], tc.taps, tc.k, &panel[0])
				for i, g := range got {
					r, j := i/stride, i%stride
					if j >= tileCols {
						if g != before[i] {
							t.Fatalf("%+v: wrote beside its results, row %d column %d", tc, r, j)
						}
						continue
					}
					want, size := 0.0, 0.0
					if f != nil {
						want = float64(before[i]) * float64(f[r])
						size = math.Abs(want)
					}
					for d := range depth {
						at := d / tc.k * tileRows
						p := float64(x[(at+r)*7%len(pointers)*tc.k+d%tc.k]) * float64(panel[d*tileCols+j])
						want += p
						size += math.Abs(p)
					}
					if diff := math.Abs(float64(g) - want); !(diff <= (2+math.Sqrt(float64(depth)))*0x1p-24*size) {
						t.Fatalf("%+v, factors %v, row %d column %d: got %v, want %v", tc, f != nil, r, j, g, want)
					}
				}
			}
		}
	})
}

func TestSoftmax(t *testing.T) {
	eachKernels(t, func(t *testing.T, kern kernels) {
		rng := rand.New(rand.NewPCG(3, 4))
		for n := 1; n <= keyBlock; n++ {
			for _, spread := range []float64{1, 30, 200} {
				logits := make([]float32, n, keyBlock)
				bias := make([]float32, n)
				want := make([]float64, n)
				peak, sum := float32(-2), float32(3)
				top := float64(peak)
				for i := range logits {
					logits[i] = float32(rng.NormFloat64() * spread)
					bias[i] = float32(rng.NormFloat64())
					scaled := float32(logits[i]*0.5) + bias[i]
					want[i] = float64(scaled)
					top = max(top, want[i])
				}
				factor := kern.softmax(logits, 0.5, bias, &peak, &sum)
				total := 3 * math.Exp(-2-top)
				if float64(peak) != top {
					t.Fatalf("n %d: peak %v, want %v", n, peak, top)
				}
				if !near(factor, math.Exp(-2-top), 1) {
					t.Fatalf("n %d: factor %v, want %v", n, factor, math.Exp(-2-top))
				}
				for i := range want {
					// The difference from the peak is rounded before the exponential.
					w := math.Exp(float64(float32(want[i] - top)))
					total += w
					if !near(logits[i], w, 1.5) {
						t.Fatalf("n %d, element %d: exp(%v) = %v, want %v", n, i, want[i]-top, logits[i], w)
					}
				}
				if !near(sum, total, 4) {
					t.Fatalf("n %d: sum %v, want %v", n, sum, total)
				}
			}
		}
	})
}

// near reports whether got is want but for some units in the last place; what is
// subnormal may be 0.
func near(got float32, want, ulps float64) bool {
	return math.Abs(float64(got)-want) <= ulps*0x1p-23*want || (want < 0x1p-126 && got >= 0 && got < 0x1p-125)
}

func TestActivateUlps(t *testing.T) {
	eachKernels(t, func(t *testing.T, kern kernels) {
		for _, act := range []tensor.Activation{tensor.GELUTanh, tensor.GELUErf, tensor.SiLU} {
			var xs []float32
			for i := -40000; i <= 40001; i++ {
				xs = append(xs, float32(i)/5000)
			}
			got := append([]float32(nil), xs...)
			kern.activate(got, act)
			for i, x := range xs {
				want := float64(x) / (1 + math.Exp(-float64(x)))
				switch act {
				case tensor.GELUTanh:
					f := float64(x)
					want = f / (1 + math.Exp(-2*math.Sqrt(2/math.Pi)*(f+0.044715*f*f*f)))
				case tensor.GELUErf:
					want = 0.5 * float64(x) * math.Erfc(-float64(x)/math.Sqrt2)
				}
				// erf in the far negative tail is 1 - almost 1 in float64.
				if math.Abs(float64(got[i])-want) > 0.51*0x1p-23*math.Abs(want)+0x1p-52 {
					t.Fatalf("activation %d of %v: got %v, want %v", act, x, got[i], want)
				}
			}
		}
	})
}

// TestConversions compares the vectors with the definitions: all halves, and
// floats around every rounding boundary.
func TestConversions(t *testing.T) {
	for _, d := range []tensor.DType{tensor.BF16, tensor.F16} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			one, back := tensor.BF16ToF32, tensor.F32ToBF16
			if d == tensor.F16 {
				one, back = tensor.F16ToF32, tensor.F32ToF16
			}
			const n = 1 << 16
			halves := make([]uint16, n)
			for i := range halves {
				halves[i] = uint16(i)
			}
			wide := make([]float32, n)
			widen(wide, d, bytesOf(halves))
			var floats []float32
			for i, f := range wide {
				want := one(uint16(i))
				if f != want && (f == f || want == want) {
					t.Fatalf("%#04x widened to %v, want %v", i, f, want)
				}
				bits := math.Float32bits(f)
				for _, delta := range []uint32{0, 1, 0xfff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001} {
					floats = append(floats, math.Float32frombits(bits+delta))
				}
			}
			got := make([]uint16, len(floats))
			narrow(bytesOf(got), d, floats)
			for i, f := range floats {
				want := back(f)
				if got[i] != want && (f == f || one(got[i]) == one(got[i])) {
					t.Fatalf("%v (%#08x) rounded to %#04x, want %#04x", f, math.Float32bits(f), got[i], want)
				}
			}
		})
	}
}
