package fsdp

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Acquire makes a unit whole and returns its parameters by their local names, valid
// until release is called: one unit at a time. It then begins to gather the unit that
// follows. It is a collective of the group.
//
// Memory: a backend without packed layouts uses the parameters where they land, at
// alternate ends of a buffer for two successive units. A backend with packed
// layouts gets them packed, once for all uses until release, behind the buffer in
// which the next unit then lands: two units as well.
//
// Errors stick to ops: comm.ErrAborted, tensor.ErrArena, the Reader's.
func (s *Store) Acquire(ops tensor.Ops, name string) (params map[string]tensor.Tensor, release func()) {
	release = func() {}
	if ops.Err() != nil {
		return nil, release
	}
	i, ok := s.index[name]
	switch {
	case !ok:
		ops.Fail(fmt.Errorf("no unit %q among the sharded weights", name))
		return nil, release
	case s.held != "":
		ops.Fail(fmt.Errorf("unit %q acquired while %q is in use", name, s.held))
		return nil, release
	}
	if s.next != nil && s.next.unit != i { // an unusual order, the same on every rank
		ops.Fail(s.next.wait())
		s.next = nil
	}
	if s.next == nil {
		s.next = s.gather(ops, i, !s.high)
	}
	arrived := s.next
	s.next = nil
	if err := arrived.wait(); err != nil {
		ops.Fail(fmt.Errorf("gather unit %q: %w", name, err))
		return nil, release
	}
	s.high = arrived.high
	arena := ops.Space()[tensor.Gathered]
	mark := arena.Mark()
	params = s.params(ops, i, arrived)
	if j, ok := s.following(i); ok && !s.opts.Serial && ops.Err() == nil {
		s.next = s.gather(ops, j, !s.high)
	}
	if ops.Err() != nil {
		arena.Release(mark)
		return nil, release
	}
	s.acquired++
	if s.opts.OnAcquire != nil {
		s.opts.OnAcquire(min(s.acquired, len(s.units)), len(s.units))
	}
	s.held = name
	return params, func() {
		arena.Release(mark)
		s.held = ""
	}
}

// params returns the parameters of unit i where they have landed, or packed.
func (s *Store) params(ops tensor.Ops, i int, g *gathering) map[string]tensor.Tensor {
	u := &s.units[i]
	params := make(map[string]tensor.Tensor, len(u.params))
	for k, p := range u.params {
		slot := u.layout.Slots[k]
		landed := tensor.New(g.dst.Memory(), g.dst.Offset()+slot.Offset, p.DType, p.Shape)
		if s.packs {
			params[p.Local] = pack(ops, p, landed)
		} else {
			params[p.Local] = landed
		}
	}
	return params
}

// pack returns a copy of a landed parameter in the backend's layout.
func pack(ops tensor.Ops, p Param, landed tensor.Tensor) tensor.Tensor {
	dst := ops.Using(tensor.Gathered).EmptyWeight(p.Kind, p.DType, p.Shape...)
	if ops.Err() != nil {
		return tensor.Tensor{}
	}
	var src []byte // nil when planning
	if landed.Memory() != nil {
		src, _ = comm.HostBytes(landed) // Open saw that it is host memory, or planning's
	}
	ops.Fail(ops.Backend().WriteWeight(dst, p.Kind, src))
	return dst
}

// Rows returns rows of a parameter that stays in its file as F32 [len(rows), D]; when
// planning they are only allocated. It is no collective.
func (s *Store) Rows(ops tensor.Ops, name string, rows []int32) tensor.Tensor {
	p, ok := s.rows[name]
	if !ok || len(p.Shape) == 0 || len(rows) == 0 {
		ops.Fail(fmt.Errorf("no rows asked of, or no parameter of rows called %q: %w", name, tensor.ErrShape))
		return tensor.Tensor{}
	}
	n, _ := p.Shape[1:].NumElements()
	if s.reader == nil {
		return ops.Empty(tensor.F32, len(rows), int(n))
	}
	p.DType = tensor.F32
	floats := make([]float32, int64(len(rows))*n)
	for i, row := range rows {
		if row < 0 || int(row) >= p.Shape[0] {
			ops.Fail(fmt.Errorf("row %d of %q, which has %d: %w", row, name, p.Shape[0], tensor.ErrShape))
			return tensor.Tensor{}
		}
		if err := s.reader.ReadRange(p, int64(row)*n, tensor.FloatBytes(floats[int64(i)*n:int64(i+1)*n])); err != nil {
			ops.Fail(err)
			return tensor.Tensor{}
		}
	}
	return ops.FromFloats(floats, len(rows), int(n))
}
