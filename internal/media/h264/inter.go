package h264

// vector is a motion vector in quarter luma samples.
type vector struct{ x, y int }

// reference is the last reconstructed picture with its half sample planes:
// luma[fullPel] the picture itself, the others 1/2 to the right, below, both.
type reference struct {
	pic  *picture
	luma [4]plane
}

const (
	fullPel = iota
	halfH
	halfV
	halfHV
)

// hpelReach is how far beyond the picture the half sample planes are filled:
// the border less the six-tap filter's three samples.
const hpelReach = border - 3

func newReference(w, h int) *reference {
	r := &reference{pic: newPicture(w, h, border)}
	r.luma[fullPel] = r.pic.y
	for i := halfH; i <= halfHV; i++ {
		r.luma[i] = newPlane(w, h, border)
	}
	return r
}

// sixTap is the luma filter before rounding (clause 8.4.2.2.1).
func sixTap(a, b, c, d, e, f int32) int32 { return a - 5*b + 20*c + 20*d - 5*e + f }

// interpolateRows fills the half sample planes for rows [y0, y1), which may
// reach hpelReach beyond the picture. The picture must be padded.
func (r *reference) interpolateRows(y0, y1 int, scratch []int32) {
	src := &r.luma[fullPel]
	n := src.w + 2*hpelReach
	mid := scratch[:n+5] // column sums, for x from -hpelReach-2 on
	for y := y0; y < y1; y++ {
		at, st := src.at(-hpelReach-2, y), src.stride
		r0, r1, r2 := src.pix[at-2*st:][:n+5], src.pix[at-st:][:n+5], src.pix[at:][:n+5]
		r3, r4, r5 := src.pix[at+st:][:n+5], src.pix[at+2*st:][:n+5], src.pix[at+3*st:][:n+5]
		for x := range mid {
			mid[x] = sixTap(int32(r0[x]), int32(r1[x]), int32(r2[x]), int32(r3[x]), int32(r4[x]), int32(r5[x]))
		}
		h := r.luma[halfH].from(-hpelReach, y)[:n]
		v := r.luma[halfV].from(-hpelReach, y)[:n]
		hv := r.luma[halfHV].from(-hpelReach, y)[:n]
		for x := range h {
			s, m := r2[x:x+6:x+6], mid[x:x+6:x+6]
			h[x] = clip8((sixTap(int32(s[0]), int32(s[1]), int32(s[2]), int32(s[3]), int32(s[4]), int32(s[5])) + 16) >> 5)
			v[x] = clip8((m[2] + 16) >> 5)
			hv[x] = clip8((sixTap(m[0], m[1], m[2], m[3], m[4], m[5]) + 512) >> 10)
		}
	}
}

// sample names a plane and a whole-sample step right or down from the vector's
// whole part.
type sample struct{ plane, dx, dy int }

// quarterOf gives, by y*4+x of the vector's fraction, the two samples whose
// mean is the prediction (Table 8-12 and clause 8.4.2.2.1); equal ones mean a
// copy.
var quarterOf = [16][2]sample{
	{{fullPel, 0, 0}, {fullPel, 0, 0}}, {{fullPel, 0, 0}, {halfH, 0, 0}}, {{halfH, 0, 0}, {halfH, 0, 0}}, {{fullPel, 1, 0}, {halfH, 0, 0}},
	{{fullPel, 0, 0}, {halfV, 0, 0}}, {{halfH, 0, 0}, {halfV, 0, 0}}, {{halfH, 0, 0}, {halfHV, 0, 0}}, {{halfH, 0, 0}, {halfV, 1, 0}},
	{{halfV, 0, 0}, {halfV, 0, 0}}, {{halfV, 0, 0}, {halfHV, 0, 0}}, {{halfHV, 0, 0}, {halfHV, 0, 0}}, {{halfHV, 0, 0}, {halfV, 1, 0}},
	{{fullPel, 0, 1}, {halfV, 0, 0}}, {{halfH, 0, 1}, {halfV, 0, 0}}, {{halfHV, 0, 0}, {halfH, 0, 1}}, {{halfH, 0, 1}, {halfV, 1, 0}},
}

// predictLuma fills dst, 16x16 of stride 16, for the macroblock at x, y.
func (r *reference) predictLuma(dst []uint8, x, y int, v vector) {
	q := &quarterOf[v.y&3*4+v.x&3]
	x, y = x+v.x>>2, y+v.y>>2
	a, b := &r.luma[q[0].plane], &r.luma[q[1].plane]
	ra, rb := a.at(x+q[0].dx, y+q[0].dy), b.at(x+q[1].dx, y+q[1].dy)
	for i := range 16 {
		row := (*[16]uint8)(dst[16*i:])
		sa := (*[16]uint8)(a.pix[ra+i*a.stride:])
		if q[0] == q[1] {
			*row = *sa
			continue
		}
		sb := (*[16]uint8)(b.pix[rb+i*b.stride:])
		for k := range row {
			row[k] = uint8((uint16(sa[k]) + uint16(sb[k]) + 1) >> 1)
		}
	}
}

// predictChromaInter fills dst, 8x8 of stride 8, of component c for the
// macroblock whose luma is at x, y (clause 8.4.2.2.2).
func (r *reference) predictChromaInter(dst []uint8, c, x, y int, v vector) {
	p := &r.pic.c[c]
	fx, fy := int32(v.x&7), int32(v.y&7)
	at := p.at(x/2+v.x>>3, y/2+v.y>>3)
	for i := range 8 {
		row := (*[8]uint8)(dst[8*i:])
		s0 := (*[9]uint8)(p.pix[at+i*p.stride:])
		s1 := (*[9]uint8)(p.pix[at+(i+1)*p.stride:])
		for k := range row {
			top := (8-fx)*int32(s0[k]) + fx*int32(s0[k+1])
			bottom := (8-fx)*int32(s1[k]) + fx*int32(s1[k+1])
			row[k] = uint8(((8-fy)*top + fy*bottom + 32) >> 6)
		}
	}
}
