package noise

import "math"

// CUDA is torch's CUDA generator (at::CUDAGeneratorImpl), as far as randn of
// float32 goes: Philox 4x32-10, one subsequence a thread, four values a call.
//
// A grid of threads strides over the noise. The grid grows with the noise up to
// what the GPU holds at once; above that (270,336 values on an H100) which thread
// makes which value, and so the noise, depends on the GPU.
//
// It follows the kernel's published algorithm in float32 and has not been compared with a GPU's own output. A GPU
// computes sine and cosine with fast units that are good to about 2^-21, so the last digits differ there.
// Source: J. Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
type CUDA struct {
	key       [2]uint32
	calls     uint64 // four-value calls that each thread has made so far
	maxBlocks int
}

const (
	threadsPerBlock = 256 // of torch's distribution kernels
	valuesPerCall   = 4   // curand_normal4
)

// NewCUDA seeds the generator for a GPU.
func NewCUDA(seed int64, gpu GPU) *CUDA {
	return &CUDA{
		key:       [2]uint32{uint32(seed), uint32(uint64(seed) >> 32)},
		maxBlocks: max(1, gpu.NumSMs*(gpu.ThreadsPerSM/threadsPerBlock)),
	}
}

// Randn fills dst with what torch.randn(len(dst), device="cuda") would give
// next. It holds up to 2^29 values, where torch begins to draw in pieces.
func (g *CUDA) Randn(dst []float32) {
	if len(dst) == 0 {
		return
	}
	numThreads := min(g.maxBlocks, (len(dst)+threadsPerBlock-1)/threadsPerBlock) * threadsPerBlock
	// Value v of call k of a thread lands at thread + (k*valuesPerCall+v)*numThreads.
	for first := 0; first < len(dst); first += numThreads * valuesPerCall {
		for thread := range min(numThreads, len(dst)-first) {
			values := g.normal4(uint64(thread))
			for v, at := 0, first+thread; v < valuesPerCall && at < len(dst); v, at = v+1, at+numThreads {
				dst[at] = values[v]
			}
		}
		g.calls++
	}
}

// normal4 is the next call of a thread, which is its subsequence.
func (g *CUDA) normal4(thread uint64) [valuesPerCall]float32 {
	w := philox([4]uint32{uint32(g.calls), uint32(g.calls >> 32), uint32(thread), uint32(thread >> 32)}, g.key)
	a, b := boxMuller(w[0], w[1])
	c, d := boxMuller(w[2], w[3])
	return [valuesPerCall]float32{a, b, c, d}
}

// boxMuller makes two normal values of two words, the sine first.
// Every intermediate is a float32, as in curand.
func boxMuller(x, y uint32) (a, b float32) {
	const turn = float32(2 * math.Pi * 0x1p-32)
	u := float32(float32(x)*0x1p-32) + 0x1p-33 // (0, 1]
	v := fma32(float32(y), turn, turn/2)       // (0, 2π]; nvcc fuses it, and u is the same either way
	radius := float32(math.Sqrt(float64(-2 * float32(math.Log(float64(u))))))
	sin, cos := math.Sincos(float64(v))
	return float32(sin) * radius, float32(cos) * radius
}

// philox is the Philox 4x32 bijection with ten rounds.
func philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	const (
		multiplier0, multiplier1 = 0xd2511f53, 0xcd9e8d57
		weyl0, weyl1             = 0x9e3779b9, 0xbb67ae85 // golden ratio, sqrt(3)-1
		numRounds                = 10
	)
	for range numRounds {
		p0 := uint64(counter[0]) * multiplier0
		p1 := uint64(counter[2]) * multiplier1
		counter = [4]uint32{
			uint32(p1>>32) ^ counter[1] ^ key[0], uint32(p1),
			uint32(p0>>32) ^ counter[3] ^ key[1], uint32(p0),
		}
		key[0] += weyl0
		key[1] += weyl1
	}
	return counter
}
