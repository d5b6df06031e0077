package wan

// Shapes: T, H, W latent frames, height, width; C channels; S tokens of this
// rank; D dim; N heads; in blocks, H is the head dim.

import (
	"fmt"
	"iter"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Model is a DiT with its weights. Methods are called with one Ops at a time.
type Model struct {
	Config
	// Weights hand out PrepareUnits while Prepare runs and ForwardUnits while
	// Forward does.
	Weights nn.Weights
	// Compute is the type of matrices and of what goes through them; the residual
	// stream, norms, modulation, rope, timestep embedding and head are F32.
	Compute tensor.DType
	// Seq spreads the sequence over ranks.
	Seq SeqParallel
	// SlabTokens bounds the tokens whose projections and FFN hidden rows exist at
	// once. The result does not depend on it, as rows do not depend on each other.
	SlabTokens int
	// Trace, if not nil, gets intermediate results by the names of the reference
	// data, a slab at a time where the model works by slabs.
	Trace func(name string, x tensor.Tensor)
}

// defaultSlab keeps a 14B FFN slab near 0.1 GB while its matrix products stay
// large enough to run at full speed.
const defaultSlab = 4096

// New returns the model of one rank that holds the sequence alone, matrices in
// type compute.
func New(c Config, weights nn.Weights, compute tensor.DType) *Model {
	return &Model{Config: c, Weights: weights, Compute: compute, Seq: Whole{}, SlabTokens: defaultSlab}
}

// pass is what one forward computes once for all blocks and branches.
type pass struct {
	grid         [3]int // tokens along T, H, W
	numTokens    int    // of the whole sequence
	start, count int    // rows of this rank
	cos, sin     tensor.Tensor
	ones         tensor.Tensor // [1, D] F32
	e            tensor.Tensor // timestep embedding [1, D] F32
	e0           tensor.Tensor // modulation shared by all blocks [6, D] F32
}

// Forward returns the prediction [T, H, W, OutDim] F32 of each branch: the velocity of
// the flow at timestep t for the latent x [T, H, W, OutDim] F32 under each of conds.
// y [T, H, W, InDim-OutDim] F32 is what i2v and flf2v append to the channels of x
// (mask and image latent), none for t2v. The branches of classifier-free guidance
// go through one call, as they share each unit that is acquired; their residual
// streams, S x D F32 each, exist together.
//
// Every rank of a sequence-parallel group gets the whole x and y and returns the
// whole predictions.
//
// Errors stick to ops: tensor.ErrShape, and what Weights and Seq report.
// Source: arXiv:2503.20314, section 4; DiT, arXiv:2212.09748.
func (m *Model) Forward(ops tensor.Ops, x, y tensor.Tensor, t int64, conds ...*Cond) []tensor.Tensor {
	outTHWC := make([]tensor.Tensor, len(conds))
	if err := m.check(x, y, conds); err != nil {
		ops.Fail(err)
		return outTHWC
	}
	for i := range outTHWC {
		outTHWC[i] = ops.Empty(tensor.F32, x.Dim(0), x.Dim(1), x.Dim(2), m.OutDim)
	}
	ops.Scope(func() {
		f, xSD := m.begin(ops, x, y, t)
		streams := []tensor.Tensor{xSD}
		for range conds[1:] {
			streams = append(streams, ops.Clone(xSD, tensor.F32))
		}
		for i := range m.NumLayers {
			m.block(ops, f, i, streams, conds)
		}
		m.head(ops, f, streams, outTHWC)
	})
	return outTHWC
}

// check returns what is wrong with the arguments of Forward.
func (m *Model) check(x, y tensor.Tensor, conds []*Cond) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("dit forward: %w", err)
	}
	channels := x.Dim(3)
	sized := x.Rank() == 4
	if !y.IsNone() {
		channels += y.Dim(3)
		sized = sized && y.Rank() == 4 && y.Shape()[:3].Equal(x.Shape()[:3])
	}
	switch {
	case !sized || channels != m.InDim || x.Dim(3) != m.OutDim:
		return fmt.Errorf("dit forward: latent %v and condition %v; want [T, H, W, %d] and [T, H, W, %d]: %w",
			x, y, m.OutDim, m.InDim-m.OutDim, tensor.ErrShape)
	case m.NumTokens(x.Dim(0), x.Dim(1), x.Dim(2)) == 0:
		return fmt.Errorf("dit forward: latent %v does not divide into patches of %v: %w", x, m.PatchSize, tensor.ErrShape)
	case len(conds) == 0:
		return fmt.Errorf("dit forward: no context to predict under: %w", tensor.ErrShape)
	}
	for i, c := range conds {
		if c == nil || len(c.layers) != m.NumLayers {
			return fmt.Errorf("dit forward: context %d was not prepared by this model: %w", i, tensor.ErrShape)
		}
	}
	return nil
}

// begin embeds this rank's patches [S, D] and the timestep.
func (m *Model) begin(ops tensor.Ops, x, y tensor.Tensor, t int64) (*pass, tensor.Tensor) {
	f := &pass{}
	for i, size := range m.PatchSize {
		f.grid[i] = x.Dim(i) / size
	}
	f.numTokens = f.grid[0] * f.grid[1] * f.grid[2]
	f.start, f.count = m.Seq.Shard(f.numTokens)

	cos, sin := ropeTables(f.grid, f.start, f.count, m.HeadDim())
	f.cos = ops.FromFloats(cos, f.count, m.HeadDim()/2)
	f.sin = ops.FromFloats(sin, f.count, m.HeadDim()/2)
	f.ones = ops.Empty(tensor.F32, 1, m.Dim)
	ops.Fill(f.ones, 1)

	p, release := m.Weights.Acquire(ops, rootUnit)
	defer release()
	m.embedTime(ops, p, f, t)
	return f, m.embedPatches(ops, p, f, x, y)
}

