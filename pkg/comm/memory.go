package comm

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// HostMemory is memory whose bytes the CPU can reach. Host transports need it.
type HostMemory interface {
	tensor.Memory
	// HostBytes returns the reservation's bytes themselves.
	HostBytes() []byte
}

// slice is HostMemory of the Go heap.
type slice struct{ data []byte }

func (s *slice) Bytes() int64      { return int64(len(s.data)) }
func (s *slice) Release() error    { return nil }
func (s *slice) HostBytes() []byte { return s.data }

// OfBytes returns a tensor over b, for what is exchanged outside the arenas:
// sizes, ids, finished frames. No bytes give the none tensor.
// Errors: tensor.ErrShape if b is not that many elements.
func OfBytes(d tensor.DType, b []byte, dims ...int) (tensor.Tensor, error) {
	shape := append(tensor.Shape(nil), dims...)
	n, ok := shape.NumElements()
	if !ok || d.Size() == 0 || n*d.Size() != int64(len(b)) {
		return tensor.Tensor{}, fmt.Errorf("%d bytes for %v%v: %w", len(b), d, shape, tensor.ErrShape)
	}
	if n == 0 {
		return tensor.Tensor{}, nil
	}
	return tensor.New(&slice{b}, 0, d, shape), nil
}

// HostBytes returns the bytes of t, nil for the none tensor.
// Errors: tensor.ErrShape if t is not in host memory, or packed.
func HostBytes(t tensor.Tensor) ([]byte, error) {
	if t.IsNone() {
		return nil, nil
	}
	mem, ok := t.Memory().(HostMemory)
	if !ok {
		return nil, fmt.Errorf("%v lies in %T, which is not host memory: %w", t, t.Memory(), tensor.ErrShape)
	}
	all, begin, n := mem.HostBytes(), t.Offset(), t.Bytes()
	if begin < 0 || n > int64(len(all))-begin {
		return nil, fmt.Errorf("%v at %d is outside its memory of %d bytes: %w", t, begin, len(all), tensor.ErrShape)
	}
	return all[begin : begin+n : begin+n], nil
}
