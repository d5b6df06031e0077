package umt5

import "math"

// bucket returns the row of the position table for a key at distance key - query.
// Half of the buckets are for keys behind the query. Of each half, one half
// is exact and the other grows with the logarithm of the distance up to MaxDist.
// Source: T5, arXiv:1910.10683, section 2.1; mesh-tensorflow's bidirectional buckets.
func (c Config) bucket(distance int) int32 {
	half := c.NumBuckets / 2
	exact := half / 2
	base := 0
	if distance > 0 {
		base = half
	}
	d := max(distance, -distance)
	if d < exact {
		return int32(base + d)
	}
	grown := math.Log(float64(d)/float64(exact)) / math.Log(float64(c.MaxDist)/float64(exact)) * float64(half-exact)
	return int32(base + min(exact+int(grown), half-1))
}

// buckets returns the bucket of each distance key - query over s tokens, from
// -(s-1) to s-1: the columns of a relative bias. After a failed op there are no tokens.
func (c Config) buckets(s int) []int32 {
	if s < 1 {
		return nil
	}
	out := make([]int32, 2*s-1)
	for i := range out {
		out[i] = c.bucket(i - (s - 1))
	}
	return out
}
