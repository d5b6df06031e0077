package weights

import (
	"context"
	"fmt"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// maxStaging bounds the host buffer that weights pass through, unless the backend
// packs a larger one, which it has to see whole.
const maxStaging = 16 << 20 // bytes

// filler copies tensors from their files to where they are used, through one
// buffer. Mapped bytes never reach a backend: a fault in them would be out of
// file.Guard's reach there.
type filler struct {
	backend tensor.Backend
	staging []byte
}

func fill(ops tensor.Ops, src checkpoint.Source, slots []slot) error {
	inFileOrder(src, slots)
	size := int64(0)
	for _, s := range slots {
		size = max(size, stagingBytes(s.dst))
	}
	staging, free, err := scratch(size)
	if err != nil {
		return err
	}
	defer free()
	f := filler{backend: ops.Backend(), staging: staging}
	for _, s := range slots {
		if ops.Context().Err() != nil {
			return fmt.Errorf("load weights: %w", context.Cause(ops.Context()))
		}
		e, ok := src.Lookup(s.param.Name)
		if !ok || !e.Shape.Equal(s.param.Shape) {
			return fmt.Errorf("%w: tensor %q: expected %v, got %v", checkpoint.ErrCheckpoint, s.param.Name, s.param.Shape, e.Shape)
		}
		if err := f.load(s, e); err != nil {
			return fmt.Errorf("load tensor %q to %s: %w", s.param.Name, f.backend.Name(), err)
		}
	}
	return nil
}

// plainBytes returns the bytes of the elements of t, row-major.
func plainBytes(t tensor.Tensor) int64 { return t.NumElements() * t.DType().Size() }

// stagingBytes returns how large a buffer t passes through: one that holds all
// of it where the backend packs it or it is a vector, else as many entries of
// dim 0 as fit maxStaging, but at least one.
func stagingBytes(t tensor.Tensor) int64 {
	n := plainBytes(t)
	if t.Packed() > 0 || t.Rank() == 1 || n <= maxStaging {
		return n
	}
	return max(maxStaging, n/int64(t.Dim(0)))
}

// load fills the tensor of s from e.
func (f *filler) load(s slot, e checkpoint.Entry) error {
	kind := tensor.VectorWeight
	switch s.param.Kind {
	case nn.Matrix, nn.MatrixF32:
		kind = tensor.MatrixWeight
	case nn.Conv:
		kind = tensor.ConvWeight
		if len(e.Shape) == 5 {
			e = e.Permute(0, 2, 3, 4, 1)
		} else {
			e = e.Permute(0, 2, 3, 1)
		}
	}
	if n := plainBytes(s.dst); n <= int64(len(f.staging)) {
		return f.whole(s.dst, kind, e, f.staging[:n])
	}
	return f.parts(s.dst, e)
}

// whole passes e to the backend in one piece.
func (f *filler) whole(dst tensor.Tensor, kind tensor.WeightKind, e checkpoint.Entry, buf []byte) error {
	if err := checkpoint.Read(buf, dst.DType(), e); err != nil {
		return err
	}
	if err := f.backend.WriteWeight(dst, kind, buf); err != nil {
		return err
	}
	return f.backend.Sync() // before the buffer is used again
}

// parts passes e to a row-major dst in runs of entries of dim 0 that fit the buffer.
func (f *filler) parts(dst tensor.Tensor, e checkpoint.Entry) error {
	rows := dst.Dim(0)
	rowBytes := plainBytes(dst) / int64(rows)
	step := int(int64(len(f.staging)) / rowBytes)
	for at := 0; at < rows; at += step {
		n := min(step, rows-at)
		buf := f.staging[:int64(n)*rowBytes]
		if err := checkpoint.Read(buf, dst.DType(), e.Rows(at, n)); err != nil {
			return err
		}
		if err := f.backend.Write(dst.Slice(at, n), buf); err != nil {
			return err
		}
		if err := f.backend.Sync(); err != nil {
			return err
		}
	}
	return nil
}
