package h264

// zigzag maps scan position to raster position in a 4x4 block (clause 8.5.6).
var zigzag = [16]uint8{0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15}

// Scale factors by qp%6 and by kind of position: both coordinates even, both
// odd, mixed. normAdjust is v of equation 8-314; quantScale is its counterpart,
// 2^21 / (v * norm of the basis functions), rounded.
var (
	normAdjust = [6][3]int32{{10, 16, 13}, {11, 18, 14}, {13, 20, 16}, {14, 23, 18}, {16, 25, 20}, {18, 29, 23}}
	quantScale = [6][3]int32{
		{13107, 5243, 8066}, {11916, 4660, 7490}, {10082, 4194, 6554},
		{9362, 3647, 5825}, {8192, 3355, 5243}, {7282, 2893, 4559},
	}
)

// chromaQP is Table 8-15 from luma qp 30 on; below it the two are equal.
var chromaQP = [22]uint8{29, 30, 31, 32, 32, 33, 34, 34, 35, 35, 36, 36, 37, 37, 37, 38, 38, 38, 39, 39, 39, 39}

func chromaQPOf(qp int) int {
	if qp < 30 {
		return qp
	}
	return int(chromaQP[qp-30])
}

// block is a 4x4 block of residuals or coefficients, raster order.
type block [16]int32

// levels are quantised coefficients in scan order.
type levels [16]int32

// quantizer holds what one qp needs.
type quantizer struct {
	qp      int
	shift   uint
	scale   block // forward, by raster position
	dequant block // inverse, already shifted by qp/6
}

func newQuantizer(qp int) quantizer {
	q := quantizer{qp: qp, shift: uint(15 + qp/6)}
	for i := range q.scale {
		kind := 2
		switch x, y := i&3, i>>2; {
		case x&1 == 0 && y&1 == 0:
			kind = 0
		case x&1 == 1 && y&1 == 1:
			kind = 1
		}
		q.scale[i] = quantScale[qp%6][kind]
		q.dequant[i] = normAdjust[qp%6][kind] << uint(qp/6)
	}
	return q
}

// deadZone is the divisor of the rounding offset: a coefficient is rounded up
// from 1-1/deadZone of a step on. Inter residuals are mostly noise, so they get
// the wider zone.
const (
	deadZoneIntra = 3
	deadZoneInter = 6
)

func quantOne(x, scale, bias int32, shift uint) int32 {
	if x < 0 {
		return -((-x*scale + bias) >> shift)
	}
	return (x*scale + bias) >> shift
}

// quantize turns coefficients into levels from scan position first on (1 where
// the DC is coded apart) and returns how many are not zero.
func (q *quantizer) quantize(c *block, out *levels, first int, deadZone int32) int {
	bias := int32(1) << q.shift / deadZone
	nonZero := 0
	out[0] = 0
	for i := first; i < 16; i++ {
		p := zigzag[i]
		v := quantOne(c[p], q.scale[p], bias, q.shift)
		out[i] = v
		if v != 0 {
			nonZero++
		}
	}
	return nonZero
}

// restore is the inverse of quantize (clause 8.5.12.1, flat scaling lists). It
// leaves c[0] alone when first is 1.
func (q *quantizer) restore(l *levels, c *block, first int) {
	for i := first; i < 16; i++ {
		p := zigzag[i]
		c[p] = l[i] * q.dequant[p]
	}
}

// forward is the core transform of the encoder, the transpose of inverseAdd.
func forward(b *block) {
	for i := 0; i < 16; i += 4 {
		s03, d03 := b[i]+b[i+3], b[i]-b[i+3]
		s12, d12 := b[i+1]+b[i+2], b[i+1]-b[i+2]
		b[i], b[i+1], b[i+2], b[i+3] = s03+s12, 2*d03+d12, s03-s12, d03-2*d12
	}
	for i := 0; i < 4; i++ {
		s03, d03 := b[i]+b[i+12], b[i]-b[i+12]
		s12, d12 := b[i+4]+b[i+8], b[i+4]-b[i+8]
		b[i], b[i+4], b[i+8], b[i+12] = s03+s12, 2*d03+d12, s03-s12, d03-2*d12
	}
}

