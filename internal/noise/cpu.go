package noise

import "math"

// CPU is torch's CPU generator (at::CPUGeneratorImpl), as far as randn of
// float32 goes. Short and long draws take different paths there, and both
// are followed. Values equal those of torch's x86 build with AVX2 bit for bit; other builds of torch
// differ from it in the last bits of long draws.
type CPU struct {
	words *twister

	// spare is the second value of the last pair of a short draw. It waits for
	// the next short draw, however many long ones lie between.
	spare    float64
	hasSpare bool
}

// NewCPU seeds the generator. Only the low 32 bits of the seed count, as in torch.
func NewCPU(seed int64) *CPU {
	return &CPU{words: newTwister(uint32(seed))}
}

// blockLen is how many values the long path makes at a time; shorter draws take the short path.
const blockLen = 16

// Randn fills dst with what torch.randn(len(dst)) would give next.
func (g *CPU) Randn(dst []float32) {
	if len(dst) < blockLen {
		for i := range dst {
			dst[i] = float32(g.normal())
		}
		return
	}
	// All uniforms are drawn first: the order of the words matters.
	g.uniforms(dst)
	for i := 0; i+blockLen <= len(dst); i += blockLen {
		boxMullerBlock((*[blockLen]float32)(dst[i:]))
	}
	if len(dst)%blockLen != 0 { // what is left over has the last block drawn anew, overlapping the one before
		last := dst[len(dst)-blockLen:]
		g.uniforms(last)
		boxMullerBlock((*[blockLen]float32)(last))
	}
}

// uniforms fills dst with float32 values in [0, 1) of 24 bits each.
func (g *CPU) uniforms(dst []float32) {
	for i := range dst {
		dst[i] = float32(g.words.uint32()&(1<<24-1)) * 0x1p-24
	}
}

// boxMullerBlock turns 16 uniforms into normal values. Element j of the
// first half is the radius and element j of the second half the angle of a
// pair, which then takes their places.
func boxMullerBlock(b *[blockLen]float32) {
	for j := range blockLen / 2 {
		radius := float32(math.Sqrt(float64(-2 * log32(1-b[j]))))
		sin, cos := sincos32(float32(2*math.Pi) * b[j+blockLen/2])
		b[j] = radius * cos
		b[j+blockLen/2] = radius * sin
	}
}

// normal is one value of the short path, in float64.
func (g *CPU) normal() float64 {
	if g.hasSpare {
		g.hasSpare = false
		return g.spare
	}
	angle, u := 2*math.Pi*g.uniform53(), g.uniform53()
	radius := math.Sqrt(-2 * math.Log1p(-u))
	sin, cos := math.Sincos(angle)
	g.spare, g.hasSpare = radius*sin, true
	return radius * cos
}

// uniform53 is a float64 in [0, 1) from 53 bits of two words, the high word first.
func (g *CPU) uniform53() float64 {
	high := uint64(g.words.uint32())
	bits := high<<32 | uint64(g.words.uint32())
	return float64(bits&(1<<53-1)) * 0x1p-53
}
