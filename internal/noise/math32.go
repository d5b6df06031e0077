package noise

import "math"

// The long path of torch's CPU generator uses the single-precision logarithm, sine and
// cosine of the Cephes library in vector form, compiled so that products
// fuse with the sums that take them. Its last bits are reproduced by the
// same polynomials, with a fused step at the same places.
// Source: S. Moshier, Cephes Math Library, single precision, logf.c and sinf.c (coefficients).

// logCoefficients approximate (ln(1+x) - x + x²/2) / x³, highest power first.
var logCoefficients = [...]float32{
	7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
	-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
}

const (
	ln2High = 0.693359375 // few bits, so that its product with an exponent is exact
	ln2Low  = -2.12194440e-4
)

// log32 is the natural logarithm of a normal x > 0.
func log32(x float32) float32 {
	bits := math.Float32bits(x)
	exponent := float32(int(bits>>23) - 126)
	x = math.Float32frombits(bits&0x7fffff | 0x3f000000) // mantissa in [1/2, 1)
	if x < math.Sqrt2/2 {
		exponent--
		x += x - 1 // exact, as is the other branch
	} else {
		x--
	}
	square := x * x
	poly := logCoefficients[0]
	for _, c := range logCoefficients[1:] {
		poly = fma32(poly, x, c)
	}
	poly *= x
	poly = fma32(poly, square, exponent*ln2Low)
	poly = fma32(-square, 0.5, poly)
	return fma32(exponent, ln2High, x+poly)
}

// quarterPi in three parts, each of so few bits that its product with a small
// integer is exact.
const (
	quarterPi1 = 0.78515625
	quarterPi2 = 2.4187564849853515625e-4
	quarterPi3 = 3.77489497744594108e-8
)

// sincos32 is the sine and cosine of x in [0, 2π].
func sincos32(x float32) (sin, cos float32) {
	octant := (int32(x*float32(4/math.Pi)) + 1) &^ 1 // nearest even multiple of π/4
	n := float32(octant)
	x = fma32(n, -quarterPi1, x)
	x = fma32(n, -quarterPi2, x)
	x = fma32(n, -quarterPi3, x)
	square := x * x

	c := fma32(float32(2.443315711809948e-5), square, -1.388731625493765e-3)
	c = fma32(c, square, 4.166664568298827e-2)
	c *= square
	c = fma32(c, square, -(square*0.5)) + 1

	s := fma32(float32(-1.9515295891e-4), square, 8.3321608736e-3)
	s = fma32(s, square, -1.6666654611e-1)
	s *= square
	s = fma32(s, x, x)

	switch octant >> 1 & 3 { // quadrant
	case 0:
		return s, c
	case 1:
		return c, -s
	case 2:
		return -s, -c
	default:
		return -c, s
	}
}

// fma32 is a*b+c rounded once. The product of two float32 is exact in
// float64; the sum is rounded to odd there, so that the second rounding, to float32,
// sees on which side of a tie the exact value lies.
// Source: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 57(4), 2008.
func fma32(a, b, c float32) float32 {
	product, addend := float64(a)*float64(b), float64(c)
	sum := product + addend
	rest := sum - product
	lost := (product - (sum - rest)) + (addend - rest)
	if lost != 0 {
		if bits := math.Float64bits(sum); bits&1 == 0 {
			if (lost > 0) == (sum > 0) {
				bits++
			} else {
				bits--
			}
			sum = math.Float64frombits(bits)
		}
	}
	return float32(sum)
}