// inverseAdd writes prediction plus the inverse transform of c (clause
// 8.5.12.2) to dst; both are 4x4 with their strides.
func inverseAdd(c *block, pred []uint8, predStride int, dst []uint8, dstStride int) {
	var t block
	for i := 0; i < 16; i += 4 {
		e, f := c[i]+c[i+2], c[i]-c[i+2]
		g, h := c[i+1]>>1-c[i+3], c[i+1]+c[i+3]>>1
		t[i], t[i+1], t[i+2], t[i+3] = e+h, f+g, f-g, e-h
	}
	for i := 0; i < 4; i++ {
		e, f := t[i]+t[i+8], t[i]-t[i+8]
		g, h := t[i+4]>>1-t[i+12], t[i+4]+t[i+12]>>1
		t[i], t[i+4], t[i+8], t[i+12] = e+h, f+g, f-g, e-h
	}
	for y := 0; y < 4; y++ {
		p := pred[y*predStride : y*predStride+4 : y*predStride+4]
		d := dst[y*dstStride : y*dstStride+4 : y*dstStride+4]
		for x := range d {
			d[x] = clip8(int32(p[x]) + (t[4*y+x]+32)>>6)
		}
	}
}

func clip8(v int32) uint8 {
	if uint32(v) > 255 {
		if v < 0 {
			return 0
		}
		return 255
	}
	return uint8(v)
}

// hadamard4 is the 4x4 Hadamard transform of the luma DC values; it is its own
// transpose.
func hadamard4(b *block) {
	for i := 0; i < 16; i += 4 {
		s01, d01 := b[i]+b[i+1], b[i]-b[i+1]
		s23, d23 := b[i+2]+b[i+3], b[i+2]-b[i+3]
		b[i], b[i+1], b[i+2], b[i+3] = s01+s23, s01-s23, d01-d23, d01+d23
	}
	for i := 0; i < 4; i++ {
		s01, d01 := b[i]+b[i+4], b[i]-b[i+4]
		s23, d23 := b[i+8]+b[i+12], b[i+8]-b[i+12]
		b[i], b[i+4], b[i+8], b[i+12] = s01+s23, s01-s23, d01-d23, d01+d23
	}
}

// quantizeLumaDC quantises the DC values of the 16 blocks of an I16x16
// macroblock, which come in raster order.
func (q *quantizer) quantizeLumaDC(dc block, out *levels) int {
	hadamard4(&dc)
	bias := 2 * (int32(1) << q.shift / deadZoneIntra)
	nonZero := 0
	for i, p := range zigzag {
		out[i] = quantOne((dc[p]+1)>>1, q.scale[0], bias, q.shift+1)
		if out[i] != 0 {
			nonZero++
		}
	}
	return nonZero
}

// restoreLumaDC is clause 8.5.10: levels to DC coefficients, raster order.
func (q *quantizer) restoreLumaDC(l *levels) (dc block) {
	for i, p := range zigzag {
		dc[p] = l[i]
	}
	hadamard4(&dc)
	scale := 16 * normAdjust[q.qp%6][0]
	for i, v := range dc {
		if q.qp >= 36 {
			dc[i] = v * scale << uint(q.qp/6-6)
		} else {
			dc[i] = (v*scale + 1<<uint(5-q.qp/6)) >> uint(6-q.qp/6)
		}
	}
	return dc
}

func hadamard2(d [4]int32) [4]int32 {
	return [4]int32{d[0] + d[1] + d[2] + d[3], d[0] - d[1] + d[2] - d[3], d[0] + d[1] - d[2] - d[3], d[0] - d[1] - d[2] + d[3]}
}

func (q *quantizer) quantizeChromaDC(dc [4]int32, out *levels, deadZone int32) int {
	bias := 2 * (int32(1) << q.shift / deadZone)
	nonZero := 0
	for i, v := range hadamard2(dc) {
		out[i] = quantOne(v, q.scale[0], bias, q.shift+1)
		if out[i] != 0 {
			nonZero++
		}
	}
	return nonZero
}

// restoreChromaDC is clause 8.5.11.
func (q *quantizer) restoreChromaDC(l *levels) [4]int32 {
	dc := hadamard2([4]int32{l[0], l[1], l[2], l[3]})
	scale := 16 * normAdjust[q.qp%6][0]
	for i, v := range dc {
		dc[i] = v * scale << uint(q.qp/6) >> 5
	}
	return dc
}
