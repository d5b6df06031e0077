package noise

import (
	"math"
	"slices"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
)

// cudaTolerance: the reference is a float32 model whose logarithms and sines round
// otherwise. Values reach 6, where one unit in the last place is 4.8e-7; the largest
// difference seen is 6e-7.
const cudaTolerance = 1e-6

func gpu(t testing.TB, name string) GPU {
	t.Helper()
	k, err := ParseKind("torch-cuda:" + name)
	if err != nil {
		t.Fatal(err)
	}
	return k.gpu
}

// TestPhilox has the known answers of the Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
func TestPhilox(t *testing.T) {
	const ones = 0xffffffff
	for _, tc := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{ones, ones, ones, ones}, [2]uint32{ones, ones}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(tc.counter, tc.key); got != tc.want {
			t.Errorf("philox(%#x, %#x) = %#x, want %#x", tc.counter, tc.key, got, tc.want)
		}
	}
}

func TestCUDAEqualsModel(t *testing.T) {
	tensors := golden.Load(t, "testdata/cuda_philox_model.safetensors")
	for _, c := range loadReference(t).CUDA.Cases {
		g := NewCUDA(seedOf(t, c.Seed), gpu(t, "h100"))
		got := make([]float32, c.N)
		for i, call := range []string{"first", "second"} {
			want, ok := tensors[c.Key+"."+call]
			if !ok {
				t.Fatalf("testdata has no %s.%s", c.Key, call)
			}
			g.Randn(got)
			golden.Compare(t, c.Key+"."+call, got, want.F32, cudaTolerance)
			if advance := uint64(i+1) * c.OffsetAdvance; g.calls*valuesPerCall != advance {
				t.Errorf("%s.%s: offset %d, want %d", c.Key, call, g.calls*valuesPerCall, advance)
			}
		}
	}
}

// TestCUDAPublished has the values that public ports of torch's CUDA generator give for
// torch.randn(12, device="cuda") with seed 0.
func TestCUDAPublished(t *testing.T) {
	got := make([]float32, 12)
	Fill(got, 0, Kind{})
	golden.Compare(t, "seed 0", got, []float32{
		-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564,
		-0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497,
	}, cudaTolerance)
}

func TestCUDALargeDependsOnTheGPU(t *testing.T) {
	names := map[int]string{108: "a100", 132: "h100", 128: "rtx4090"}
	for _, c := range loadReference(t).CUDA.Large {
		device := gpu(t, names[c.SMs])
		if device.NumSMs != c.SMs || device.ThreadsPerSM != c.ThreadsPerSM {
			t.Errorf("%s: the table has %+v", c.Device, device)
		}
		g := NewCUDA(seedOf(t, c.Seed), device)
		got := make([]float32, c.N)
		g.Randn(got)
		// A bias of 1e-9 a value is that of the model's sine: a misplaced value moves the sum by about 1.
		checkLarge(t, c.Device, got, c.Sum, c.Sparse, cudaTolerance, 1e-9*float64(c.N))
		golden.Compare(t, c.Device+" last 4", got[c.N-4:], c.Last4, cudaTolerance)
		if g.calls*valuesPerCall != c.OffsetAdvance {
			t.Errorf("%s: offset %d, want %d", c.Device, g.calls*valuesPerCall, c.OffsetAdvance)
		}
	}
}

// TestCUDASeedHas64Bits: unlike the CPU generator's, with the low word first in the key.
func TestCUDASeedHas64Bits(t *testing.T) {
	got := make([]float32, 4)
	for seed, key := range map[int64][2]uint32{
		0x299f31d0a4093822: {0xa4093822, 0x299f31d0},
		-1:                 {0xffffffff, 0xffffffff},
	} {
		NewCUDA(seed, gpu(t, "h100")).Randn(got)
		w := philox([4]uint32{}, key)
		a, b := boxMuller(w[0], w[1])
		if got[0] != a {
			t.Errorf("seed %#x: first value %v, want %v", seed, got[0], a)
		}
		if c := NewCUDA(seed, gpu(t, "h100")).normal4(0); c[1] != b {
			t.Errorf("seed %#x: second value of thread 0 is %v, want %v", seed, c[1], b)
		}
	}
}

// TestCUDASmallIsTheSameEverywhere: below the smallest grid the GPU does not matter.
func TestCUDASmallIsTheSameEverywhere(t *testing.T) {
	const n = 40 * 1024 // what a T4, the smallest in the table, holds at once
	want, got := make([]float32, n), make([]float32, n)
	Fill(want, 9, Kind{})
	for _, device := range GPUs {
		NewCUDA(9, device).Randn(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s gives other values for %d", device.Name, n)
		}
	}
}

// TestCUDAEveryThreadOnce: a draw larger than one stride holds each value of
// each thread once. No repetition among the raw values shows it.
func TestCUDAEveryThreadOnce(t *testing.T) {
	tiny := GPU{Name: "tiny", NumSMs: 1, ThreadsPerSM: 512}
	for _, n := range []int{1, 255, 256, 257, 2047, 2048, 2049, 5000} {
		g := NewCUDA(5, tiny)
		got := make([]float32, n)
		for i := range got {
			got[i] = float32(math.NaN())
		}
		g.Randn(got)
		numThreads := min(512, (n+255)/256*256)
		for i, v := range got {
			fresh := NewCUDA(5, tiny)
			fresh.calls = uint64(i / numThreads / valuesPerCall)
			if want := fresh.normal4(uint64(i % numThreads))[i/numThreads%valuesPerCall]; v != want {
				t.Fatalf("n %d, element %d: got %v, want %v", n, i, v, want)
			}
		}
	}
}

func TestEmptyDraws(t *testing.T) {
	for _, g := range []Generator{NewCPU(1), NewCUDA(1, gpu(t, "h100"))} {
		a, b := make([]float32, 20), make([]float32, 20)
		g.Randn(nil)
		g.Randn(a)
		switch g.(type) {
		case *CPU:
			NewCPU(1).Randn(b)
		case *CUDA:
			NewCUDA(1, gpu(t, "h100")).Randn(b)
		}
		if !slices.Equal(a, b) {
			t.Errorf("%T: an empty draw moved the sequence", g)
		}
	}
}
