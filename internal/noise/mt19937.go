package noise

// twister is the 32-bit Mersenne Twister, MT19937.
// Source: Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998,
// with the initialisation of their 2002 reference code.
type twister struct {
	state [twisterSize]uint32
	next  int // index of the next word; twisterSize when the state is used up
}

const (
	twisterSize  = 624
	twisterShift = 397
)

func newTwister(seed uint32) *twister {
	t := &twister{next: twisterSize}
	t.state[0] = seed
	for i := uint32(1); i < twisterSize; i++ {
		prev := t.state[i-1]
		t.state[i] = 1812433253*(prev^prev>>30) + i
	}
	return t
}

// uint32 returns the next word of the sequence.
func (t *twister) uint32() uint32 {
	if t.next == twisterSize {
		t.refill()
	}
	y := t.state[t.next]
	t.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (t *twister) refill() {
	mix := func(i, following, far int) {
		y := t.state[i]&0x80000000 | t.state[following]&0x7fffffff
		t.state[i] = t.state[far] ^ y>>1 ^ -(y&1)&0x9908b0df
	}
	for i := range twisterSize - twisterShift {
		mix(i, i+1, i+twisterShift)
	}
	for i := twisterSize - twisterShift; i < twisterSize-1; i++ {
		mix(i, i+1, i+twisterShift-twisterSize)
	}
	mix(twisterSize-1, 0, twisterShift-1)
	t.next = 0
}
