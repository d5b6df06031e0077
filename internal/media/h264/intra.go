package h264

// Intra 16x16 prediction modes (Table 8-4); chroma's differ in order (Table 8-5).
const (
	intra16V = iota
	intra16H
	intra16DC
	intra16Plane
	numIntra16
)

const (
	chromaDC = iota
	chromaH
	chromaV
	chromaPlane
	numChroma
)

// edges says which neighbouring macroblocks may be predicted from: those inside
// the picture and of the same slice.
type edges struct{ left, top, topLeft, topRight bool }

// predict16 fills dst, 16x16 of stride 16, from the samples around p[at]; it
// returns false if the mode needs a neighbour that is not there (clause 8.3.3).
func predict16(dst []uint8, p []uint8, at, stride, mode int, e edges) bool {
	switch mode {
	case intra16V:
		if !e.top {
			return false
		}
		for y := range 16 {
			copy(dst[16*y:16*y+16], p[at-stride:])
		}
	case intra16H:
		if !e.left {
			return false
		}
		for y := range 16 {
			fill(dst[16*y:16*y+16], p[at+y*stride-1])
		}
	case intra16DC:
		sum, n := edgeSum(p, at, stride, 16, e)
		dc := uint8(128)
		if n > 0 {
			dc = uint8((sum + n/2) / n)
		}
		fill(dst[:256], dc)
	case intra16Plane:
		if !e.left || !e.top || !e.topLeft {
			return false
		}
		predictPlane(dst, p, at, stride, 16, 5, 6)
	}
	return true
}

// predictChroma is predict16 for one 8x8 chroma component (clause 8.3.4).
func predictChroma(dst []uint8, p []uint8, at, stride, mode int, e edges) bool {
	switch mode {
	case chromaDC:
		for i := range 4 {
			x, y := 4*(i&1), 4*(i>>1)
			use := e
			// The off-diagonal blocks look to their own side first.
			if i == 1 && e.top {
				use.left = false
			}
			if i == 2 && e.left {
				use.top = false
			}
			sum, n := 0, 0
			if use.top {
				for k := range 4 {
					sum += int(p[at-stride+x+k])
				}
				n += 4
			}
			if use.left {
				for k := range 4 {
					sum += int(p[at+(y+k)*stride-1])
				}
				n += 4
			}
			dc := uint8(128)
			if n > 0 {
				dc = uint8((sum + n/2) / n)
			}
			for k := range 4 {
				fill(dst[8*(y+k)+x:8*(y+k)+x+4], dc)
			}
		}
	case chromaH:
		if !e.left {
			return false
		}
		for y := range 8 {
			fill(dst[8*y:8*y+8], p[at+y*stride-1])
		}
	case chromaV:
		if !e.top {
			return false
		}
		for y := range 8 {
			copy(dst[8*y:8*y+8], p[at-stride:])
		}
	case chromaPlane:
		if !e.left || !e.top || !e.topLeft {
			return false
		}
		predictPlane(dst, p, at, stride, 8, 34, 6)
	}
	return true
}

func fill(dst []uint8, v uint8) {
	for i := range dst {
		dst[i] = v
	}
}

// edgeSum adds the samples of the edges that are there and counts them.
func edgeSum(p []uint8, at, stride, size int, e edges) (sum, n int) {
	if e.top {
		for _, v := range p[at-stride:][:size] {
			sum += int(v)
		}
		n += size
	}
	if e.left {
		for y := range size {
			sum += int(p[at+y*stride-1])
		}
		n += size
	}
	return sum, n
}

// predictPlane fits a plane to the edges, size 16 or 8 (clauses 8.3.3.4 and
// 8.3.4.4); slope and shift are its fixed point factors.
func predictPlane(dst []uint8, p []uint8, at, stride, size, slope, shift int) {
	half := size / 2
	top, left := at-stride, at-1
	h, v := 0, 0
	for i := 1; i <= half; i++ {
		h += i * (int(p[top+half-1+i]) - int(p[top+half-1-i]))
		v += i * (int(p[left+(half-1+i)*stride]) - int(p[left+(half-1-i)*stride]))
	}
	a := 16 * (int(p[left+(size-1)*stride]) + int(p[top+size-1]))
	b := (slope*h + 1<<(shift-1)) >> shift
	c := (slope*v + 1<<(shift-1)) >> shift
	for y := range size {
		acc := a + b*(1-half) + c*(y+1-half) + 16
		row := dst[size*y:][:size]
		for x := range row {
			row[x] = clip8(int32(acc >> 5))
			acc += b
		}
	}
}

