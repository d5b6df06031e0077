package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// block is how many elements are converted or gathered at a time: small enough
// for the first-level cache, large enough to forget the loop around it.
const block = 1024

// Read copies the elements of e to dst, row-major in type dt, which is F32, BF16
// or F16, rounding to nearest even. The tensor may be F32, BF16, F16, F8_E4M3 or
// F64, and need not be contiguous.
//
// Errors: ErrCheckpoint, also when the file was cut short meanwhile.
func Read(dst []byte, dt tensor.DType, e Entry) error {
	if !dt.IsCompute() || !IsFloat(e.DType) {
		return failf("tensor %q of type %v cannot be used as %v", e.Name, e.DType, dt)
	}
	n, ok := e.Shape.NumElements()
	if !ok || n > math.MaxInt64/8 || int64(len(dst)) != n*dt.Size() {
		return failf("tensor %q: %v%v does not fit into %d bytes of %v", e.Name, e.DType, e.Shape, len(dst), dt)
	}
	return fail(file.Guard(e.File, func() error {
		dims := collapse(e)
		if len(dims) == 0 || len(dims) == 1 && dims[0].stride == 1 {
			convert(dst, dt, e.Data, e.DType)
			return nil
		}
		g := gatherer{data: e.Data, src: e.DType, dst: dt}
		if rest := g.walk(dst, dims, 0); len(rest) > 0 {
			return fmt.Errorf("tensor %q: %d bytes were not filled", e.Name, len(rest))
		}
		return nil
	}))
}

// IsFloat reports whether Read takes tensors of type d.
func IsFloat(d tensor.DType) bool { return d.IsCompute() || d == tensor.F8E4M3 || d == tensor.F64 }

type dim struct{ count, stride int64 }

// collapse returns the dims of e, outermost first, without those of length 1 and
// with each run of dims that lie row-major merged into one.
func collapse(e Entry) []dim {
	var dims []dim
	stride := int64(1)
	for i := len(e.Shape) - 1; i >= 0; i-- {
		d := dim{int64(e.Shape[i]), stride}
		if e.Strides != nil {
			d.stride = e.Strides[i]
		}
		stride *= d.count
		if d.count == 1 {
			continue
		}
		if k := len(dims) - 1; k >= 0 && dims[k].count*dims[k].stride == d.stride {
			dims[k].count *= d.count
			continue
		}
		dims = append(dims, d)
	}
	for i, j := 0, len(dims)-1; i < j; i, j = i+1, j-1 {
		dims[i], dims[j] = dims[j], dims[i]
	}
	return dims
}

// gatherer copies tensors that are not contiguous.
type gatherer struct {
	data     []byte
	src, dst tensor.DType
	scratch  [block * 8]byte
}

// walk fills dst from element at on and returns what is left of dst.
func (g *gatherer) walk(dst []byte, dims []dim, at int64) []byte {
	d := dims[0]
	if len(dims) > 1 {
		for i := range d.count {
			dst = g.walk(dst, dims[1:], at+i*d.stride)
		}
		return dst
	}
	size, out := g.src.Size(), g.dst.Size()
	if d.stride == 1 {
		convert(dst[:d.count*out], g.dst, g.data[at*size:(at+d.count)*size], g.src)
		return dst[d.count*out:]
	}
	for left := d.count; left > 0; {
		n := min(left, block)
		packed := g.scratch[:n*size]
		gather(packed, g.data[at*size:], size, d.stride)
		convert(dst[:n*out], g.dst, packed, g.src)
		dst, left, at = dst[n*out:], left-n, at+n*d.stride
	}
	return dst
}

// gather fills dst with elements of size bytes that lie stride elements apart.
func gather(dst, src []byte, size, stride int64) {
	step := stride * size
	switch size {
	case 4:
		for i, at := 0, int64(0); i < len(dst); i, at = i+4, at+step {
			binary.LittleEndian.PutUint32(dst[i:], binary.LittleEndian.Uint32(src[at:]))
		}
	case 2:
		for i, at := 0, int64(0); i < len(dst); i, at = i+2, at+step {
			binary.LittleEndian.PutUint16(dst[i:], binary.LittleEndian.Uint16(src[at:]))
		}
	default:
		for i, at := int64(0), int64(0); i < int64(len(dst)); i, at = i+size, at+step {
			copy(dst[i:i+size], src[at:])
		}
	}
}
