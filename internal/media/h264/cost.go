package h264

// sad is the sum of absolute differences of two 16x16 blocks; it stops after a
// row once it is above limit.
func sad(a []uint8, strideA int, b []uint8, strideB int, limit int) int {
	sum := 0
	for y := range 16 {
		ra, rb := (*[16]uint8)(a[y*strideA:]), (*[16]uint8)(b[y*strideB:])
		for x := range ra {
			d := int(ra[x]) - int(rb[x])
			m := d >> 63
			sum += (d ^ m) - m
		}
		if sum > limit {
			break
		}
	}
	return sum
}

// satd4 is half the sum of absolute Hadamard coefficients of a 4x4 difference:
// close to what the transform will have to code.
func satd4(a []uint8, strideA int, b []uint8, strideB int) int {
	var t [16]int32
	for y := range 4 {
		ra, rb := (*[4]uint8)(a[y*strideA:]), (*[4]uint8)(b[y*strideB:])
		d0, d1 := int32(ra[0])-int32(rb[0]), int32(ra[1])-int32(rb[1])
		d2, d3 := int32(ra[2])-int32(rb[2]), int32(ra[3])-int32(rb[3])
		s01, m01, s23, m23 := d0+d1, d0-d1, d2+d3, d2-d3
		t[4*y], t[4*y+1], t[4*y+2], t[4*y+3] = s01+s23, m01+m23, s01-s23, m01-m23
	}
	sum := int32(0)
	for x := range 4 {
		s01, m01 := t[x]+t[4+x], t[x]-t[4+x]
		s23, m23 := t[8+x]+t[12+x], t[8+x]-t[12+x]
		sum += abs32(s01+s23) + abs32(m01+m23) + abs32(s01-s23) + abs32(m01-m23)
	}
	return int(sum+1) / 2
}

func abs32(v int32) int32 {
	m := v >> 31
	return (v ^ m) - m
}

// satd adds satd4 over a square block of size samples a side.
func satd(a []uint8, strideA int, b []uint8, strideB, size int) int {
	sum := 0
	for y := 0; y < size; y += 4 {
		for x := 0; x < size; x += 4 {
			sum += satd4(a[y*strideA+x:], strideA, b[y*strideB+x:], strideB)
		}
	}
	return sum
}

// lambdaOf is what a bit costs in units of satd: 2^((qp-12)/6), at least one.
func lambdaOf(qp int) int {
	l := [6]int{8, 9, 10, 11, 13, 14}[qp%6] << uint(qp/6) / 4 // 2^(qp/6) * 8/4
	return max(1, (l+4)/8)
}
