package meta

import "github.com/wanrun/wanrun/pkg/tensor"

// RowMajor returns a backend for New to stand for: a device that keeps every weight row by
// row, as GPUs do, where there is none.
func RowMajor(name string) tensor.Backend { return &rowMajor{Backend{}, name} }

type rowMajor struct {
	Backend
	name string
}

func (r *rowMajor) Name() string { return r.name }

// PackedBytes is 0: nothing is packed.
func (r *rowMajor) PackedBytes(tensor.WeightKind, tensor.DType, tensor.Shape) int64 { return 0 }
