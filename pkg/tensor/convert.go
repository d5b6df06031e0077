package tensor

import (
	"math"
	"unsafe"
)

// FloatBytes returns the bytes of s without copying, in the machine's order,
// which is little-endian on every platform that wanrun supports.
func FloatBytes(s []float32) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*4)
}

// BF16ToF32 widens a bfloat16, exactly.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 rounds to the nearest bfloat16, ties to even; a NaN stays a NaN.
func F32ToBF16(f float32) uint16 {
	bits := math.Float32bits(f)
	if bits&0x7fffffff > 0x7f800000 {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// F16ToF32 widens an IEEE half, exactly.
func F16ToF32(h uint16) float32 {
	sign, exp, frac := uint32(h&0x8000)<<16, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	default:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
}

// F32ToF16 rounds to the nearest IEEE half, ties to even; too large becomes
// infinite and a NaN stays a NaN.
func F32ToF16(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	abs := bits & 0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00
	case abs >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case abs >= 0x38800000: // normal
		return sign | uint16((abs-0x38000000+0xfff+abs>>13&1)>>13)
	case abs < 0x33000000: // below half the smallest subnormal
		return sign
	}
	shift := 126 - abs>>23 // subnormal: shift the full mantissa down, to even
	frac := abs&0x7fffff | 0x800000
	half := uint32(1) << (shift - 1)
	return sign | uint16((frac+half-1+frac>>shift&1)>>shift)
}

// F8E4M3ToF32 widens an 8-bit float of the OCP E4M3 format, exactly.
func F8E4M3ToF32(b uint8) float32 {
	sign, exp, frac := uint32(b&0x80)<<24, uint32(b>>3&0xf), uint32(b&7)
	switch {
	case exp == 15 && frac == 7:
		return math.Float32frombits(sign | 0x7fc00000)
	case exp == 0: // frac * 2^-9
		f := float32(frac) * (1.0 / (1 << 9))
		return math.Float32frombits(math.Float32bits(f) | sign)
	default:
		return math.Float32frombits(sign | (exp+120)<<23 | frac<<20)
	}
}
