package cpu

import (
	"unsafe"

	"github.com/wanrun/wanrun/internal/onednn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The pieces of a call: rows enough to make calling cheap, few enough for many
// threads.
const (
	minLibraryRows = 48
	maxLibraryRows = 256
	libraryPieces  = 16
	libraryPixels  = 1024 // of a convolution, in whole rows
)

// libraryMatMul is MatMul with a weight in the library's layout.
func (b *Backend) libraryMatMul(layout *onednn.Layout, dst, x, w, bias tensor.Tensor, act tensor.Activation) error {
	to, xs, weight, add := viewOf(dst), viewOf(x), viewOf(w), viewOf(bias).floats()
	rows, n, k := int(x.Rows()), w.Dim(0), w.Dim(1)
	piece := min(max((rows/libraryPieces+15)/16*16, minLibraryRows), maxLibraryRows)
	// A BF16 result is rounded by the library unless an activation comes first.
	narrow := to.dtype == tensor.BF16 && xs.dtype == tensor.BF16 && w.DType() == tensor.BF16
	direct := to.dtype == tensor.F32 || narrow && act == tensor.NoActivation
	return b.pool.tryEach((rows+piece-1)/piece, func(wk *worker, task int) error {
		row := task * piece
		m := onednn.MatMul{M: min(piece, rows-row), N: n, K: k,
			X: dnnType(w.DType()), W: dnnType(w.DType()), Bias: add != nil}
		at, elements := int64(row*n), int64(m.M*n)
		var y []byte
		if direct {
			size := to.dtype.Size()
			y, m.Y = to.bytes[at*size:(at+elements)*size], dnnType(to.dtype)
		} else {
			y = tensor.FloatBytes(wk.buffer(bufC, int(elements)))
		}
		for i, part := range operands(wk, xs, w.DType(), int64(row*k), int64(m.M*k)) {
			if i > 0 {
				m.Bias, m.Accumulate = false, true
			}
			p, err := b.library.matmul(m, layout)
			if err != nil {
				return err
			}
			if err := wk.run(p, part, weight.bytes, add, y); err != nil {
				return err
			}
		}
		if m.Y == onednn.F32 {
			results := cast[float32](y)
			b.kernels.activate(results, act)
			to.store(results, at)
		}
		return nil
	})
}

// operands returns n elements of x from element at on as products with weights of
// type d take them: as they are, widened to F32, or, to lose nothing beside BF16
// weights, as a sum of three BF16 parts of 8 bits each.
func operands(w *worker, x view, d tensor.DType, at, n int64) [][]byte {
	if x.dtype == d {
		size := d.Size()
		return [][]byte{x.bytes[at*size : (at+n)*size]}
	}
	rest := x.load(w, bufA, at, n)
	if d == tensor.F32 {
		return [][]byte{tensor.FloatBytes(rest)}
	}
	halves := cast[uint16](tensor.FloatBytes(w.buffer(bufD, int(3*n+1)/2)))
	var parts [3][]uint16
	for i := range parts {
		parts[i] = halves[int64(i)*n:][:n]
	}
	for i, v := range rest {
		for j := range parts {
			parts[j][i] = tensor.F32ToBF16(v)
			if v -= tensor.BF16ToF32(parts[j][i]); v != v {
				v = 0 // the first part is a NaN or infinite and says all
			}
		}
	}
	return [][]byte{bytesOf(parts[0]), bytesOf(parts[1]), bytesOf(parts[2])}
}

func bytesOf(u []uint16) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(u))), 2*len(u))
}

// libraryConv is Conv3D with a weight in the library's layout: for each frame of
// the kernel a two-dimensional convolution of the input frame there, added up in
// the result. History and input are read where they are.
func (b *Backend) libraryConv(layout *onednn.Layout, dst, x, history, w, bias tensor.Tensor, spec tensor.ConvSpec) error {
	c := newConv(dst, x, history, w, spec)
	to, weight, add := viewOf(dst), viewOf(w), viewOf(bias).floats()
	out, height := w.Dim(0), dst.Dim(1)
	piece := min(max(libraryPixels/c.outWidth, 1), height)
	pieces := (height + piece - 1) / piece
	return b.pool.tryEach(dst.Dim(0)*pieces, func(wk *worker, task int) error {
		t, row := task/pieces, task%pieces*piece
		rows := min(piece, height-row)
		at, elements := int64((t*height+row)*c.outWidth*out), rows*c.outWidth*out
		y := to.bytes
		if to.dtype == tensor.F32 {
			y = y[at*4:][:elements*4]
		} else {
			y = tensor.FloatBytes(wk.buffer(bufC, elements))
		}
		begin := row*spec.Stride[1] - spec.PadTop
		end := begin + (rows-1)*spec.Stride[1] + c.kh
		first, last := max(begin, 0), min(end, c.height)
		m := onednn.Conv{Height: last - first, Width: c.width, In: c.channels, Out: out,
			KernelH: c.kh, KernelW: c.kw, StrideH: spec.Stride[1], StrideW: spec.Stride[2],
			PadTop: first - begin, PadBottom: end - last, PadLeft: spec.PadLeft, PadRight: spec.PadRight,
			Bias: add != nil}
		for i := range c.kt {
			source, offset := c.at(t*spec.Stride[0]+i-spec.PadT, first, 0)
			if source.bytes == nil || m.Height <= 0 {
				continue
			}
			p, err := b.library.conv(m, layout)
			if err != nil {
				return err
			}
			in := source.load(wk, bufA, int64(offset), int64(m.Height*c.width*c.channels))
			err = wk.run(p, tensor.FloatBytes(in), weight.bytes[int64(i)*partBytes(layout):], add, y)
			if err != nil {
				return err
			}
			m.Bias, m.Accumulate = false, true
		}
		results := cast[float32](y)
		if !m.Accumulate { // nothing but padding
			for i := range results {
				results[i] = 0
				if add != nil {
					results[i] = add[i%out]
				}
			}
		}
		to.store(results, at)
		return nil
	})
}
