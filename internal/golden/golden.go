// Package golden loads reference tensors for tests and compares results with
// them. Only tests import it: the readers that the program uses are elsewhere,
// so that a fault in one cannot hide itself by being in the other too.
package golden

import (
	"os"
	"testing"
)

// Tensor is one entry of a reference file, row-major.
//
// Floating-point entries fill F32: BF16 and F16 are widened exactly, F64 is
// rounded to the nearest float32. Integer entries wider than a byte (I64, I32)
// fill I64; U8 and BOOL fill U8. The other slices are nil.
type Tensor struct {
	Shape []int
	DType string // as the file says: F32, F64, BF16, F16, I64, I32, U8, BOOL
	F32   []float32
	I64   []int64
	U8    []uint8
}

// Len is the number of elements.
func (e Tensor) Len() int {
	n := 1
	for _, d := range e.Shape {
		n *= d
	}
	return n
}

// Load reads the safetensors file at path, all of it, and ends the test when
// it cannot.
func Load(t testing.TB, path string) map[string]Tensor {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("load reference tensors: %v", err)
	}
	tensors, err := parse(data)
	if err != nil {
		t.Fatalf("load reference tensors from %s: %v", path, err)
	}
	return tensors
}
