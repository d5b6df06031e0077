package weights

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Stream reads each unit from its file when it is acquired and frees it on
// release: the memory of one unit for a model that is used once or twice, like a
// text encoder. It implements nn.Weights.
type Stream struct {
	// OnAcquire, if not nil, is told how many units have been acquired, of how many.
	OnAcquire func(done, total int)

	units    map[string]nn.Unit
	acquired int
	rows     *Resident // reads rows; holds nothing
	src      checkpoint.Source
	compute  tensor.DType
}

var _ nn.Weights = (*Stream)(nil)

// NewStream returns a stream of units from src, which stays open; a nil src only
// allocates, for planning. compute is as in Load.
func NewStream(units []nn.Unit, src checkpoint.Source, compute tensor.DType) *Stream {
	s := &Stream{units: make(map[string]nn.Unit, len(units)), src: src, compute: compute,
		rows: &Resident{rows: map[string]nn.Param{}, src: src}}
	for _, u := range units {
		s.units[u.Name] = u
		for _, p := range u.Params {
			if p.Kind == nn.Rows {
				s.rows.rows[p.Name] = p
			}
		}
	}
	return s
}

// Acquire loads the unit. Units are released in reverse order of acquiring.
func (s *Stream) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	u, ok := s.units[unit]
	if !ok {
		ops.Fail(fmt.Errorf("no unit %q among the weights to stream", unit))
		return nil, func() {}
	}
	arena := ops.Space()[tensor.Weights]
	mark := arena.Mark()
	params := Load(ops, []nn.Unit{u}, s.src, s.compute).units[unit]
	s.acquired++
	if s.OnAcquire != nil {
		s.OnAcquire(min(s.acquired, len(s.units)), len(s.units))
	}
	return params, func() { arena.Release(mark) }
}

// Rows is Resident.Rows.
func (s *Stream) Rows(ops tensor.Ops, name string, rows []int32) tensor.Tensor {
	return s.rows.Rows(ops, name, rows)
}
