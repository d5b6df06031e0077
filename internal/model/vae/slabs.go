package vae

import "github.com/wanrun/wanrun/pkg/tensor"

// Slabs spreads the rows of every frame over the ranks of a group: each rank holds
// a slab of them and computes it alone, except that a kernel that reaches beyond
// the slab sees rows of the neighbours, and attention the keys and values of all.
// A result is made of the same numbers in the same order as on one rank.
//
// Ranks hold rows in rank order. The latent's rows are what is divided: a frame of
// k times as many rows is divided at k times the same places. Where there are more
// ranks than rows, the last ranks hold none; they call Rows and Publish alone.
// Otherwise every rank makes the same calls in the same order. Errors stick to ops.
type Slabs interface {
	// Rows returns which of a latent's height rows this rank holds: count of them
	// from start on.
	Rows(ops tensor.Ops, height int) (start, count int)
	// Halo sets the rows at both ends of x [1, above+h+below, w, C], in which this
	// rank's own h rows are set: the first to the last rows of the rank before, the
	// last to the first rows of the rank after. above and below are the same on all
	// ranks, and no more than any rank's rows; x of the first rank lacks the rows
	// above, and x of the last rank those below.
	Halo(ops tensor.Ops, x tensor.Tensor, above, below int)
	// Gather sets the other ranks' rows of x [H, w, C], in which this rank's are set.
	Gather(ops tensor.Ops, x tensor.Tensor)
	// Collect returns the whole frames [F, H, w, C] of which x [F, h, w, C] are this
	// rank's rows, to the rank that holds the first rows, and none to the others.
	// They are of any type, x itself or allocated as tensor.Collective.
	Collect(ops tensor.Ops, x tensor.Tensor) tensor.Tensor
	// Publish is Gather to every rank: those that hold no rows get them too.
	Publish(ops tensor.Ops, x tensor.Tensor)
}

// Whole is the Slabs of one rank, which holds all rows.
type Whole struct{}

// Rows returns all rows.
func (Whole) Rows(_ tensor.Ops, height int) (start, count int) { return 0, height }

// Halo is not called: there is no neighbour.
func (Whole) Halo(tensor.Ops, tensor.Tensor, int, int) {}

// Gather leaves x as it is.
func (Whole) Gather(tensor.Ops, tensor.Tensor) {}

// Collect returns x.
func (Whole) Collect(_ tensor.Ops, x tensor.Tensor) tensor.Tensor { return x }

// Publish leaves x as it is.
func (Whole) Publish(tensor.Ops, tensor.Tensor) {}

// slab is the part of the frames that a stream works on.
type slab struct {
	Slabs
	start, count, height int // rows of the latent, in all height
}

func newSlab(ops tensor.Ops, slabs Slabs, height int) slab {
	start, count := slabs.Rows(ops, height)
	return slab{slabs, start, count, height}
}

// whole reports whether there are no other rows.
func (s slab) whole() bool { return s.count == s.height }

// neighbours returns how many of the above and below rows that a kernel wants
// around the slab are other ranks'. At the border of the frame there are none.
func (s slab) neighbours(above, below int) (before, after int) {
	if s.start > 0 {
		before = above
	}
	if s.start+s.count < s.height {
		after = below
	}
	return before, after
}

// rows returns count rows of frame x [1, H, w, C] from start on, as a view.
func rows(ops tensor.Ops, x tensor.Tensor, start, count int) tensor.Tensor {
	all := ops.Reshape(x, x.Dim(1), x.Dim(2), x.Dim(3))
	return ops.Reshape(all.Slice(start, count), 1, -1, x.Dim(2), x.Dim(3))
}

// withHalo returns the frame that own returns, which is like x [1, h, w, C], with
// the neighbours' rows around it: above and below of them, none at the frame's
// border. What own allocates is freed, unless it is the result itself.
func (s *stream) withHalo(x tensor.Tensor, above, below int, own func() tensor.Tensor) tensor.Tensor {
	if s.slab.whole() || above+below == 0 {
		return own()
	}
	before, after := s.slab.neighbours(above, below)
	var y tensor.Tensor
	if before+after == 0 { // this rank only gives
		y = own()
	} else {
		y = s.ops.Empty(x.DType(), 1, before+x.Dim(1)+after, x.Dim(2), x.Dim(3))
		s.ops.Update(rows(s.ops, y, before, x.Dim(1)), own)
	}
	s.slab.Halo(s.ops, y, above, below)
	return y
}

// gathered returns [H, w, C], all rows of a frame of which x [1, h, w, C] are this
// rank's.
func (s *stream) gathered(x tensor.Tensor) tensor.Tensor {
	if s.slab.whole() || s.ops.Err() != nil {
		return s.ops.Reshape(x, x.Dim(1), x.Dim(2), x.Dim(3))
	}
	scale := x.Dim(1) / s.slab.count
	y := s.ops.Empty(x.DType(), 1, s.slab.height*scale, x.Dim(2), x.Dim(3))
	s.ops.CopyTo(rows(s.ops, y, s.slab.start*scale, x.Dim(1)), x)
	y = s.ops.Reshape(y, y.Dim(1), y.Dim(2), y.Dim(3))
	s.slab.Gather(s.ops, y)
	return y
}
