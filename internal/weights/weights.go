// Package weights puts the parameters of a model, whole, into a rank's memory.
package weights

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Check compares the tensors of src with the parameters of units; ignore, which
// may be nil, says which others do not matter.
// Errors: checkpoint.ErrCheckpoint, listing what is missing, extra and of another
// shape or type.
func Check(model string, units []nn.Unit, src checkpoint.Source, ignore func(name string) bool) error {
	var want []checkpoint.Want
	for _, u := range units {
		for _, p := range u.Params {
			want = append(want, checkpoint.Want{Name: p.Name, Shape: p.Shape})
		}
	}
	return checkpoint.Check(model, src, want, ignore)
}

// Resident are parameters that stay in memory for as long as the arena they were
// loaded into. It implements nn.Weights. Parameters of kind nn.Rows stay in
// their file: the source must stay open while Rows is called.
type Resident struct {
	units map[string]nn.Params
	rows  map[string]nn.Param
	src   checkpoint.Source
}

var _ nn.Weights = (*Resident)(nil)

// slot is a parameter and the tensor it is loaded into.
type slot struct {
	param nn.Param
	dst   tensor.Tensor
}

// Load allocates the parameters of units, from the weights' arena of ops, and
// fills them from src in the order of its files, cast to the type of their kind,
// with compute for those of compute type. A nil src only allocates, which is
// enough for planning. What the units ask for should have been checked.
//
// Beside the arena it uses one host buffer, as large as the largest tensor that
// the backend packs, else 16 MiB at most. Errors stick to ops:
// checkpoint.ErrCheckpoint, tensor.ErrArena.
func Load(ops tensor.Ops, units []nn.Unit, src checkpoint.Source, compute tensor.DType) *Resident {
	r := &Resident{units: make(map[string]nn.Params, len(units)), rows: map[string]nn.Param{}, src: src}
	ops = ops.Using(tensor.Weights)
	var slots []slot
	for _, u := range units {
		params := make(nn.Params, len(u.Params))
		for _, p := range u.Params {
			if p.Kind == nn.Rows {
				r.rows[p.Name] = p
				continue
			}
			dst := allocate(ops, p, compute)
			params[p.Local] = dst
			slots = append(slots, slot{p, dst})
		}
		r.units[u.Name] = params
	}
	if src != nil && ops.Err() == nil {
		ops.Fail(fill(ops, src, slots))
	}
	return r
}

// Acquire returns the unit's parameters, which need no release.
func (r *Resident) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	p, ok := r.units[unit]
	if !ok {
		ops.Fail(fmt.Errorf("no unit %q among the loaded weights", unit))
	}
	return p, func() {}
}

// Rows returns rows of a parameter of kind nn.Rows as F32 [len(rows), D], read
// from the file; without one, as when planning, they are only allocated.
func (r *Resident) Rows(ops tensor.Ops, name string, rows []int32) tensor.Tensor {
	p, ok := r.rows[name]
	if !ok || len(p.Shape) == 0 || len(rows) == 0 {
		ops.Fail(fmt.Errorf("no rows asked of, or no parameter of rows called %q: %w", name, tensor.ErrShape))
		return tensor.Tensor{}
	}
	n, _ := p.Shape[1:].NumElements()
	if r.src == nil {
		return ops.Empty(tensor.F32, len(rows), int(n))
	}
	e, ok := r.src.Lookup(name)
	if !ok || !e.Shape.Equal(p.Shape) {
		ops.Fail(fmt.Errorf("%w: tensor %q: expected %v, got %v", checkpoint.ErrCheckpoint, name, p.Shape, e.Shape))
		return tensor.Tensor{}
	}
	floats := make([]float32, int64(len(rows))*n)
	for i, row := range rows {
		if row < 0 || int(row) >= p.Shape[0] {
			ops.Fail(fmt.Errorf("row %d of %q, which has %d: %w", row, name, p.Shape[0], tensor.ErrShape))
			return tensor.Tensor{}
		}
		dst := tensor.FloatBytes(floats[int64(i)*n : int64(i+1)*n])
		if err := checkpoint.Read(dst, tensor.F32, e.Rows(int(row), 1)); err != nil {
			ops.Fail(err)
			return tensor.Tensor{}
		}
	}
	return ops.FromFloats(floats, len(rows), int(n))
}

// allocate makes room for p in the layout of its kind.
func allocate(ops tensor.Ops, p nn.Param, compute tensor.DType) tensor.Tensor {
	s := p.Shape
	n, ok := s.NumElements()
	if !ok || n == 0 {
		ops.Fail(fmt.Errorf("parameter %q has shape %v: %w", p.Name, s, tensor.ErrShape))
		return tensor.Tensor{}
	}
	switch {
	case p.Kind == nn.Vector:
		return ops.EmptyWeight(tensor.VectorWeight, tensor.F32, int(n))
	case p.Kind == nn.Matrix && len(s) > 0:
		return ops.EmptyWeight(tensor.MatrixWeight, compute, s[0], int(n)/s[0])
	case p.Kind == nn.MatrixF32 && len(s) > 0:
		return ops.EmptyWeight(tensor.MatrixWeight, tensor.F32, s[0], int(n)/s[0])
	case p.Kind == nn.Conv && len(s) == 5:
		return ops.EmptyWeight(tensor.ConvWeight, compute, s[0], s[2], s[3], s[4], s[1])
	case p.Kind == nn.Conv && len(s) == 4:
		return ops.EmptyWeight(tensor.ConvWeight, compute, s[0], 1, s[2], s[3], s[1])
	}
	ops.Fail(fmt.Errorf("parameter %q of kind %d has shape %v: %w", p.Name, p.Kind, s, tensor.ErrShape))
	return tensor.Tensor{}
}

// inFileOrder sorts slots as their tensors lie in the files.
func inFileOrder(src checkpoint.Source, slots []slot) {
	order := make(map[string]int, len(slots))
	for i, name := range src.Names() {
		order[name] = i
	}
	slices.SortStableFunc(slots, func(a, b slot) int { return cmp.Compare(order[a.param.Name], order[b.param.Name]) })
}
