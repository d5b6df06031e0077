package checkpoint

import (
	"encoding/binary"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// convert casts contiguous little-endian elements.
func convert(dst []byte, dt tensor.DType, src []byte, st tensor.DType) {
	switch {
	case dt == st:
		copy(dst, src)
	case dt == tensor.F32:
		widen(dst, src, st, false)
	case st == tensor.F32:
		narrow(dst, src, dt)
	default:
		var f32 [block * 4]byte
		for len(src) > 0 {
			n := min(int64(len(src))/st.Size(), block)
			widen(f32[:n*4], src[:n*st.Size()], st, true)
			narrow(dst[:n*2], f32[:n*4], dt)
			dst, src = dst[n*2:], src[n*st.Size():]
		}
	}
}

// widen casts to F32. Only F64 loses anything: it is rounded to nearest even,
// or, when a narrower type follows, to odd, so that rounding twice gives what
// rounding once would (Boldo and Melquiond, "When double rounding is odd", 2005).
func widen(dst, src []byte, st tensor.DType, odd bool) {
	le := binary.LittleEndian
	switch st {
	case tensor.BF16:
		for len(src) >= 8 && len(dst) >= 16 { // four elements in two words
			v := le.Uint64(src)
			le.PutUint64(dst, v&0xffff<<16|v>>16&0xffff<<48)
			le.PutUint64(dst[8:], v>>32&0xffff<<16|v>>48<<48)
			dst, src = dst[16:], src[8:]
		}
		for i := 0; i+2 <= len(src); i += 2 {
			le.PutUint32(dst[2*i:], uint32(le.Uint16(src[i:]))<<16)
		}
	case tensor.F16:
		for len(src) >= 2 && len(dst) >= 4 {
			le.PutUint32(dst, fromF16(uint32(le.Uint16(src))))
			dst, src = dst[4:], src[2:]
		}
	case tensor.F8E4M3:
		var table [256]uint32
		for i := range table {
			table[i] = math.Float32bits(tensor.F8E4M3ToF32(uint8(i)))
		}
		for i, b := range src {
			le.PutUint32(dst[4*i:], table[b])
		}
	case tensor.F64:
		for i := 0; i+8 <= len(src); i += 8 {
			v := math.Float64frombits(le.Uint64(src[i:]))
			bits := math.Float32bits(float32(v))
			if odd {
				bits = roundToOdd(v)
			}
			le.PutUint32(dst[i/2:], bits)
		}
	}
}

// roundToOdd returns the bits of v as F32: exact, or the neighbour whose last
// bit is 1.
func roundToOdd(v float64) uint32 {
	f := float32(v)
	bits := math.Float32bits(f)
	if float64(f) == v || v != v {
		return bits
	}
	if math.Abs(float64(f)) > math.Abs(v) {
		bits-- // towards zero, as bits are sign and magnitude
	}
	return bits | 1
}

// narrow casts F32 to BF16 or F16.
func narrow(dst, src []byte, dt tensor.DType) {
	le := binary.LittleEndian
	if dt == tensor.BF16 {
		for len(src) >= 16 && len(dst) >= 8 { // four elements in two words
			a, b := le.Uint64(src), le.Uint64(src[8:])
			le.PutUint64(dst, toBF16(uint32(a))|toBF16(uint32(a>>32))<<16|toBF16(uint32(b))<<32|toBF16(uint32(b>>32))<<48)
			dst, src = dst[8:], src[16:]
		}
		for len(src) >= 4 {
			le.PutUint16(dst, uint16(toBF16(le.Uint32(src))))
			dst, src = dst[2:], src[4:]
		}
		return
	}
	for len(src) >= 4 && len(dst) >= 2 {
		bits := le.Uint32(src)
		if abs := bits & 0x7fffffff; abs-0x38800000 < 0x477ff000-0x38800000 { // normal and not too large, as nearly all are
			le.PutUint16(dst, uint16(bits>>16&0x8000|(abs-0x38000000+0xfff+abs>>13&1)>>13))
		} else {
			le.PutUint16(dst, tensor.F32ToF16(math.Float32frombits(bits)))
		}
		dst, src = dst[2:], src[4:]
	}
}

// toBF16 is tensor.F32ToBF16 on bits.
func toBF16(bits uint32) uint64 {
	if bits&0x7fffffff > 0x7f800000 {
		return uint64(bits>>16 | 0x40)
	}
	return uint64((bits + 0x7fff + bits>>16&1) >> 16)
}

// fromF16 is tensor.F16ToF32 on bits: moved to where an F32 has them, a half is
// too small by the difference of the biases, which a product puts right, for subnormals too.
func fromF16(h uint32) uint32 {
	bits := math.Float32bits(math.Float32frombits(h&0x7fff<<13) * 0x1p112)
	if h&0x7c00 == 0x7c00 {
		bits |= 0x7f800000
	}
	return bits | h&0x8000<<16
}
