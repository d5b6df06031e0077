package cpu

import "github.com/wanrun/wanrun/pkg/tensor"

// grainBytes is how much a thread moves at a time: enough to make handing out
// tasks free, and within the second-level cache.
const grainBytes = 128 << 10

// grainElements is the same for elementwise arithmetic.
const grainElements = 16 << 10

func (b *Backend) copyBytes(dst, src []byte) {
	b.pool.ranges(int64(len(dst)), grainBytes, func(_ *worker, lo, hi int64) {
		copy(dst[lo:hi], src[lo:hi])
	})
}

// Copy casts src to dst's type.
func (b *Backend) Copy(dst, src tensor.Tensor) error {
	to, from := viewOf(dst), viewOf(src)
	if to.dtype == from.dtype {
		b.copyBytes(to.bytes, from.bytes)
		return nil
	}
	b.pool.ranges(dst.NumElements(), grainElements, func(w *worker, lo, hi int64) {
		if to.dtype == tensor.F32 {
			widen(to.target(w, lo, hi-lo), from.dtype, from.bytes[lo*2:hi*2])
			return
		}
		to.store(from.load(w, bufIn, lo, hi-lo), lo)
	})
	return nil
}

// CopyRows copies rows of run bytes between strided places.
func (b *Backend) CopyRows(dst, src tensor.Tensor, rows, run, dstOffset, dstStride, srcOffset, srcStride int64) error {
	to, from := viewOf(dst).bytes, viewOf(src).bytes
	if rows == 1 {
		b.copyBytes(to[dstOffset:dstOffset+run], from[srcOffset:srcOffset+run])
		return nil
	}
	b.pool.ranges(rows, grainBytes/max(run, 1), func(_ *worker, lo, hi int64) {
		for i := lo; i < hi; i++ {
			d, s := dstOffset+i*dstStride, srcOffset+i*srcStride
			copy(to[d:d+run], from[s:s+run])
		}
	})
	return nil
}

// Fill sets every element.
func (b *Backend) Fill(dst tensor.Tensor, v float32) error {
	to := viewOf(dst)
	b.pool.ranges(dst.NumElements(), grainElements, func(w *worker, lo, hi int64) {
		if to.dtype == tensor.U8 {
			for i := lo; i < hi; i++ {
				to.bytes[i] = uint8(v)
			}
			return
		}
		out := to.target(w, lo, hi-lo)
		for i := range out {
			out[i] = v
		}
		to.store(out, lo)
	})
	return nil
}

// Permute sets dst's dim i to src's dim perm[i].
func (b *Backend) Permute(dst, src tensor.Tensor, perm []int) error {
	to, from := viewOf(dst).bytes, viewOf(src).bytes
	size := src.DType().Size()
	switch size {
	case 1:
		permute(b.pool, to, from, dst.Shape(), src.Shape(), perm)
	case 2:
		permute(b.pool, cast[uint16](to), cast[uint16](from), dst.Shape(), src.Shape(), perm)
	case 4:
		permute(b.pool, cast[uint32](to), cast[uint32](from), dst.Shape(), src.Shape(), perm)
	default:
		permute(b.pool, cast[uint64](to), cast[uint64](from), dst.Shape(), src.Shape(), perm)
	}
	return nil
}

// permute walks dst row by row and gathers each row from src with one stride.
func permute[E any](p *pool, dst, src []E, dstShape, srcShape tensor.Shape, perm []int) {
	if len(perm) == 0 {
		copy(dst, src)
		return
	}
	srcStrides := make([]int, len(perm))
	for i, n := len(perm)-1, 1; i >= 0; i-- {
		srcStrides[i] = n
		n *= srcShape[i]
	}
	last := len(perm) - 1
	length, stride := dstShape[last], srcStrides[perm[last]]
	rows := len(dst) / length
	p.ranges(int64(rows), grainElements/int64(length), func(_ *worker, lo, hi int64) {
		for row := int(lo); row < int(hi); row++ {
			at := 0
			for i, rest := last-1, row; i >= 0; i-- {
				at += rest % dstShape[i] * srcStrides[perm[i]]
				rest /= dstShape[i]
			}
			out := dst[row*length : (row+1)*length]
			if stride == 1 {
				copy(out, src[at:at+length])
				continue
			}
			for i := range out {
				out[i] = src[at]
				at += stride
			}
		}
	})
}

// Upsample2x repeats each pixel to 2x2: a row of pixels is doubled once and
// copied below itself.
func (b *Backend) Upsample2x(dst, x tensor.Tensor) error {
	to, from := viewOf(dst).bytes, viewOf(x).bytes
	width, pixel := x.Dim(2), x.Dim(3)*int(x.DType().Size())
	line := width * pixel
	b.pool.each(int64(x.Dim(0)*x.Dim(1)), func(_ *worker, task int64) {
		in := from[int(task)*line:][:line]
		out := to[int(task)*4*line:][:4*line]
		for i := range width {
			p := in[i*pixel : (i+1)*pixel]
			copy(out[2*i*pixel:], p)
			copy(out[(2*i+1)*pixel:], p)
		}
		copy(out[2*line:], out[:2*line])
	})
	return nil
}
