package picture

// Chroma upsampling and colour, row by row, as libjpeg-turbo computes them with
// its defaults ("fancy" upsampling).

// toRGB makes the picture from the planes.
func (d *jpegDecoder) toRGB() (*RGB, error) {
	p := newRGB(d.w, d.h)
	convert := d.colorConversion()
	rows := make([][]uint8, len(d.comps))
	for i := range rows {
		// Whole samples are expanded: up to 3 more than the picture is wide.
		rows[i] = make([]uint8, d.comps[i].w*d.comps[i].hExpand)
	}
	in := make([][]uint8, len(d.comps))
	for y := range d.h {
		for i := range d.comps {
			in[i] = d.comps[i].upsampledRow(rows[i], y)
		}
		convert(p.Pix[y*d.w*3:(y+1)*d.w*3], in)
	}
	return p, nil
}

// row returns the component's sample row y, the nearest one if there is none:
// libjpeg repeats the first and the last row that belong to the picture.
func (c *jpegComponent) row(y int) []uint8 {
	y = max(0, min(y, c.hh-1))
	stride := c.paddedX * 8
	return c.plane[y*stride : y*stride+c.w]
}

// upsampledRow returns the component at full resolution in picture row y; it may
// be dst or the plane itself.
func (c *jpegComponent) upsampledRow(dst []uint8, y int) []uint8 {
	// The triangle filter across columns needs three of them; libjpeg repeats
	// samples below that, and then also down the rows.
	wide := c.w > 2
	switch {
	case c.hExpand == 1 && c.vExpand == 1:
		return c.row(y)
	case c.hExpand == 2 && c.vExpand == 1 && wide:
		upsampleH2V1(dst, c.row(y))
	case c.hExpand == 1 && c.vExpand == 2:
		upsampleH1V2(dst, c.row(y/2), c.row(y/2+2*(y&1)-1), int32(1+y&1))
	case c.hExpand == 2 && c.vExpand == 2 && wide:
		upsampleH2V2(dst, c.row(y/2), c.row(y/2+2*(y&1)-1))
	default:
		in := c.row(y / c.vExpand)
		for x, s := range in {
			for i := range c.hExpand {
				dst[x*c.hExpand+i] = s
			}
		}
	}
	return dst
}

// upsampleH2V1 doubles the width: 3/4 of the nearer sample and 1/4 of the
// farther one. Rounding alternates so that there is no bias.
func upsampleH2V1(dst, in []uint8) {
	n := len(in)
	dst = dst[:2*n]
	for x := 1; x < n-1; x++ {
		s := 3 * int32(in[x])
		dst[2*x] = uint8((s + int32(in[x-1]) + 1) >> 2)
		dst[2*x+1] = uint8((s + int32(in[x+1]) + 2) >> 2)
	}
	dst[0] = in[0]
	dst[1] = uint8((3*int32(in[0]) + int32(in[1]) + 2) >> 2)
	dst[2*n-2] = uint8((3*int32(in[n-1]) + int32(in[n-2]) + 1) >> 2)
	dst[2*n-1] = in[n-1]
}

// upsampleH1V2 is one row of a doubled height; bias is 1 in the upper row of a
// pair and 2 in the lower one.
func upsampleH1V2(dst, near, far []uint8, bias int32) {
	for x, s := range near {
		dst[x] = uint8((3*int32(s) + int32(far[x]) + bias) >> 2)
	}
}

// upsampleH2V2 is one row of the doubled width and height.
func upsampleH2V2(dst, near, far []uint8) {
	n := len(near)
	dst, far = dst[:2*n], far[:n]
	this := 3*int32(near[0]) + int32(far[0])
	next := 3*int32(near[1]) + int32(far[1])
	dst[0] = uint8((4*this + 8) >> 4)
	dst[1] = uint8((3*this + next + 7) >> 4)
	last := this
	for x := 1; x < n-1; x++ {
		this = next
		next = 3*int32(near[x+1]) + int32(far[x+1])
		dst[2*x] = uint8((3*this + last + 8) >> 4)
		dst[2*x+1] = uint8((3*this + next + 7) >> 4)
		last = this
	}
	dst[2*n-2] = uint8((3*next + last + 8) >> 4)
	dst[2*n-1] = uint8((4*next + 7) >> 4)
}

