package fsdp

import (
	"context"
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// gathering is an all-gather of a unit under way.
type gathering struct {
	unit int
	high bool          // at the end of the landing buffer
	dst  tensor.Tensor // U8, the unit's flat bytes
	wait func() error  // any number of times, from one goroutine
}

// gather begins to make unit i whole at one end of the landing buffer.
//
// A shard at rest on the device is gathered as the group's own asynchronous
// collective. A shard that has to be fetched first is copied into its place in the
// unit and gathered from there. In host memory a goroutine does both, touching
// neither ops nor backend; it is the only user of the group, as one gathering is under
// way at a time, and every wait for it is this rank's own. In other memory the
// backend copies before gather returns.
func (s *Store) gather(ops tensor.Ops, i int, high bool) *gathering {
	u := &s.units[i]
	n := u.layout.Bytes()
	g := &gathering{unit: i, high: high && !s.packs && !s.opts.Serial, wait: func() error { return nil }}
	if n == 0 { // nothing but rows in files
		return g
	}
	at := int64(0)
	if g.high {
		at = s.landing.Bytes() - n
	}
	g.dst = s.landing.Slice(int(at), int(n))
	place := comm.Place{Phase: s.opts.Phase, Purpose: "weights", Block: i + 1}
	rank, size := s.opts.Group.Rank(), u.layout.ShardBytes
	own := g.dst.Slice(int(int64(rank)*size), int(size))
	ctx := ops.Context()

	start := func(src tensor.Tensor) {
		g.wait = s.opts.Group.Start(ctx, comm.Call{Op: comm.OpAllGather, Place: place, Dst: g.dst, Src: src}).Wait
	}
	if s.opts.Rest == OnDevice {
		start(u.shard)
		return g
	}
	if s.reader == nil { // planning: own part of the unit counts as written
		start(own)
		return g
	}
	bytes, err := comm.HostBytes(own)
	if err != nil {
		if err := s.fetchTo(ops, u, own); err != nil {
			g.wait = func() error { return err }
			return g
		}
		start(own)
		return g
	}
	done := make(chan error, 1)
	go func() { done <- s.fetchAndGather(ctx, place, u, bytes, g.dst, own) }()
	var result error
	waited := false
	g.wait = func() error {
		if !waited {
			result, waited = <-done, true
		}
		return result
	}
	return g
}

func (s *Store) fetchAndGather(ctx context.Context, at comm.Place, u *unit, bytes []byte, dst, own tensor.Tensor) error {
	if err := s.fetch(u, 0, bytes); err != nil {
		return err
	}
	return s.opts.Group.AllGather(ctx, at, dst, own, nil)
}

// fetch fills dst with this rank's shard of u from byte at on.
func (s *Store) fetch(u *unit, at int64, dst []byte) error {
	if u.host != nil {
		copy(dst, u.host[at:])
		return nil
	}
	return s.read(u, at, dst)
}

// read is fetch from the file. What is padding becomes zero.
func (s *Store) read(u *unit, at int64, dst []byte) error {
	clear(dst)
	from := int64(s.opts.Group.Rank())*u.layout.ShardBytes + at
	for _, piece := range u.layout.Pieces(from, int64(len(dst))) {
		p := u.params[piece.Slot]
		part := dst[piece.At : piece.At+piece.Count*p.DType.Size()]
		if err := s.reader.ReadRange(p, piece.First, part); err != nil {
			return fmt.Errorf("read elements %d to %d of %q: %w", piece.First, piece.First+piece.Count-1, p.Name, err)
		}
	}
	return nil
}

// maxStaging bounds the host buffer that shards pass through on their way to the
// device. It is a multiple of sharding.Align.
const maxStaging = 16 << 20 // bytes

// fetchTo fills dst, in the backend's memory, with this rank's shard of u.
func (s *Store) fetchTo(ops tensor.Ops, u *unit, dst tensor.Tensor) error {
	n := dst.Bytes()
	if need := min(n, maxStaging); int64(len(s.staging)) < need {
		s.staging = make([]byte, need)
	}
	for at := int64(0); at < n; at += maxStaging {
		if ops.Context().Err() != nil {
			return fmt.Errorf("load weights: %w", context.Cause(ops.Context()))
		}
		part := s.staging[:min(n-at, maxStaging)]
		if err := s.fetch(u, at, part); err != nil {
			return err
		}
		if err := ops.Backend().Write(dst.Slice(int(at), len(part)), part); err != nil {
			return err
		}
		if err := ops.Backend().Sync(); err != nil { // before the buffer is used again
			return err
		}
	}
	return nil
}

// fill reads this rank's shards to where they rest.
func (s *Store) fill(ops tensor.Ops) error {
	switch s.opts.Rest {
	case OnDevice:
		for i := range s.units {
			if u := &s.units[i]; u.layout.ShardBytes > 0 {
				if err := s.fetchTo(ops, u, u.shard); err != nil {
					return err
				}
			}
		}
		s.staging = nil // nothing is read any more
	case OnHost:
		return s.fillHost(ops)
	}
	return nil
}

// fillHost reads the shards to host memory. Twins deal the units among themselves.
func (s *Store) fillHost(ops tensor.Ops) error {
	host, err := s.hostMemory()
	if err != nil {
		return err
	}
	readers, turn := 1, 0
	if s.shares() {
		readers, turn = s.opts.Twins.Size(), s.opts.Twins.Rank()
	}
	for i := range s.units {
		u := &s.units[i]
		n := u.layout.ShardBytes
		u.host, host = host[:n:n], host[n:]
		if i%readers != turn {
			continue
		}
		if ops.Context().Err() != nil {
			return fmt.Errorf("load weights: %w", context.Cause(ops.Context()))
		}
		if err := s.read(u, 0, u.host); err != nil {
			return err
		}
	}
	return nil
}

// shares says whether other ranks have the same host memory.
func (s *Store) shares() bool {
	return s.opts.Rest == OnHost && s.opts.Twins != nil && s.opts.Twins.Size() > 1
}

func (s *Store) hostMemory() ([]byte, error) {
	n := s.ShardBytes()
	if s.opts.Host == nil && s.shares() {
		return nil, fmt.Errorf("%d ranks share host memory that nobody gives them", s.opts.Twins.Size())
	}
	if s.opts.Host == nil {
		return make([]byte, n), nil
	}
	host, err := s.opts.Host(n)
	if err != nil {
		return nil, fmt.Errorf("%d bytes of host memory for weights: %w", n, err)
	}
	if int64(len(host)) < n {
		return nil, fmt.Errorf("%d bytes of host memory for weights, %d were asked for: %w", len(host), n, tensor.ErrNoMemory)
	}
	return host, nil
}
