// Package nn is what the models have in common: how they name and ask for
// their weights, and the layers that more than one of them uses.
package nn

import "github.com/wanrun/wanrun/pkg/tensor"

// Kind says how a parameter is kept once it has been read.
type Kind uint8

// The kinds. "Compute type" is the run's --dtype.
const (
	Vector    Kind = iota // F32, flattened: biases, norms, modulation, position tables
	Matrix                // compute type, [N, K]: dim 0 by all others flattened
	MatrixF32             // as Matrix, always F32: where the official code leaves autocast
	Conv                  // compute type, [Cout, kT, kH, kW, Cin] from PyTorch's [Cout, Cin, kT?, kH, kW]
	Rows                  // stays in its file; single rows are read with Weights.Rows
)

// Param describes one parameter as the checkpoint holds it.
type Param struct {
	Name  string // in the checkpoint
	Local string // within its unit, what Params is keyed by
	Shape tensor.Shape
	Kind  Kind
}

// Unit is a set of parameters that are acquired and released together: one
// block, or what lies outside the blocks.
type Unit struct {
	Name   string
	Params []Param
}

// Params are the parameters of an acquired unit by their local names; Get refuses
// a missing one.
type Params map[string]tensor.Tensor

// Weights hands out a model's parameters unit by unit. A resident map of tensors
// implements it, and so does a store that gathers each unit from all ranks.
type Weights interface {
	// Acquire returns the unit's parameters, valid until release is called.
	// Errors stick to ops.
	Acquire(ops tensor.Ops, unit string) (p Params, release func())
	// Rows returns the given rows of a parameter of kind Rows as F32 [len(rows), D].
	Rows(ops tensor.Ops, name string, rows []int32) tensor.Tensor
}

// NumParams returns the number of scalars in units.
func NumParams(units []Unit) (n int64) {
	for _, u := range units {
		for _, p := range u.Params {
			k, _ := p.Shape.NumElements()
			n += k
		}
	}
	return n
}
