package picture

// libjpeg's accurate integer inverse DCT ("islow", after Loeffler, Ligtenberg
// and Moschytz): 13-bit constants, two more bits kept between the passes. Sums
// that the SIMD versions hold in 16 bits wrap here as they do there, and results
// saturate, so that damaged or extreme data give the same picture, too.

const (
	constBits = 13
	pass1Bits = 2
)

// The constants in units of 2^-13.
const (
	fix0298 = 2446
	fix0390 = 3196
	fix0541 = 4433
	fix0765 = 6270
	fix0899 = 7373
	fix1175 = 9633
	fix1501 = 12299
	fix1847 = 15137
	fix1961 = 16069
	fix2053 = 16819
	fix2562 = 20995
	fix3072 = 25172
)

// inverseDCT turns the collected coefficients into samples and frees them. It
// does nothing for a component that was decoded in one pass.
func (c *jpegComponent) inverseDCT() {
	if c.coef == nil {
		return
	}
	stride := c.paddedX * 8
	for y := range c.paddedY {
		for x := range c.paddedX {
			at := (y*c.paddedX + x) * 64
			idctBlock((*[64]int16)(c.coef[at:at+64]), c.quant, 63, c.plane[y*8*stride+x*8:], stride)
		}
	}
	c.coef = nil
}

// idctBlock writes the 8 x 8 samples of one block to dst, rows stride apart.
// last bounds the zigzag index of the coefficients that are not zero.
func idctBlock(b *[64]int16, q *[64]uint16, last int, dst []uint8, stride int) {
	if last == 0 {
		dc := int16(b[0]*int16(q[0])) << pass1Bits
		s := sample((int32(dc) + 1<<(pass1Bits+2)) >> (pass1Bits + 3))
		for y := range 8 {
			row := dst[y*stride : y*stride+8]
			for x := range row {
				row[x] = s
			}
		}
		return
	}
	var ws [64]int16
	acs := int16(0)
	for x := range 8 {
		acs = b[8+x] | b[16+x] | b[24+x] | b[32+x] | b[40+x] | b[48+x] | b[56+x]
		if acs != 0 {
			break
		}
	}
	for x := range 8 {
		in0 := b[x] * int16(q[x])
		if acs == 0 || b[8+x]|b[16+x]|b[24+x]|b[32+x]|b[40+x]|b[48+x]|b[56+x] == 0 {
			var v int16
			if acs == 0 {
				v = in0 << pass1Bits // the SIMD shortcut wraps
			} else {
				v = saturate16(int32(in0) << pass1Bits)
			}
			for y := range 8 {
				ws[8*y+x] = v
			}
			continue
		}
		o := idct8(in0, b[8+x]*int16(q[8+x]), b[16+x]*int16(q[16+x]), b[24+x]*int16(q[24+x]),
			b[32+x]*int16(q[32+x]), b[40+x]*int16(q[40+x]), b[48+x]*int16(q[48+x]), b[56+x]*int16(q[56+x]))
		for y, v := range o {
			ws[8*y+x] = saturate16((v + 1<<(constBits-pass1Bits-1)) >> (constBits - pass1Bits))
		}
	}
	for y := range 8 {
		w := (*[8]int16)(ws[8*y : 8*y+8])
		row := (*[8]uint8)(dst[y*stride : y*stride+8])
		o := idct8(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])
		for x, v := range o {
			row[x] = sample((v + 1<<(constBits+pass1Bits+2)) >> (constBits + pass1Bits + 3))
		}
	}
}

// idct8 is the one-dimensional transform, results scaled by 2^13 sqrt(8).
func idct8(i0, i1, i2, i3, i4, i5, i6, i7 int16) [8]int32 {
	// Even part.
	tmp2 := int32(i2)*fix0541 + int32(i6)*(fix0541-fix1847)
	tmp3 := int32(i2)*(fix0541+fix0765) + int32(i6)*fix0541
	tmp0 := int32(i0+i4) << constBits
	tmp1 := int32(i0-i4) << constBits
	t10, t13 := tmp0+tmp3, tmp0-tmp3
	t11, t12 := tmp1+tmp2, tmp1-tmp2

	// Odd part.
	z3, z4 := int32(i7+i3), int32(i5+i1)
	y3 := z3*(fix1175-fix1961) + z4*fix1175
	y4 := z3*fix1175 + z4*(fix1175-fix0390)
	a0 := int32(i7)*(fix0298-fix0899) - int32(i1)*fix0899 + y3
	a1 := int32(i5)*(fix2053-fix2562) - int32(i3)*fix2562 + y4
	a2 := int32(i3)*(fix3072-fix2562) - int32(i5)*fix2562 + y3
	a3 := int32(i1)*(fix1501-fix0899) - int32(i7)*fix0899 + y4

	return [8]int32{t10 + a3, t11 + a2, t12 + a1, t13 + a0, t13 - a0, t12 - a1, t11 - a2, t10 - a3}
}

func saturate16(v int32) int16 {
	return int16(max(-1<<15, min(v, 1<<15-1)))
}

// sample shifts a value around 0 to 0..255, saturating.
func sample(v int32) uint8 {
	v += 128
	if uint32(v) > 255 {
		if v < 0 {
			return 0
		}
		return 255
	}
	return uint8(v)
}
