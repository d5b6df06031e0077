package tensor

import (
	"errors"
	"fmt"
)

// ErrShape marks a wrong shape, element type or argument of an op.
var ErrShape = errors.New("shape mismatch")

// DType is the type of a tensor's elements.
type DType uint8

// The element types. Ops compute on F32, BF16 and F16 (accumulating in F32)
// and produce U8 pictures; the others occur only in checkpoints.
const (
	Invalid DType = iota
	F32
	BF16
	F16
	F8E4M3
	F64
	I64
	I32
	I16
	I8
	U8
	Bool
)

var dtypeNames = [...]string{"invalid", "F32", "BF16", "F16", "F8_E4M3", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL"}
var dtypeSizes = [...]int64{0, 4, 2, 2, 1, 8, 8, 4, 2, 1, 1, 1}

// String returns the type's name as safetensors files spell it.
func (d DType) String() string {
	if int(d) >= len(dtypeNames) {
		return fmt.Sprintf("dtype(%d)", uint8(d))
	}
	return dtypeNames[d]
}

// Size returns the bytes of one element, 0 for an unknown type.
func (d DType) Size() int64 {
	if int(d) >= len(dtypeSizes) {
		return 0
	}
	return dtypeSizes[d]
}

// IsCompute reports whether ops compute on the type.
func (d DType) IsCompute() bool { return d == F32 || d == BF16 || d == F16 }

// ParseDType returns the type with the safetensors name s.
func ParseDType(s string) (DType, error) {
	for i, name := range dtypeNames {
		if i > 0 && name == s {
			return DType(i), nil
		}
	}
	return Invalid, fmt.Errorf("unknown dtype %q", s)
}
