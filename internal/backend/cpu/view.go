package cpu

import (
	"unsafe"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// view is a tensor's bytes with their element type.
type view struct {
	dtype tensor.DType
	bytes []byte
}

// viewOf returns the bytes of t. The none tensor gives an empty view.
func viewOf(t tensor.Tensor) view {
	if t.IsNone() {
		return view{}
	}
	data := t.Memory().(*Memory).data
	return view{t.DType(), data[t.Offset() : t.Offset()+t.Bytes()]}
}

// cast reinterprets bytes, which tensor.Arena aligns, as elements.
func cast[E any](b []byte) []E {
	if len(b) == 0 {
		return nil
	}
	var e E
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(e)))
}

// floats returns the elements of an F32 view, nil of an empty one.
func (v view) floats() []float32 { return cast[float32](v.bytes) }

// load returns n elements from element i on as F32: the view's own memory if it
// is F32, else widened into w's buffer.
func (v view) load(w *worker, buffer int, i, n int64) []float32 {
	if v.dtype == tensor.F32 {
		return cast[float32](v.bytes[i*4 : (i+n)*4])
	}
	dst := w.buffer(buffer, int(n))
	widen(dst, v.dtype, v.bytes[i*2:(i+n)*2])
	return dst
}

// target returns where to put n results for elements from i on; store finishes.
func (v view) target(w *worker, i, n int64) []float32 {
	if v.dtype == tensor.F32 {
		return cast[float32](v.bytes[i*4 : (i+n)*4])
	}
	return w.buffer(bufOut, int(n))
}

// store rounds results to the view's type, unless target gave out its memory.
func (v view) store(src []float32, i int64) {
	if v.dtype != tensor.F32 {
		narrow(v.bytes[i*2:], v.dtype, src)
	}
}

// widen converts 2-byte floats to F32, exactly.
func widen(dst []float32, d tensor.DType, src []byte) {
	u := cast[uint16](src)[:len(dst)]
	done := widenFast(dst, d, u)
	dst, u = dst[done:], u[done:]
	if d == tensor.BF16 {
		for i, h := range u {
			dst[i] = tensor.BF16ToF32(h)
		}
		return
	}
	for i, h := range u {
		dst[i] = tensor.F16ToF32(h)
	}
}

// narrow rounds F32 to 2-byte floats, to nearest even.
func narrow(dst []byte, d tensor.DType, src []float32) {
	u := cast[uint16](dst)[:len(src)]
	done := narrowFast(u, d, src)
	src, u = src[done:], u[done:]
	if d == tensor.BF16 {
		for i, f := range src {
			u[i] = tensor.F32ToBF16(f)
		}
		return
	}
	for i, f := range src {
		u[i] = tensor.F32ToF16(f)
	}
}