// Intra 4x4 prediction modes (Table 8-2).
const (
	intra4V = iota
	intra4H
	intra4DC
	intra4DownLeft
	intra4DownRight
	intra4VertRight
	intra4HorDown
	intra4VertLeft
	intra4HorUp
	numIntra4
)

// edge4 holds the samples around a 4x4 block in one line, walking from the
// lower left over the corner to the upper right:
//
//	s[0..3] left, bottom to top; s[4] corner; s[5..8] top; s[9..12] top right
type edge4 struct {
	s    [13]int32
	have edges
}

// load reads the samples around p[at]. Where the top right is missing, the last
// top sample stands for it.
func (e *edge4) load(p []uint8, at, stride int, have edges) {
	e.have = have
	if have.left {
		for i := range 4 {
			e.s[i] = int32(p[at+(3-i)*stride-1])
		}
	}
	if have.topLeft {
		e.s[4] = int32(p[at-stride-1])
	}
	if have.top {
		n := 4
		if have.topRight {
			n = 8
		}
		for i := range n {
			e.s[5+i] = int32(p[at-stride+i])
		}
		for i := n; i < 8; i++ {
			e.s[5+i] = e.s[8]
		}
	}
}

// allows says whether a mode's neighbours are there.
func (e *edge4) allows(mode int) bool {
	switch mode {
	case intra4DC:
		return true
	case intra4V, intra4DownLeft, intra4VertLeft:
		return e.have.top
	case intra4H, intra4HorUp:
		return e.have.left
	}
	return e.have.left && e.have.top && e.have.topLeft
}

// predict fills dst, 4x4 of stride 4 (clause 8.3.1.2).
func (e *edge4) predict(dst *[16]uint8, mode int) {
	s := &e.s
	// Rounded means of two and of three neighbours along the line.
	two := func(i int) uint8 { return uint8((s[i] + s[i+1] + 1) >> 1) }
	three := func(i int) uint8 { return uint8((s[i-1] + 2*s[i] + s[i+1] + 2) >> 2) }
	switch mode {
	case intra4V:
		for i := range dst {
			dst[i] = uint8(s[5+i&3])
		}
	case intra4H:
		for i := range dst {
			dst[i] = uint8(s[3-i>>2])
		}
	case intra4DC:
		sum, n := int32(0), int32(0)
		if e.have.left {
			sum, n = s[0]+s[1]+s[2]+s[3], 4
		}
		if e.have.top {
			sum, n = sum+s[5]+s[6]+s[7]+s[8], n+4
		}
		dc := uint8(128)
		if n > 0 {
			dc = uint8((sum + n/2) / n)
		}
		for i := range dst {
			dst[i] = dc
		}
	case intra4DownLeft:
		var v [7]uint8
		for i := range 6 {
			v[i] = three(6 + i)
		}
		v[6] = uint8((s[11] + 3*s[12] + 2) >> 2)
		for i := range dst {
			dst[i] = v[i&3+i>>2]
		}
	case intra4DownRight:
		for i := range dst {
			dst[i] = three(4 + i&3 - i>>2)
		}
	case intra4VertRight:
		for x := range 4 {
			dst[x] = two(4 + x)
			dst[4+x] = three(4 + x)
		}
		dst[8], dst[12] = three(3), three(2)
		copy(dst[9:12], dst[0:3])
		copy(dst[13:16], dst[4:7])
	case intra4HorDown:
		// Along the line from the lower left up: two, three, two, three, ...
		v := [10]uint8{two(0), three(1), two(1), three(2), two(2), three(3), two(3), three(4), three(5), three(6)}
		for i := range dst {
			dst[i] = v[6-2*(i>>2)+i&3]
		}
	case intra4VertLeft:
		for x := range 4 {
			dst[x] = two(5 + x)
			dst[4+x] = three(6 + x)
			dst[8+x] = two(6 + x)
			dst[12+x] = three(7 + x)
		}
	case intra4HorUp:
		bottom := uint8(s[0])
		v := [10]uint8{two(2), three(2), two(1), three(1), two(0), uint8((s[1] + 3*s[0] + 2) >> 2), bottom, bottom, bottom, bottom}
		for i := range dst {
			dst[i] = v[2*(i>>2)+i&3]
		}
	}
}
