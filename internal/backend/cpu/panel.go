package cpu

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// panels is a weight [N, K] as the tile kernel reads it: [N/tileCols, K,
// tileCols], the last panel filled up with zeros. A weight that was not packed
// on loading is packed piece by piece as it is used.
type panels struct {
	view
	packed bool
	n, k   int
}

// panelsOf returns w, of any rank, as N rows of all its other dims.
func panelsOf(w tensor.Tensor) panels {
	n := w.Dim(0)
	return panels{viewOf(w), w.Packed() > 0, n, int(w.NumElements()) / n}
}

// count returns the number of panels.
func (p panels) count() int { return (p.n + tileCols - 1) / tileCols }

// part returns entries [k0, k0+k) of panel number i as F32, in w's scratch
// unless the weight is there in that form.
func (p panels) part(w *worker, i, k0, k int) *float32 {
	at := int64(i*p.k+k0) * tileCols
	switch {
	case p.packed && p.dtype == tensor.F32:
		return &cast[float32](p.bytes[at*4:])[0]
	case p.packed:
		dst := w.buffer(bufB, k*tileCols)
		widen(dst, p.dtype, p.bytes[at*2:][:k*tileCols*2])
		return &dst[0]
	}
	dst := w.buffer(bufB, k*tileCols)
	for j := range tileCols {
		row := i*tileCols + j
		if row >= p.n {
			for t := range k {
				dst[t*tileCols+j] = 0
			}
			continue
		}
		for t, v := range p.load(w, bufIn, int64(row*p.k+k0), int64(k)) {
			dst[t*tileCols+j] = v
		}
	}
	return &dst[0]
}

// PackedBytes returns the bytes of a weight as the library wants it, or of its panels.
func (b *Backend) PackedBytes(kind tensor.WeightKind, d tensor.DType, shape tensor.Shape) int64 {
	n, ok := shape.NumElements()
	if kind == tensor.VectorWeight || !d.IsCompute() || len(shape) < 2 || !ok || n == 0 {
		return 0
	}
	if b.library != nil {
		if layout := b.library.layout(kind, d, shape); layout != nil {
			return packedBytes(layout, kind, shape)
		}
	}
	rows := int64(shape[0])
	padded := tensor.Shape{int((rows + tileCols - 1) / tileCols), tileCols, int(n / rows), int(d.Size())}
	bytes, ok := padded.NumElements()
	if !ok {
		return 0 // the row-major size overflows too, or nearly: Empty refuses it
	}
	return bytes
}

// WriteWeight packs row-major src into dst.
func (b *Backend) WriteWeight(dst tensor.Tensor, kind tensor.WeightKind, src []byte) error {
	if dst.Packed() == 0 {
		return b.Write(dst, src)
	}
	if want := dst.NumElements() * dst.DType().Size(); int64(len(src)) != want {
		return fmt.Errorf("write %d bytes to weight %v of %d bytes: %w", len(src), dst, want, tensor.ErrShape)
	}
	if layout := b.layoutOf(kind, dst); layout != nil {
		return b.library.writeWeight(layout, dst, kind, src)
	}
	p := panelsOf(dst)
	if dst.DType().Size() == 4 {
		packPanels(b.pool, cast[uint32](p.bytes), cast[uint32](src), p)
	} else {
		packPanels(b.pool, cast[uint16](p.bytes), cast[uint16](src), p)
	}
	return nil
}

func packPanels[E uint16 | uint32](pool *pool, dst, src []E, p panels) {
	pool.each(int64(p.count()), func(_ *worker, task int64) {
		i := int(task)
		panel := dst[i*p.k*tileCols:][:p.k*tileCols]
		for j := range tileCols {
			row := i*tileCols + j
			if row >= p.n {
				for t := range p.k {
					panel[t*tileCols+j] = 0
				}
				continue
			}
			for t, v := range src[row*p.k:][:p.k] {
				panel[t*tileCols+j] = v
			}
		}
	})
}