// colorConversion chooses by libjpeg's rules: JFIF and Adobe markers first,
// then the components' identifiers.
func (d *jpegDecoder) colorConversion() func(dst []uint8, in [][]uint8) {
	switch len(d.comps) {
	case 1:
		return grayRow
	case 3:
		ids := [3]uint8{d.comps[0].id, d.comps[1].id, d.comps[2].id}
		if !d.jfif && (d.adobe && d.transform == 0 || !d.adobe && ids == [3]uint8{'R', 'G', 'B'}) {
			return rgbRow
		}
		return yccRow
	}
	if d.adobe && d.transform != 0 {
		return ycckRow
	}
	return cmykRow
}

// The YCbCr to RGB conversion in 16-bit fixed point.
var crToR, cbToB, crToG, cbToG = func() (rr, bb, rg, bg [256]int32) {
	const half = 1 << 15
	fix := func(x float64) int32 { return int32(x*65536 + 0.5) }
	for i := range int32(256) {
		x := i - 128
		rr[i] = (fix(1.40200)*x + half) >> 16
		bb[i] = (fix(1.77200)*x + half) >> 16
		rg[i] = -fix(0.71414) * x
		bg[i] = -fix(0.34414)*x + half
	}
	return
}()

func yccToRGB(y, cb, cr uint8) (r, g, b uint8) {
	return clamp8(int32(y) + crToR[cr]), clamp8(int32(y) + (cbToG[cb]+crToG[cr])>>16), clamp8(int32(y) + cbToB[cb])
}

func clamp8(v int32) uint8 {
	if uint32(v) > 255 {
		if v < 0 {
			return 0
		}
		return 255
	}
	return uint8(v)
}

func grayRow(dst []uint8, in [][]uint8) {
	for x, s := range in[0][:len(dst)/3] {
		dst[3*x], dst[3*x+1], dst[3*x+2] = s, s, s
	}
}

func rgbRow(dst []uint8, in [][]uint8) {
	for x := range len(dst) / 3 {
		dst[3*x], dst[3*x+1], dst[3*x+2] = in[0][x], in[1][x], in[2][x]
	}
}

func yccRow(dst []uint8, in [][]uint8) {
	n := len(dst) / 3
	ys, cbs, crs := in[0][:n], in[1][:n], in[2][:n]
	for x := range n {
		r, g, b := yccToRGB(ys[x], cbs[x], crs[x])
		o := dst[3*x : 3*x+3 : 3*x+3]
		o[0], o[1], o[2] = r, g, b
	}
}

// cmykRow takes the stored values as inverted, as Adobe stores them and Pillow
// always assumes: 255 is no ink.
func cmykRow(dst []uint8, in [][]uint8) {
	for x := range len(dst) / 3 {
		cmykPixel(dst[3*x:3*x+3], in[0][x], in[1][x], in[2][x], in[3][x])
	}
}

// ycckRow is cmykRow of 255 less the RGB that the first three components give.
func ycckRow(dst []uint8, in [][]uint8) {
	for x := range len(dst) / 3 {
		r, g, b := yccToRGB(in[0][x], in[1][x], in[2][x])
		cmykPixel(dst[3*x:3*x+3], 255-r, 255-g, 255-b, in[3][x])
	}
}

func cmykPixel(dst []uint8, c, m, y, k uint8) {
	light := int32(k)
	for i, stored := range [3]uint8{c, m, y} {
		// Pillow: light - ink*light/255, the quotient rounded by this formula.
		t := (255-int32(stored))*light + 128
		dst[i] = clamp8(light - ((t>>8)+t)>>8)
	}
}
