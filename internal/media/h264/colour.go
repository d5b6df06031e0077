package h264

// BT.601 in limited range, 16 bit fixed point: 219/255 and 224/255 of the
// weights .299, .587, .114. The chroma rows add up to zero, so grey stays grey.
const (
	yR, yG, yB    = 16829, 33039, 6416
	cbR, cbG, cbB = -9714, -19070, 28784
	crR, crG, crB = 28784, -24103, -4681
)

// convertRows fills rows [y0, y1) of p, both even, from an RGB picture of
// w x h samples, 3 bytes each; p may be larger, and is then filled with the
// picture's last column and row. Chroma is taken where H.264 decoders put it
// by default: between two rows, in line with the even columns.
func convertRows(p *picture, rgb []byte, w, h, y0, y1 int) {
	for y := y0; y < y1; y += 2 {
		rowA := rgb[min(y, h-1)*w*3:][:w*3]
		rowB := rgb[min(y+1, h-1)*w*3:][:w*3]
		lumaRow(p.y.from(0, y)[:p.y.w], rowA)
		lumaRow(p.y.from(0, y+1)[:p.y.w], rowB)
		chromaRow(p.c[0].from(0, y/2)[:p.c[0].w], p.c[1].from(0, y/2)[:p.c[1].w], rowA, rowB)
	}
}

func lumaRow(dst []uint8, rgb []byte) {
	n := len(rgb) / 3
	for x := range min(n, len(dst)) {
		s := rgb[3*x : 3*x+3 : 3*x+3]
		dst[x] = uint8((yR*int32(s[0]) + yG*int32(s[1]) + yB*int32(s[2]) + 16<<16 + 1<<15) >> 16)
	}
	for x := n; x < len(dst); x++ {
		dst[x] = dst[n-1]
	}
}

// chromaRow weighs the columns 1 2 1 and the two rows 1 1.
func chromaRow(cb, cr []uint8, a, b []byte) {
	n := len(a) / 3
	sum := func(x, i int) int32 { return int32(a[3*x+i]) + int32(b[3*x+i]) }
	for c := range cb {
		x := min(2*c, n-1)
		l, r := max(x-1, 0), min(x+1, n-1)
		red := sum(l, 0) + 2*sum(x, 0) + sum(r, 0)
		green := sum(l, 1) + 2*sum(x, 1) + sum(r, 1)
		blue := sum(l, 2) + 2*sum(x, 2) + sum(r, 2)
		cb[c] = uint8((cbR*red + cbG*green + cbB*blue + 128<<19 + 1<<18) >> 19)
		cr[c] = uint8((crR*red + crG*green + crB*blue + 128<<19 + 1<<18) >> 19)
	}
}
