package vae

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Encoder is the encoder with its weights.
type Encoder struct {
	Config
	Weights nn.Weights
	// Compute is the type of activations and caches. The original code encodes in F32.
	Compute tensor.DType
	// Slabs says which rows of the frames this rank encodes, Whole for all.
	Slabs Slabs
	// Trace, if not nil, gets the result of each layer for each frame, by the name
	// that its parameters begin with: this rank's rows.
	Trace func(layer string, frame tensor.Tensor)
}

// NewEncoder returns the encoder. Weights hand out EncoderUnits(c).
func NewEncoder(c Config, weights nn.Weights, compute tensor.DType) *Encoder {
	return &Encoder{Config: c, Weights: weights, Compute: compute, Slabs: Whole{}}
}

// FrameSource returns frame i of a video, [h, w, 3] with values around [-1, 1],
// and whether it is the same as frame i-1, in which case the floats are not read.
// It is called for each frame once, in order, on every rank that holds rows.
type FrameSource func(i int) (hwc []float32, same bool)

// Encode returns the normalised mean [t, h/8, w/8, ZDim] F32, allocated as
// tensor.Latents, of a video of numFrames frames, of which those beyond the last
// 4n+1 are dropped as the original code does.
//
// Frames go to the device one at a time. Repeated frames cost next to nothing, and
// give the same bits as if they were not known to repeat.
//
// Of several ranks each encodes its rows of the frames, and all get the whole
// result, those without rows among them.
//
// Errors stick to ops: tensor.ErrShape for h or w not divisible by 8 and frames of
// another size.
func (e *Encoder) Encode(ops tensor.Ops, numFrames, h, w int, frame FrameSource) tensor.Tensor {
	if err := e.check(numFrames, h, w); err != nil {
		ops.Fail(fmt.Errorf("vae encode: %w", err))
		return tensor.Tensor{}
	}
	t := LatentFrames(numFrames)
	result := ops.Using(tensor.Latents).Empty(tensor.F32, t, h/SpaceStride, w/SpaceStride, e.ZDim)
	slab := newSlab(ops, e.Slabs, h/SpaceStride)
	if slab.count > 0 {
		e.encode(ops, slab, result, w, frame)
	}
	for i := 0; i < t && ops.Err() == nil; i++ {
		z := result.Slice(i, 1)
		slab.Publish(ops, ops.Reshape(z, z.Dim(1), z.Dim(2), z.Dim(3)))
	}
	return result
}

// encode sets this rank's rows of result from frames of width w.
func (e *Encoder) encode(ops tensor.Ops, slab slab, result tensor.Tensor, w int, frame FrameSource) {
	t, h := result.Dim(0), slab.height*SpaceStride
	start, count := slab.start*SpaceStride, slab.count*SpaceStride
	withStream(ops, e.Weights, encoderUnit, e.Compute, slab, t == 1, func(s *stream) {
		s.trace = e.Trace
		p := newEncodePass(s, e.Config, count, w, result)
		for i := 0; i <= (t-1)*TimeStride && ops.Err() == nil; i++ {
			hwc, same := frame(i)
			same = same && i > 0
			if !same && len(hwc) != h*w*3 {
				ops.Fail(fmt.Errorf("vae encode: frame %d has %d floats; want %d of [%d, %d, 3]: %w",
					i, len(hwc), h*w*3, h, w, tensor.ErrShape))
				return
			}
			s.ops.Scope(func() {
				x := tensor.Tensor{}
				if !same {
					own := hwc[start*w*3:][:count*w*3]
					x = s.ops.Cast(s.ops.FromFloats(own, 1, count, w, 3), e.Compute)
				}
				p.push(0, x, same)
			})
		}
	})
}

func (e *Encoder) check(numFrames, h, w int) error {
	if err := e.Validate(); err != nil {
		return err
	}
	if numFrames < 1 || h < SpaceStride || w < SpaceStride || h%SpaceStride != 0 || w%SpaceStride != 0 {
		return fmt.Errorf("%d frames of %dx%d; want at least one, with sides divisible by %d: %w",
			numFrames, w, h, SpaceStride, tensor.ErrShape)
	}
	return nil
}

// encodePass is one Encode on its way.
type encodePass struct {
	*stream
	segments []*segment
	downs    []timeDownsample // downs[i] follows segments[i]
	shift    tensor.Tensor    // -mean
	scale    tensor.Tensor    // 1/std
	result   tensor.Tensor
	numDone  int // frames of result that are set
}

func newEncodePass(s *stream, c Config, h, w int, result tensor.Tensor) *encodePass {
	p := &encodePass{stream: s, result: result}
	p.segments, p.downs = newSegments(s, encoderLayers(c), tensor.Shape{1, h, w, 3})
	shift, scale := make([]float32, c.ZDim), make([]float32, c.ZDim)
	for i := range c.ZDim {
		shift[i], scale[i] = -c.Mean[i], 1/c.Std[i]
	}
	p.shift = s.ops.FromFloats(shift, c.ZDim)
	p.scale = s.ops.FromFloats(scale, c.ZDim)
	return p
}

// push sends a frame through segment i and whatever comes of it through the rest.
func (p *encodePass) push(i int, x tensor.Tensor, same bool) {
	y, same := p.segments[i].forward(p.stream, x, same)
	if i == len(p.downs) {
		p.finish(y)
		return
	}
	if z, zSame, ok := p.downs[i].push(p.stream, y, same); ok {
		p.push(i+1, z, zSame)
	}
}

// finish stores the normalised mean of moments [1, h, w, 2 ZDim] as the next
// frame: (mean - shift) / std. The variance is not used.
func (p *encodePass) finish(moments tensor.Tensor) {
	if p.ops.Err() != nil {
		return
	}
	mean := p.ops.Narrow(p.ops.Cast(moments, tensor.F32), 3, 0, p.result.Dim(3))
	centred := p.ops.Affine(mean, tensor.Tensor{}, p.shift, 1, tensor.F32)
	target := rows(p.ops, p.result.Slice(p.numDone, 1), p.slab.start, p.slab.count)
	p.ops.CopyTo(target, p.ops.Affine(centred, p.scale, tensor.Tensor{}, 0, tensor.F32))
	p.numDone++
}
