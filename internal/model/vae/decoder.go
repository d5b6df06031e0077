package vae

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Decoder is the decoder with its weights.
type Decoder struct {
	Config
	Weights nn.Weights
	// Compute is the type of activations and caches. The original code decodes in F32.
	Compute tensor.DType
	// Slabs says which rows of the frames this rank decodes, Whole for all.
	Slabs Slabs
	// Trace, if not nil, gets the result of each layer for each frame, by the name
	// that its parameters begin with: this rank's rows.
	Trace func(layer string, frame tensor.Tensor)
}

// NewDecoder returns the decoder. Weights hand out DecoderUnits(c).
func NewDecoder(c Config, weights nn.Weights, compute tensor.DType) *Decoder {
	return &Decoder{Config: c, Weights: weights, Compute: compute, Slabs: Whole{}}
}

// Decode decodes z [t, h, w, ZDim] F32 and hands the frames to emit as soon as
// they are finished: [1, 8h, 8w, 3] F32 in [-1, 1] for the first latent frame and
// [4, 8h, 8w, 3] for each other. They are emit's until it returns, as is what it
// allocates as activations or tensor.Collective; an error that it returns ends the
// decoding.
//
// Of several ranks each has the whole z and hands its own rows of the frames to
// emit, which gets them together with Slabs.Collect; a rank without rows has no
// frames.
//
// The frames of a shorter latent are the first frames of a longer one, bit by bit.
//
// Errors stick to ops, and the first is returned: tensor.ErrShape, emit's.
func (d *Decoder) Decode(ops tensor.Ops, zTHWC tensor.Tensor, emit func(frames tensor.Tensor) error) error {
	if ops.Err() != nil {
		return ops.Err()
	}
	if err := d.check(zTHWC); err != nil {
		ops.Fail(fmt.Errorf("vae decode: %w", err))
		return ops.Err()
	}
	numLatents := zTHWC.Dim(0)
	slab := newSlab(ops, d.Slabs, zTHWC.Dim(1))
	if slab.count == 0 || ops.Err() != nil {
		return ops.Err()
	}
	withStream(ops, d.Weights, decoderUnit, d.Compute, slab, numLatents == 1, func(s *stream) {
		s.trace = d.Trace
		p := newDecodePass(s, d.Config)
		for i := 0; i < numLatents && ops.Err() == nil; i++ {
			s.ops.Scope(func() {
				frames := p.decode(rows(ops, zTHWC.Slice(i, 1), slab.start, slab.count))
				if ops.Err() == nil {
					ops.Using(tensor.Collective).Scope(func() { ops.Fail(emit(frames)) })
				}
			})
		}
	})
	return ops.Err()
}

func (d *Decoder) check(z tensor.Tensor) error {
	if err := d.Validate(); err != nil {
		return err
	}
	if z.Rank() != 4 || z.Dim(3) != d.ZDim || z.DType() != tensor.F32 {
		return fmt.Errorf("latent %v; want F32[t, h, w, %d]: %w", z, d.ZDim, tensor.ErrShape)
	}
	return nil
}

// decodePass is one Decode on its way.
type decodePass struct {
	*stream
	layers      []layer
	scale       tensor.Tensor // std
	shift       tensor.Tensor // mean
	frames      tensor.Tensor // that the present latent frame gives
	numFinished int           // of them
	started     bool          // the first latent frame is behind
}

func newDecodePass(s *stream, c Config) *decodePass {
	return &decodePass{stream: s, layers: decoderLayers(c),
		scale: s.ops.FromFloats(c.Std, c.ZDim), shift: s.ops.FromFloats(c.Mean, c.ZDim)}
}

// decode returns this rank's rows of the frames of the next latent frame, of which
// z [1, h, w, ZDim] are its rows.
func (p *decodePass) decode(z tensor.Tensor) tensor.Tensor {
	numFrames := TimeStride
	if !p.started {
		numFrames, p.started = 1, true
	}
	p.frames = p.ops.Empty(tensor.F32, numFrames, SpaceStride*z.Dim(1), SpaceStride*z.Dim(2), 3)
	p.numFinished = 0
	p.ops.Scope(func() {
		p.push(p.layers, p.ops.Affine(z, p.scale, p.shift, 0, tensor.F32))
	})
	return p.ops.Clamp(p.frames, -1, 1)
}

// push sends a frame through layers. Where one frame becomes two, the first goes
// all the way before the second starts.
func (p *decodePass) push(layers []layer, x tensor.Tensor) {
	for i, l := range layers {
		x = p.forward(l, x)
		up, ok := l.(timeUpsample)
		if !ok {
			continue
		}
		for k := range up.numFrames(x) {
			p.ops.Scope(func() { p.push(layers[i+1:], up.frame(p.stream, x, k)) })
		}
		return
	}
	if p.ops.Err() == nil {
		p.ops.CopyTo(p.frames.Slice(p.numFinished, 1), x)
		p.numFinished++
	}
}
