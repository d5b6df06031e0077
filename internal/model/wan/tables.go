package wan

import "math"

// theta is the base of the frequencies of rope and of the timestep embedding;
// original code, rope_params and sinusoidal_embedding_1d.
const theta = 10000

// axisPairs returns how the headDim/2 rotated pairs are divided among frame,
// height and width.
func axisPairs(headDim int) [3]int {
	pairs := headDim / 2
	return [3]int{pairs - 2*(pairs/3), pairs / 3, pairs / 3}
}

// axisTable returns the cosines and sines [positions, pairs] of one axis, which
// has frequencies of its own over its own width: theta^(-i/pairs).
func axisTable(positions, pairs int) (cos, sin []float32) {
	cos, sin = make([]float32, positions*pairs), make([]float32, positions*pairs)
	for i := range pairs {
		freq := 1 / math.Pow(theta, float64(i)/float64(pairs))
		for p := range positions {
			s, c := math.Sincos(float64(p) * freq)
			cos[p*pairs+i], sin[p*pairs+i] = float32(c), float32(s)
		}
	}
	return cos, sin
}

// ropeTables returns the cosines and sines [count, headDim/2] of the tokens from
// start on of a sequence over grid (frames, height, width), width fastest. Angles
// are float64 until the end. Tokens behind the grid are padding and not rotated.
func ropeTables(grid [3]int, start, count, headDim int) (cos, sin []float32) {
	pairs := axisPairs(headDim)
	var axisCos, axisSin [3][]float32
	for a := range grid {
		axisCos[a], axisSin[a] = axisTable(grid[a], pairs[a])
	}
	numTokens := grid[0] * grid[1] * grid[2]
	width := headDim / 2
	cos, sin = make([]float32, count*width), make([]float32, count*width)
	for row := range count {
		c, s := cos[row*width:(row+1)*width], sin[row*width:(row+1)*width]
		token := start + row
		if token >= numTokens {
			for i := range c {
				c[i] = 1
			}
			continue
		}
		position := [3]int{token / (grid[1] * grid[2]), token / grid[2] % grid[1], token % grid[2]}
		at := 0
		for a, p := range position {
			copy(c[at:], axisCos[a][p*pairs[a]:(p+1)*pairs[a]])
			copy(s[at:], axisSin[a][p*pairs[a]:(p+1)*pairs[a]])
			at += pairs[a]
		}
	}
	return cos, sin
}

// timestepSinusoid returns the embedding [freqDim] of a timestep: cosines, then
// sines, of t * theta^(-i/half).
func timestepSinusoid(t int64, freqDim int) []float32 {
	half := freqDim / 2
	out := make([]float32, freqDim)
	for i := range half {
		s, c := math.Sincos(float64(t) * math.Pow(theta, -float64(i)/float64(half)))
		out[i], out[half+i] = float32(c), float32(s)
	}
	return out
}
