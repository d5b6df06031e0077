// Package sharded joins the models' units and the checkpoint's tensors to
// pkg/fsdp, which knows neither.
package sharded

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Units returns units in the form that they are sharded in: the types and shapes of
// weights.Load, with compute for matrices and convolutions.
// Errors: tensor.ErrShape for a shape that does not fit its kind.
func Units(units []nn.Unit, compute tensor.DType) ([]fsdp.Unit, error) {
	out := make([]fsdp.Unit, len(units))
	for i, u := range units {
		out[i].Name = u.Name
		for _, p := range u.Params {
			q, err := param(p, compute)
			if err != nil {
				return nil, err
			}
			out[i].Params = append(out[i].Params, q)
		}
	}
	return out, nil
}

func param(p nn.Param, compute tensor.DType) (fsdp.Param, error) {
	s := p.Shape
	q := fsdp.Param{Local: p.Local, Name: p.Name, DType: tensor.F32}
	n, ok := s.NumElements()
	if !ok || n == 0 || len(s) == 0 {
		return q, fmt.Errorf("parameter %q has shape %v: %w", p.Name, s, tensor.ErrShape)
	}
	switch {
	case p.Kind == nn.Rows:
		q.Shape, q.Rows = s, true
	case p.Kind == nn.Vector:
		q.Shape = tensor.Shape{int(n)}
	case p.Kind == nn.MatrixF32:
		q.Kind, q.Shape = tensor.MatrixWeight, tensor.Shape{s[0], int(n) / s[0]}
	case p.Kind == nn.Matrix:
		q.Kind, q.DType, q.Shape = tensor.MatrixWeight, compute, tensor.Shape{s[0], int(n) / s[0]}
	case p.Kind == nn.Conv && len(s) == 5:
		q.Kind, q.DType, q.Shape = tensor.ConvWeight, compute, tensor.Shape{s[0], s[2], s[3], s[4], s[1]}
	case p.Kind == nn.Conv && len(s) == 4:
		q.Kind, q.DType, q.Shape = tensor.ConvWeight, compute, tensor.Shape{s[0], 1, s[2], s[3], s[1]}
	default:
		return q, fmt.Errorf("parameter %q of kind %d has shape %v: %w", p.Name, p.Kind, s, tensor.ErrShape)
	}
	return q, nil
}

// reader reads ranges of a checkpoint's tensors.
type reader struct{ src checkpoint.Source }

// Reader returns a reader of src, which stays open; nil for a nil src, as when
// planning. Errors of reading: checkpoint.ErrCheckpoint.
func Reader(src checkpoint.Source) fsdp.Reader {
	if src == nil {
		return nil
	}
	return reader{src}
}

// ReadRange reads elements of p from element first on, as many as fill dst.
func (r reader) ReadRange(p fsdp.Param, first int64, dst []byte) error {
	e, ok := r.src.Lookup(p.Name)
	want, _ := p.Shape.NumElements()
	if !ok || e.NumElements() != want || (p.Kind == tensor.ConvWeight && len(e.Shape) < 4) {
		return fmt.Errorf("%w: tensor %q: expected %d elements, got %v", checkpoint.ErrCheckpoint, p.Name, want, e.Shape)
	}
	count := int64(len(dst)) / p.DType.Size()
	if first < 0 || count*p.DType.Size() != int64(len(dst)) || count > want-first {
		return fmt.Errorf("%d bytes from element %d of %d of %q: %w", len(dst), first, want, p.Name, tensor.ErrShape)
	}
	if p.Kind == tensor.ConvWeight { // channels last
		if len(e.Shape) == 5 {
			e = e.Permute(0, 2, 3, 4, 1)
		} else {
			e = e.Permute(0, 2, 3, 1)
		}
	}
	return readRange(dst, p.DType, e, first)
}

// readRange reads the row-major elements of e from first on: part of a row of dim 0,
// whole rows, part of a row.
func readRange(dst []byte, d tensor.DType, e checkpoint.Entry, first int64) error {
	count := int64(len(dst)) / d.Size()
	if count == 0 {
		return nil
	}
	if count == e.NumElements() {
		return checkpoint.Read(dst, d, e)
	}
	if e.Strides == nil {
		size := e.DType.Size()
		e.Data, e.Shape = e.Data[first*size:(first+count)*size], tensor.Shape{int(count)}
		return checkpoint.Read(dst, d, e)
	}
	inner := e.NumElements() / int64(e.Shape[0])
	for row := first / inner; len(dst) > 0; {
		at := first - row*inner
		if whole := (int64(len(dst)) / d.Size()) / inner; at == 0 && whole > 0 {
			n := whole * inner * d.Size()
			if err := checkpoint.Read(dst[:n], d, e.Rows(int(row), int(whole))); err != nil {
				return err
			}
			dst, row, first = dst[n:], row+whole, first+whole*inner
			continue
		}
		n := min(inner-at, int64(len(dst))/d.Size())
		if err := readRange(dst[:n*d.Size()], d, e.Rows(int(row), 1).Squeeze(), at); err != nil {
			return err
		}
		dst, row, first = dst[n*d.Size():], row+1, first+n
	}
	return nil
}
