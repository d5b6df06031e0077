package kernels

import (
	"encoding/binary"
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

var allTypes = []Type{F32, BF16, F16}

func (t Type) String() string { return [...]string{"f32", "bf16", "f16"}[t] }

// encode rounds v to d, in place too, and returns the bytes.
func encode(d Type, v []float64) []byte {
	var out []byte
	for i, x := range v {
		f := float32(x)
		switch d {
		case F32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(f))
		case BF16:
			b := tensor.F32ToBF16(f)
			f = tensor.BF16ToF32(b)
			out = binary.LittleEndian.AppendUint16(out, b)
		case F16:
			b := tensor.F32ToF16(f)
			f = tensor.F16ToF32(b)
			out = binary.LittleEndian.AppendUint16(out, b)
		}
		v[i] = float64(f)
	}
	return out
}

func decode(d Type, b []byte) float64 {
	switch d {
	case BF16:
		return float64(tensor.BF16ToF32(binary.LittleEndian.Uint16(b)))
	case F16:
		return float64(tensor.F16ToF32(binary.LittleEndian.Uint16(b)))
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
}
