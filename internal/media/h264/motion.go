package h264

// maxReach bounds motion vectors, in luma samples: the vertical range of the
// lowest level (Table A-1) with a little to spare.
const maxReach = 60

// outside is how far a predicted block may lie beyond the picture, so that all
// samples that it is made from are inside the border.
const outside = 24

// vectorRange is the smallest and the largest vector allowed for the
// macroblock at x, y.
func (s *slice) vectorRange(x, y int) (lo, hi vector) {
	e := s.enc
	lo = vector{4 * max(-maxReach, -outside-x), 4 * max(-maxReach, -outside-y)}
	hi = vector{4 * min(maxReach, 16*e.mbW-16+outside-x), 4 * min(maxReach, 16*e.mbH-16+outside-y)}
	return lo, hi
}

func (v vector) within(lo, hi vector) bool {
	return v.x >= lo.x && v.x <= hi.x && v.y >= lo.y && v.y <= hi.y
}

func (v vector) clamp(lo, hi vector) vector {
	return vector{min(max(v.x, lo.x), hi.x), min(max(v.y, lo.y), hi.y)}
}

// neighbourVectors are those that vectors are predicted from: left, top, and
// top right or else top left (clause 8.4.1.3.2). ref is false for macroblocks
// that are intra or not available; have says that they are available.
type neighbourVectors struct {
	v         [3]vector
	ref, have [3]bool
}

func (s *slice) neighbourVectors(mx, my int) (n neighbourVectors) {
	e := s.edges(mx, my)
	set := func(i int, have bool, dx, dy int) {
		if !have {
			return
		}
		m := s.mb(mx+dx, my+dy)
		n.have[i], n.ref[i], n.v[i] = true, m.inter, m.mv
	}
	set(0, e.left, -1, 0)
	set(1, e.top, 0, -1)
	if e.topRight {
		set(2, true, 1, -1)
	} else {
		set(2, e.topLeft, -1, -1)
	}
	return n
}

// predict is clause 8.4.1.3 for a 16x16 partition and one reference picture.
func (n *neighbourVectors) predict() vector {
	if n.have[0] && !n.have[1] && !n.have[2] {
		return n.v[0]
	}
	count, last := 0, 0
	for i, r := range n.ref {
		if r {
			count++
			last = i
		}
	}
	if count == 1 {
		return n.v[last]
	}
	return vector{median(n.v[0].x, n.v[1].x, n.v[2].x), median(n.v[0].y, n.v[1].y, n.v[2].y)}
}

// skip is the vector of a skipped macroblock (clause 8.4.1.1).
func (n *neighbourVectors) skip() vector {
	for i := range 2 {
		if !n.have[i] || n.ref[i] && n.v[i] == (vector{}) {
			return vector{}
		}
	}
	return n.predict()
}

func median(a, b, c int) int { return max(min(a, b), min(max(a, b), c)) }

// hexagon and diamond are search steps in whole samples.
var (
	hexagon = [6]vector{{-2, 0}, {-1, -2}, {1, -2}, {2, 0}, {1, 2}, {-1, 2}}
	diamond = [4]vector{{-1, 0}, {1, 0}, {0, -1}, {0, 1}}
)

// vectorBits is what coding v costs when pred is predicted.
func vectorBits(v, pred vector) int {
	return ueBits(seCode(v.x-pred.x)) + ueBits(seCode(v.y-pred.y))
}

// search finds a vector for the macroblock at luma x, y: whole samples by sad
// from the best of the candidates on, then halves and quarters by satd. The
// prediction of the vector found is left in s.pred.y, its cost is returned.
func (s *slice) search(x, y int, n *neighbourVectors, pred vector) (best vector, cost int) {
	e := s.enc
	lo, hi := s.vectorRange(x, y)
	src, stride := e.src.y.from(x, y), e.src.y.stride
	ref := &e.ref.luma[fullPel]

	const never = 1 << 30
	bestSAD := never
	try := func(v vector) bool {
		if !v.within(lo, hi) {
			return false
		}
		rate := e.lambda * vectorBits(v, pred)
		c := rate + sad(src, stride, ref.from(x+v.x>>2, y+v.y>>2), ref.stride, bestSAD-rate)
		if c < bestSAD {
			bestSAD, best = c, v
			return true
		}
		return false
	}
	whole := func(v vector) vector { return vector{(v.x + 2) &^ 3, (v.y + 2) &^ 3}.clamp(lo, hi) }
	try(whole(pred))
	try(vector{})
	for i := range n.v {
		if n.ref[i] {
			try(whole(n.v[i]))
		}
	}
	for range 16 {
		at, moved := best, false
		for _, d := range hexagon {
			moved = try(vector{at.x + 4*d.x, at.y + 4*d.y}) || moved
		}
		if !moved {
			break
		}
	}
	for range 4 {
		at, moved := best, false
		for _, d := range diamond {
			moved = try(vector{at.x + 4*d.x, at.y + 4*d.y}) || moved
		}
		if !moved {
			break
		}
	}

	cost = never
	var trial [256]uint8
	tryFine := func(v vector) bool {
		if !v.within(lo, hi) {
			return false
		}
		e.ref.predictLuma(trial[:], x, y, v)
		c := e.lambda*vectorBits(v, pred) + satd(src, stride, trial[:], 16, 16)
		if c < cost {
			cost, best = c, v
			s.pred.y = trial
			return true
		}
		return false
	}
	tryFine(best)
	for _, step := range [2]int{2, 1} {
		for range 2 {
			at, moved := best, false
			for _, d := range diamond {
				moved = tryFine(vector{at.x + step*d.x, at.y + step*d.y}) || moved
			}
			if !moved {
				break
			}
		}
	}
	if pred != best && pred.within(lo, hi) {
		tryFine(pred) // costs the fewest bits, and is often a fraction
	}
	return best, cost
}
