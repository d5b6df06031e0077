package generate

import (
	"encoding/binary"
	"errors"
	"math"
)

var errStop = errors.New("stopped by the test")

func (a array) floats() []float32 {
	x := make([]float32, len(a.data)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(a.data[4*i:]))
	}
	return x
}

func (a array) int64s() []int64 {
	x := make([]int64, len(a.data)/8)
	for i := range x {
		x[i] = int64(binary.LittleEndian.Uint64(a.data[8*i:]))
	}
	return x
}
