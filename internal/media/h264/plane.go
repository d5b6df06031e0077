package h264

// border is how far a luma plane reaches beyond the picture on each side, the
// edge samples repeated, so that motion vectors may point outside.
const border = 32

// plane is one component of a picture with room around it.
type plane struct {
	pix    []uint8
	w, h   int
	stride int
	border int
}

func newPlane(w, h, border int) plane {
	stride := w + 2*border
	return plane{make([]uint8, stride*(h+2*border)), w, h, stride, border}
}

// at is the index in pix of sample x, y; both may be negative down to -border.
func (p *plane) at(x, y int) int { return (y+p.border)*p.stride + x + p.border }

// from is the plane's samples from x, y on.
func (p *plane) from(x, y int) []uint8 { return p.pix[p.at(x, y):] }

// padRows repeats the edge samples of rows [y0, y1) to both sides, and those of
// the first and the last row into the border above and below.
func (p *plane) padRows(y0, y1 int) {
	for y := y0; y < y1; y++ {
		row := p.pix[p.at(-p.border, y):][:p.stride]
		for x := range p.border {
			row[x] = row[p.border]
			row[p.border+p.w+x] = row[p.border+p.w-1]
		}
		for i := 1; i <= p.border; i++ {
			if y == 0 {
				copy(p.pix[p.at(-p.border, -i):][:p.stride], row)
			}
			if y == p.h-1 {
				copy(p.pix[p.at(-p.border, y+i):][:p.stride], row)
			}
		}
	}
}

// picture is a 4:2:0 picture: luma, Cb, Cr.
type picture struct {
	y plane
	c [2]plane
}

func newPicture(w, h, border int) *picture {
	return &picture{
		y: newPlane(w, h, border),
		c: [2]plane{newPlane(w/2, h/2, border/2), newPlane(w/2, h/2, border/2)},
	}
}
