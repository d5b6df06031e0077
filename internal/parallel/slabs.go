package parallel

import (
	"context"
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Slabs spreads the rows of the VAE's frames over the ranks of a group: the
// vae.Slabs of one rank. The rows of the latent are divided by sharding.Balanced,
// so that of more ranks than rows the last ones hold none; a group of those that
// do exchanges rows while the others wait for what they are sent in the end.
//
// Rows travel from where they lie to where they are wanted: no buffers but those of
// whole frames on the first rank, allocated as tensor.Collective.
type Slabs struct {
	all     comm.Group
	holders comm.Group // of rows; all if every rank is one, nil on a rank that is none
	height  int        // of the latent
	phase   string
}

// NewSlabs divides a latent of height rows over all ranks of a group. It is a
// collective where some get none. Traffic is reported under phase.
func NewSlabs(ctx context.Context, all comm.Group, height int, phase string) (*Slabs, error) {
	if height < 1 {
		return nil, fmt.Errorf("%d rows cannot be divided over %d ranks: %w", height, all.Size(), tensor.ErrShape)
	}
	s := &Slabs{all: all, holders: all, height: height, phase: phase}
	if height >= all.Size() {
		return s, nil
	}
	color := 0
	if all.Rank() >= height {
		color = -1
	}
	var err error
	if s.holders, err = all.Split(ctx, s.at("split"), color, all.Rank()); err != nil {
		return nil, fmt.Errorf("group of the %d of %d ranks that hold rows: %w", height, all.Size(), err)
	}
	return s, nil
}

// Close leaves the group that NewSlabs made, if it made one.
func (s *Slabs) Close() error {
	if s.holders == nil || s.holders == s.all {
		return nil
	}
	return s.holders.Close()
}

func (s *Slabs) at(purpose string) comm.Place { return comm.Place{Phase: s.phase, Purpose: purpose} }

// part returns the latent's rows that a rank holds.
func (s *Slabs) part(rank int) sharding.Range {
	return sharding.Balanced(s.height, rank, s.all.Size())
}

// counts returns how many elements each rank of g holds of a frame of n.
func (s *Slabs) counts(g comm.Group, n int64) []int64 {
	counts := make([]int64, g.Size())
	for rank := range counts {
		counts[rank] = n / int64(s.height) * int64(s.part(rank).Count)
	}
	return counts
}

// Rows returns which of the latent's rows this rank holds.
// Errors: tensor.ErrShape for another height than was divided.
func (s *Slabs) Rows(ops tensor.Ops, height int) (start, count int) {
	if height != s.height {
		ops.Fail(fmt.Errorf("latent of %d rows, where %d were divided over the ranks: %w", height, s.height, tensor.ErrShape))
		return 0, 0
	}
	p := s.part(s.all.Rank())
	return p.Start, p.Count
}

// Halo sets the rows at both ends of x [1, above+h+below, w, C] to those of the
// neighbours: one shift towards the last rank, one towards the first.
func (s *Slabs) Halo(ops tensor.Ops, x tensor.Tensor, above, below int) {
	if x = ops.Reshape(x, x.Dim(1), x.Dim(2), x.Dim(3)); ops.Err() != nil {
		return
	}
	begin, end := above, x.Dim(0)-below // of this rank's own rows
	first, last := s.holders.Rank() == 0, s.holders.Rank() == s.holders.Size()-1
	if first {
		begin = 0
	}
	if last {
		end = x.Dim(0)
	}
	var down, up comm.Call
	if !first {
		down.Dst, up.Src = some(x, 0, begin), some(x, begin, below)
	}
	if !last {
		down.Src, up.Dst = some(x, end-above, above), some(x, end, below)
	}
	var pending []comm.Pending
	for _, c := range []struct {
		comm.Call
		rows, by int
	}{{down, above, 1}, {up, below, -1}} {
		if c.rows > 0 {
			c.Op, c.Peer, c.Place = comm.OpShift, c.by, s.at("halo")
			pending = append(pending, s.holders.Start(ops.Context(), c.Call))
		}
	}
	for _, p := range pending {
		ops.Fail(p.Wait())
	}
}

// some returns count entries of x from start on, none for no entries.
func some(x tensor.Tensor, start, count int) tensor.Tensor {
	if count == 0 {
		return tensor.Tensor{}
	}
	return x.Slice(start, count)
}

// Gather sets the other ranks' rows of x [H, w, C] on all ranks that hold rows.
func (s *Slabs) Gather(ops tensor.Ops, x tensor.Tensor) { s.gather(ops, s.holders, x, "rows") }

// Publish sets the other ranks' rows of x [H, w, C] on all ranks.
func (s *Slabs) Publish(ops tensor.Ops, x tensor.Tensor) { s.gather(ops, s.all, x, "result") }

func (s *Slabs) gather(ops tensor.Ops, g comm.Group, x tensor.Tensor, purpose string) {
	if ops.Err() != nil || !s.divides(ops, x, x.Dim(0)) {
		return
	}
	own, scale := s.part(g.Rank()), x.Dim(0)/s.height
	src := some(x, own.Start*scale, own.Count*scale)
	ops.Fail(g.AllGather(ops.Context(), s.at(purpose), x, src, s.counts(g, x.NumElements())))
}

// divides sees that the rows of a frame are a multiple of the latent's.
func (s *Slabs) divides(ops tensor.Ops, x tensor.Tensor, height int) bool {
	if height < s.height || height%s.height != 0 {
		ops.Fail(fmt.Errorf("%v with %d rows, which are no multiple of the latent's %d: %w", x, height, s.height, tensor.ErrShape))
		return false
	}
	return true
}

// Collect returns the whole frames [F, H, w, C] on the first rank, which has to free
// them, and none on the others. x [F, h, w, C] are this rank's rows; of a rank that
// is alone they are the result.
func (s *Slabs) Collect(ops tensor.Ops, x tensor.Tensor) (whole tensor.Tensor) {
	if ops.Err() != nil || s.holders.Size() == 1 {
		return x
	}
	own, frames := s.part(s.holders.Rank()).Count, x.Dim(0)
	if x.Dim(1) == 0 || x.Dim(1)%own != 0 {
		ops.Fail(fmt.Errorf("%v from the holder of %d rows of the latent: %w", x, own, tensor.ErrShape))
		return tensor.Tensor{}
	}
	frame := x.NumElements() / int64(frames) / int64(own) * int64(s.height)
	counts := s.counts(s.holders, frame)
	sends, receives := make([]int64, len(counts)), make([]int64, len(counts))
	sends[0] = counts[s.holders.Rank()]
	if s.holders.Rank() == 0 {
		receives = counts
		whole = ops.Using(tensor.Collective).Empty(x.DType(), frames, x.Dim(1)/own*s.height, x.Dim(2), x.Dim(3))
	}
	for f := range frames {
		if ops.Err() != nil {
			return tensor.Tensor{}
		}
		dst := tensor.Tensor{}
		if !whole.IsNone() {
			dst = whole.Slice(f, 1)
		}
		ops.Fail(s.holders.AllToAll(ops.Context(), s.at("frames"), dst, x.Slice(f, 1), receives, sends))
	}
	return whole
}
