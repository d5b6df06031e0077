package engine

import (
	"encoding/binary"
	"math"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// reducer puts the reduction of parts, in their order, into dst. All have the
// same length; dst may be one of them.
type reducer func(dst []byte, parts [][]byte, r comm.Reduction)

var le = binary.LittleEndian

// reducers are the types that can be reduced. The 16-bit floats accumulate in F32
// and round once.
var reducers = map[tensor.DType]reducer{
	tensor.F32: reduceBy(4, addOrMax[float32],
		func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) },
		func(b []byte, v float32) { le.PutUint32(b, math.Float32bits(v)) }),
	tensor.F64: reduceBy(8, addOrMax[float64],
		func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) },
		func(b []byte, v float64) { le.PutUint64(b, math.Float64bits(v)) }),
	tensor.BF16: reduceBy(2, addOrMax[float32],
		func(b []byte) float32 { return tensor.BF16ToF32(le.Uint16(b)) },
		func(b []byte, v float32) { le.PutUint16(b, tensor.F32ToBF16(v)) }),
	tensor.F16: reduceBy(2, addOrMax[float32],
		func(b []byte) float32 { return tensor.F16ToF32(le.Uint16(b)) },
		func(b []byte, v float32) { le.PutUint16(b, tensor.F32ToF16(v)) }),
	tensor.I32: reduceBy(4, addOrMax[int32],
		func(b []byte) int32 { return int32(le.Uint32(b)) },
		func(b []byte, v int32) { le.PutUint32(b, uint32(v)) }),
	tensor.I64: reduceBy(8, addOrMax[int64],
		func(b []byte) int64 { return int64(le.Uint64(b)) },
		func(b []byte, v int64) { le.PutUint64(b, uint64(v)) }),
}

type number interface {
	float32 | float64 | int32 | int64
}

// addOrMax keeps a NaN in a max, from whichever side, as a sum would.
func addOrMax[E number](a, b E, r comm.Reduction) E {
	if r == comm.Sum {
		return a + b
	}
	if b > a || b != b {
		return b
	}
	return a
}

func reduceBy[E number](size int, join func(a, b E, r comm.Reduction) E, load func([]byte) E, store func([]byte, E)) reducer {
	return func(dst []byte, parts [][]byte, r comm.Reduction) {
		for i := 0; i < len(dst); i += size {
			acc := load(parts[0][i:])
			for _, part := range parts[1:] {
				acc = join(acc, load(part[i:]), r)
			}
			store(dst[i:], acc)
		}
	}
}
