package tensor

import "fmt"

// Memory is a piece of device or host memory that a Backend reserved. Its
// concrete type is the backend's own.
type Memory interface {
	// Bytes is the size of the reservation.
	Bytes() int64
	// Release gives the memory back. It is called once, by the owner.
	Release() error
}

// Tensor is a contiguous row-major view of arena memory: a small value, copied
// freely, that owns nothing. The zero Tensor is "none"; it stands for an
// omitted argument and for the result of a failed op.
type Tensor struct {
	shape  Shape
	dtype  DType
	mem    Memory
	offset int64 // bytes from the start of mem
	packed int64 // bytes of a backend's packed weight layout, 0 for row-major
}

// New returns a tensor over mem from byte offset on. It is for arenas,
// backends and tests; model code gets its tensors from Ops.
func New(mem Memory, offset int64, d DType, shape Shape) Tensor {
	return Tensor{shape: shape, dtype: d, mem: mem, offset: offset}
}

// IsNone reports whether t is the zero Tensor.
func (t Tensor) IsNone() bool { return t.dtype == Invalid }

// Shape returns the dims; the caller must not change them.
func (t Tensor) Shape() Shape { return t.shape }

// Rank returns the number of dims.
func (t Tensor) Rank() int { return len(t.shape) }

// Dim returns dim i, counted from the end when negative. It returns 0 where
// there is none, so that sizes can be read after a failed op.
func (t Tensor) Dim(i int) int {
	if i < 0 {
		i += len(t.shape)
	}
	if i < 0 || i >= len(t.shape) {
		return 0
	}
	return t.shape[i]
}

// DType returns the element type.
func (t Tensor) DType() DType { return t.dtype }

// Memory returns what the tensor's bytes lie in.
func (t Tensor) Memory() Memory { return t.mem }

// Offset returns the tensor's first byte in its Memory.
func (t Tensor) Offset() int64 { return t.offset }

// Packed returns the bytes of the backend's own layout of a weight, 0 for a
// plain row-major tensor. Only the ops that take weights accept packed ones.
func (t Tensor) Packed() int64 { return t.packed }

// NumElements returns the number of elements.
func (t Tensor) NumElements() int64 {
	if t.IsNone() {
		return 0
	}
	n, _ := t.shape.NumElements()
	return n
}

// Bytes returns the bytes of the elements, or of the packed layout.
func (t Tensor) Bytes() int64 {
	if t.packed > 0 {
		return t.packed
	}
	return t.NumElements() * t.dtype.Size()
}

// Rows returns the product of all dims but the last: the number of vectors
// that a row-wise op works on.
func (t Tensor) Rows() int64 {
	if d := t.Dim(-1); d > 0 {
		return t.NumElements() / int64(d)
	}
	return 0
}

// String describes the tensor for errors: F32[2, 3].
func (t Tensor) String() string {
	if t.IsNone() {
		return "none"
	}
	return fmt.Sprintf("%v%v", t.dtype, t.shape)
}

// Slice returns the view of count entries of dim 0 from start on. It panics
// when out of range: a view is bookkeeping of model code, not outside input.
func (t Tensor) Slice(start, count int) Tensor {
	if t.IsNone() {
		return t
	}
	if t.packed > 0 || len(t.shape) == 0 || start < 0 || count < 0 || start+count > t.shape[0] {
		panic(fmt.Sprintf("tensor: slice [%d, %d) of %v", start, start+count, t))
	}
	shape := append(Shape{count}, t.shape[1:]...)
	row := int64(1)
	for _, d := range t.shape[1:] {
		row *= int64(d)
	}
	t.offset += int64(start) * row * t.dtype.Size()
	t.shape = shape
	return t
}
