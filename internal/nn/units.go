package nn

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// NewUnit returns a unit whose parameters are named prefix + Local in the
// checkpoint.
func NewUnit(name, prefix string, params ...[]Param) Unit {
	u := Unit{Name: name}
	for _, group := range params {
		for _, p := range group {
			p.Name = prefix + p.Local
			u.Params = append(u.Params, p)
		}
	}
	return u
}

// LinearParams are the parameters of a Linear with a bias: a weight of the given
// kind, [out, in], and the bias [out].
func LinearParams(local string, out, in int, kind Kind) []Param {
	return append(MatrixParams(local, out, in, kind), VectorParams(local+".bias", out)...)
}

// MatrixParams are the parameters of a Linear without a bias.
func MatrixParams(local string, out, in int, kind Kind) []Param {
	return []Param{{Local: local + ".weight", Shape: tensor.Shape{out, in}, Kind: kind}}
}

// NormParams are the weight and bias of a LayerNorm.
func NormParams(local string, dim int) []Param {
	return append(VectorParams(local+".weight", dim), VectorParams(local+".bias", dim)...)
}

// VectorParams is one parameter that is kept in F32.
func VectorParams(local string, shape ...int) []Param {
	return []Param{{Local: local, Shape: shape, Kind: Vector}}
}

// Bytes returns the bytes of units at rest when matrices are kept in compute
// type, row-major: parameters of kind Rows stay in their file and count nothing.
//
//	4 * (vectors and F32 matrices) + compute.Size() * (matrices and convolutions)
func Bytes(units []Unit, compute tensor.DType) (bytes int64) {
	for _, u := range units {
		for _, p := range u.Params {
			n, _ := p.Shape.NumElements()
			switch p.Kind {
			case Vector, MatrixF32:
				bytes += n * tensor.F32.Size()
			case Matrix, Conv:
				bytes += n * compute.Size()
			}
		}
	}
	return bytes
}

// Get returns the parameter with a local name. A missing one is an error that
// sticks to ops: many ops take none for an omitted bias or weight, and would
// compute without it.
func (p Params) Get(ops tensor.Ops, local string) tensor.Tensor {
	t, ok := p[local]
	if !ok || t.IsNone() {
		ops.Fail(fmt.Errorf("parameter %q is missing from its unit", local))
	}
	return t
}

// Linear returns act(x · weightᵀ + bias) in type d with the parameters
// local.weight [N, K] and local.bias [N].
func (p Params) Linear(ops tensor.Ops, local string, x tensor.Tensor, act tensor.Activation, d tensor.DType) tensor.Tensor {
	return ops.MatMul(x, p.Get(ops, local+".weight"), p.Get(ops, local+".bias"), act, d)
}

// Project is Linear without a bias.
func (p Params) Project(ops tensor.Ops, local string, x tensor.Tensor, act tensor.Activation, d tensor.DType) tensor.Tensor {
	return ops.MatMul(x, p.Get(ops, local+".weight"), tensor.Tensor{}, act, d)
}

// LayerNorm normalises the rows of x in type d with the parameters local.weight
// and local.bias.
func (p Params) LayerNorm(ops tensor.Ops, local string, x tensor.Tensor, eps float32, d tensor.DType) tensor.Tensor {
	return ops.LayerNorm(x, p.Get(ops, local+".weight"), p.Get(ops, local+".bias"), eps, d)
}
