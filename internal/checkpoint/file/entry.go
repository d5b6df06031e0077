package file

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Entry is one tensor of a checkpoint file: where it lies, not a copy.
type Entry struct {
	Name  string
	DType tensor.DType
	Shape tensor.Shape
	// Strides are in elements, none negative; nil means contiguous, row-major.
	Strides []int64
	// Data are the little-endian bytes that the tensor reaches into: the first
	// byte is that of element 0, the last that of the last element.
	Data []byte
	// File names where Data lies, for messages. Read Data under Guard.
	File string
}

// NumElements returns the number of elements.
func (e Entry) NumElements() int64 {
	n, _ := e.Shape.NumElements()
	return n
}

// Rows returns the view of count entries of dim 0 from start on. It panics when
// out of range, as slicing does.
func (e Entry) Rows(start, count int) Entry {
	if len(e.Shape) == 0 || start < 0 || count <= 0 || start+count > e.Shape[0] {
		panic(fmt.Sprintf("file: rows [%d, %d) of %v", start, start+count, e.Shape))
	}
	size := e.DType.Size()
	stride := int64(1)
	if e.Strides != nil {
		stride = e.Strides[0]
	} else {
		for _, d := range e.Shape[1:] {
			stride *= int64(d)
		}
	}
	inner := e // what one row reaches into
	inner.Shape = append(tensor.Shape{count}, e.Shape[1:]...)
	begin := int64(start) * stride * size
	inner.Data = e.Data[begin : begin+inner.extent()*size]
	return inner
}

// extent returns the number of elements from the first to the last one of the
// view, with what lies between.
func (e Entry) extent() int64 {
	if e.Strides == nil {
		return e.NumElements()
	}
	last := int64(0)
	for i, d := range e.Shape {
		last += int64(d-1) * e.Strides[i]
	}
	return last + 1
}

// Permute returns the view whose dim i is dim perm[i] of e.
func (e Entry) Permute(perm ...int) Entry {
	strides := e.Strides
	if strides == nil {
		strides = make([]int64, len(e.Shape))
		stride := int64(1)
		for i := len(e.Shape) - 1; i >= 0; i-- {
			strides[i] = stride
			stride *= int64(e.Shape[i])
		}
	}
	shape, permuted := make(tensor.Shape, len(perm)), make([]int64, len(perm))
	for i, p := range perm {
		shape[i], permuted[i] = e.Shape[p], strides[p]
	}
	e.Shape, e.Strides = shape, permuted
	return e
}

// Squeeze returns the view without dim 0, whose length is 1.
func (e Entry) Squeeze() Entry {
	e.Shape = e.Shape[1:]
	if e.Strides != nil {
		e.Strides = e.Strides[1:]
	}
	return e
}
