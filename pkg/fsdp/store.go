package fsdp

import (
	"errors"
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Param is a parameter as it is used.
type Param struct {
	Local string // what Acquire's map is keyed by
	Name  string // what the Reader knows it by
	Kind  tensor.WeightKind
	DType tensor.DType
	Shape tensor.Shape
	// Rows keeps it in its file: it belongs to no unit's bytes, and Store.Rows reads it.
	Rows bool
}

// Unit is a set of parameters that are gathered together.
type Unit struct {
	Name   string
	Params []Param
}

// Reader reads parameters from where they are stored, so that only what is asked for
// is touched. It is safe for concurrent use.
type Reader interface {
	// ReadRange fills dst with elements of p, from element first on in the row-major
	// order of p.Shape, cast to p.DType.
	ReadRange(p Param, first int64, dst []byte) error
}

// Rest is where shards are while they are not gathered.
type Rest uint8

// The places of rest, from fast and dear to slow and free.
const (
	OnDevice Rest = iota // the Weights arena
	OnHost               // Options.Host
	InFile               // nowhere: read again for each gathering
)

// Options are the settings of a Store; all ranks have the same but Host.
type Options struct {
	// Group are the ranks that share one copy of the weights. It should be a group of
	// its own: a prefetch would delay other collectives of the same group.
	// An asynchronous transport begins a collective behind the ops that were issued before
	// it, as a prefetch lands where the unit before the one in use was.
	Group comm.Group
	Rest  Rest
	// Host gives memory for this rank's shards at rest OnHost, in one piece; nil takes
	// it from the Go heap. It is not called when planning.
	Host func(bytes int64) ([]byte, error)
	// Twins are the ranks of this one's node that keep the same shards, each of another
	// group: Host gives all of them the same memory, and each reads a part of it. nil or
	// a group of one is a rank with memory of its own. Closed by the caller.
	Twins comm.Group
	// Cyclic says that the first unit is used again after the last, as by the steps of
	// a sampler, so that it is worth prefetching.
	Cyclic bool
	// Serial leaves out prefetching: one unit less of memory, and every gathering
	// waited for.
	Serial bool
	// Phase names the traffic in reports.
	Phase string
	// OnAcquire, if not nil, is told how many units have been acquired, of how many.
	OnAcquire func(done, total int)
}

// unit is a Unit with its layout.
type unit struct {
	Unit
	params []Param // those that are gathered, in the layout's order
	layout sharding.Layout
	shard  tensor.Tensor // at rest on the device
	host   []byte        // at rest on the host
}

// Store hands out gathered units. Acquire and Rows are called from the goroutine
// that issues the rank's ops; every rank of the group acquires the same units in the
// same order, as that is what makes them whole.
type Store struct {
	opts   Options
	reader Reader // nil when planning
	units  []unit
	index  map[string]int
	rows   map[string]Param

	packs    bool          // the backend has layouts of its own: see landing
	landing  tensor.Tensor // U8: where units are gathered
	next     *gathering    // prefetched, or nil
	high     bool          // the gathered unit in use lies at the end of landing
	held     string        // the unit in use, or ""
	acquired int
	staging  []byte // of fetchTo, kept: one for each unit would pile up before the collector runs
}

// Open lays out units, in the order of their use, over the ranks of opts.Group,
// allocates from the arenas Weights and Gathered of ops, and reads this rank's shards.
// A nil r only allocates, for planning. With Twins it is a collective of theirs. Close the store, on every rank, before the group
// or the arenas.
//
// Beside the arenas it uses one host buffer of at most 16 MiB. Errors stick to ops:
// tensor.ErrArena, tensor.ErrShape, the Reader's.
func Open(ops tensor.Ops, units []Unit, r Reader, opts Options) *Store {
	s := &Store{opts: opts, reader: r, index: map[string]int{}, rows: map[string]Param{}}
	if err := s.layOut(units); err != nil {
		ops.Fail(fmt.Errorf("shard weights: %w", err))
		return s
	}
	s.allocate(ops)
	if r != nil && ops.Err() == nil {
		ops.Fail(s.fill(ops))
	}
	if s.shares() && ops.Err() == nil { // none goes on before all have read
		ops.Fail(opts.Twins.Barrier(ops.Context(), comm.Place{Phase: opts.Phase, Purpose: "shared weights"}))
	}
	return s
}

func (s *Store) layOut(units []Unit) error {
	for _, u := range units {
		if _, twice := s.index[u.Name]; twice {
			return fmt.Errorf("two units %q: %w", u.Name, tensor.ErrShape)
		}
		next := unit{Unit: u}
		var params []sharding.Param
		for _, p := range u.Params {
			if p.Rows {
				s.rows[p.Name] = p
				continue
			}
			n, ok := p.Shape.NumElements()
			if !ok || !p.DType.IsCompute() {
				return fmt.Errorf("parameter %q is %v%v: %w", p.Name, p.DType, p.Shape, tensor.ErrShape)
			}
			next.params = append(next.params, p)
			params = append(params, sharding.Param{Name: p.Name, Elements: n, ElementBytes: p.DType.Size()})
		}
		layout, err := sharding.NewLayout(params, s.opts.Group.Size())
		if err != nil {
			return fmt.Errorf("unit %q: %w: %w", u.Name, err, tensor.ErrShape)
		}
		next.layout = layout
		s.index[u.Name] = len(s.units)
		s.units = append(s.units, next)
	}
	return nil
}

// allocate makes room for the shards and for gathering.
func (s *Store) allocate(ops tensor.Ops) {
	for _, u := range s.units {
		for _, p := range u.params {
			s.packs = s.packs || ops.Backend().PackedBytes(p.Kind, p.DType, p.Shape) > 0
		}
	}
	if s.opts.Rest == OnDevice {
		for i := range s.units {
			if n := s.units[i].layout.ShardBytes; n > 0 {
				s.units[i].shard = ops.Using(tensor.Weights).Empty(tensor.U8, int(n))
			}
		}
	}
	if n := s.landingBytes(); n > 0 {
		s.landing = ops.Using(tensor.Gathered).Empty(tensor.U8, int(n))
	}
	if s.packs && s.reader != nil && ops.Err() == nil {
		if _, err := comm.HostBytes(s.landing); err != nil {
			ops.Fail(fmt.Errorf("%s packs weights, for which gathered ones have to be in host memory: %w", ops.Backend().Name(), err))
		}
	}
}

// landingBytes is what gathering takes: the largest unit, or, if units are used where
// they land while the next one comes, the two successive units that are largest
// together.
func (s *Store) landingBytes() int64 {
	largest, pair := int64(0), int64(0)
	for i, u := range s.units {
		n := u.layout.Bytes()
		largest = max(largest, n)
		if j, ok := s.following(i); ok {
			pair = max(pair, n+s.units[j].layout.Bytes())
		}
	}
	if s.packs || s.opts.Serial {
		return largest
	}
	return max(largest, pair)
}

// following returns the unit that is used after unit i.
func (s *Store) following(i int) (int, bool) {
	switch {
	case i+1 < len(s.units):
		return i + 1, true
	case s.opts.Cyclic && len(s.units) > 1:
		return 0, true
	}
	return 0, false
}

// ShardBytes returns the bytes that this rank holds of all units, wherever they rest.
func (s *Store) ShardBytes() (bytes int64) {
	for _, u := range s.units {
		bytes += u.layout.ShardBytes
	}
	return bytes
}

// HostBytes returns how much of them rests in host memory, on the first of the ranks
// that share it: summed over a node's ranks, it is what the node keeps.
func (s *Store) HostBytes() int64 {
	if s.opts.Rest == OnHost && (s.opts.Twins == nil || s.opts.Twins.Rank() == 0) {
		return s.ShardBytes()
	}
	return 0
}

// Close waits for a prefetch under way, of which the other ranks have their part: after
// an error, abort the group first. The arenas are the caller's to release.
func (s *Store) Close() error {
	var err error
	if s.held != "" {
		err = fmt.Errorf("weights closed while unit %q is in use", s.held)
	}
	if s.next != nil {
		err = errors.Join(err, s.next.wait())
		s.next = nil
	}
	return err
}

// Weights is a Store whose units are of a model's own map type.
type Weights[P ~map[string]tensor.Tensor] struct{ *Store }

// Acquire is Store.Acquire.
func (w Weights[P]) Acquire(ops tensor.Ops, name string) (P, func()) {
	p, release := w.Store.Acquire(ops, name)
	return P(p), release
}