// embedTime sets f.e and f.e0.
func (m *Model) embedTime(ops tensor.Ops, p nn.Params, f *pass, t int64) {
	f.e = ops.Empty(tensor.F32, 1, m.Dim)
	f.e0 = ops.Empty(tensor.F32, 6, m.Dim)
	ops.Scope(func() {
		sinusoid := ops.FromFloats(timestepSinusoid(t, m.FreqDim), 1, m.FreqDim)
		hidden := p.Linear(ops, "time_embedding.0", sinusoid, tensor.SiLU, tensor.F32)
		e := p.Linear(ops, "time_embedding.2", hidden, tensor.NoActivation, tensor.F32)
		ops.CopyTo(f.e, e)
		e0 := p.Linear(ops, "time_projection.1", ops.Activate(e, tensor.SiLU), tensor.NoActivation, tensor.F32)
		ops.CopyTo(f.e0, ops.Reshape(e0, 6, m.Dim))
	})
	m.trace("time_embedding", f.e)
	m.trace("time_projection", f.e0)
}

// embedPatches returns the rows [S, D] of this rank: a matrix product over the
// pixels of each patch, ordered (channel, pt, ph, pw) as in a Conv3d's weight.
// Padding rows are zero, without even the bias.
func (m *Model) embedPatches(ops tensor.Ops, p nn.Params, f *pass, x, y tensor.Tensor) tensor.Tensor {
	xSD := ops.Empty(tensor.F32, f.count, m.Dim)
	filled := min(max(f.numTokens-f.start, 0), f.count)
	if filled < f.count {
		ops.Fill(xSD.Slice(filled, f.count-filled), 0)
	}
	if filled == 0 {
		return xSD
	}
	ops.Scope(func() {
		latent := ops.Cast(x, m.Compute)
		if !y.IsNone() {
			latent = ops.Concat(3, latent, ops.Cast(y, m.Compute))
		}
		g, size := f.grid, m.PatchSize
		split := ops.Reshape(latent, g[0], size[0], g[1], size[1], g[2], size[2], m.InDim)
		patches := ops.Reshape(ops.Permute(split, 0, 2, 4, 6, 1, 3, 5), f.numTokens, m.InDim*m.patchVolume())
		for at, rows := range m.slabs(filled) {
			ops.Scope(func() {
				ops.CopyTo(xSD.Slice(at, rows),
					p.Linear(ops, "patch_embedding", patches.Slice(f.start+at, rows), tensor.NoActivation, m.Compute))
			})
		}
	})
	m.trace("patch_embedding", xSD)
	return xSD
}

// head sets the prediction of each stream: norm, modulation by the timestep
// embedding itself and a projection, in F32, and the patches put back in place.
func (m *Model) head(ops tensor.Ops, f *pass, streams, outTHWC []tensor.Tensor) {
	p, release := m.Weights.Acquire(ops, headUnit)
	defer release()
	ops.Scope(func() {
		mod := ops.Clone(ops.Reshape(p.Get(ops, "head.modulation"), 2, m.Dim), tensor.F32)
		shift, scale := mod.Slice(0, 1), mod.Slice(1, 1)
		ops.AddTo(shift, f.e, tensor.Tensor{})
		ops.AddTo(scale, f.e, tensor.Tensor{})
		ops.AddTo(scale, f.ones, tensor.Tensor{})
		for i, xSD := range streams {
			ops.Scope(func() {
				ySP := ops.Empty(tensor.F32, f.count, m.OutDim*m.patchVolume())
				for at, rows := range m.slabs(f.count) {
					ops.Scope(func() {
						h := ops.LayerNorm(xSD.Slice(at, rows), scale, shift, float32(m.Eps), tensor.F32)
						ops.CopyTo(ySP.Slice(at, rows), p.Linear(ops, "head.head", h, tensor.NoActivation, tensor.F32))
					})
				}
				all := m.Seq.Gather(ops, ySP, f.numTokens)
				m.trace("head", all)
				g, size := f.grid, m.PatchSize
				patches := ops.Reshape(all, g[0], g[1], g[2], size[0], size[1], size[2], m.OutDim)
				ops.CopyTo(outTHWC[i], ops.Reshape(ops.Permute(patches, 0, 3, 1, 4, 2, 5, 6), outTHWC[i].Shape()...))
			})
		}
	})
}

// slabs yields the ranges (start, length) that the model cuts count rows into:
// as few as SlabTokens allows, of nearly equal length.
func (m *Model) slabs(count int) iter.Seq2[int, int] {
	return func(yield func(start, length int) bool) {
		num := (count + m.SlabTokens - 1) / m.SlabTokens
		for i := range num {
			start, end := i*count/num, (i+1)*count/num
			if !yield(start, end-start) {
				return
			}
		}
	}
}

func (m *Model) trace(name string, x tensor.Tensor) {
	if m.Trace != nil {
		m.Trace(name, x)
	}
}
