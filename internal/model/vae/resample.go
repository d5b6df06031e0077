package vae

import (
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// upsample doubles height and width by repeating pixels, then halves the channels
// with a 3x3 convolution.
type upsample struct {
	name    string
	in, dim int
}

func (l upsample) label() string      { return l.name }
func (l upsample) params() []nn.Param { return convParams(l.name, l.dim, l.in, 3, 3) }
func (l upsample) delay() int         { return 0 }

func (l upsample) out(x tensor.Shape) tensor.Shape {
	return tensor.Shape{x[0], 2 * x[1], 2 * x[2], l.dim}
}

func (l upsample) flops(x tensor.Shape) int64 {
	return 18 * positions(l.out(x)) * int64(l.in) * int64(l.dim)
}

func (l upsample) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	y := s.ops.Empty(s.compute, 1, 2*x.Dim(1), 2*x.Dim(2), l.dim)
	s.ops.Update(y, func() tensor.Tensor { // the large frame before the convolution does not stay
		return s.conv(l.name, s.enlarged(x), tensor.Tensor{}, tensor.ConvSpec{
			Stride: [3]int{1, 1, 1}, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1})
	})
	return y
}

// enlarged returns x with each pixel repeated to 2x2, and a row of neighbours at
// either end. The small frame is what neighbours exchange: of the two rows that
// one of theirs becomes, the outer one is left out.
func (s *stream) enlarged(x tensor.Tensor) tensor.Tensor {
	above, below := s.slab.neighbours(1, 1)
	y := s.ops.Upsample2x(s.withHalo(x, 1, 1, func() tensor.Tensor { return x }))
	return rows(s.ops, y, above, above+2*x.Dim(1)+below)
}

// downsample halves height and width with a 3x3 convolution of stride 2. The
// original code pads on the right and at the bottom alone.
type downsample struct {
	name string
	dim  int
}

func (l downsample) label() string      { return l.name }
func (l downsample) params() []nn.Param { return convParams(l.name, l.dim, l.dim, 3, 3) }
func (l downsample) delay() int         { return 0 }

func (l downsample) out(x tensor.Shape) tensor.Shape {
	return tensor.Shape{x[0], x[1] / 2, x[2] / 2, l.dim}
}

func (l downsample) flops(x tensor.Shape) int64 {
	return 18 * positions(l.out(x)) * int64(l.dim) * int64(l.dim)
}

func (l downsample) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	y := s.ops.Empty(s.compute, 1, x.Dim(1)/2, x.Dim(2)/2, l.dim)
	s.ops.Update(y, func() tensor.Tensor {
		x := s.withHalo(x, 0, 1, func() tensor.Tensor { return x })
		return s.conv(l.name, x, tensor.Tensor{}, tensor.ConvSpec{Stride: [3]int{1, 2, 2}, PadBottom: 1, PadRight: 1})
	})
	return y
}

// timeUpsample makes two frames of each but the first, which passes as it is.
// Nor is the first remembered: for the second one, what came before is zero.
type timeUpsample struct {
	name string
	dim  int
}

func (l timeUpsample) label() string      { return l.name }
func (l timeUpsample) params() []nn.Param { return convParams(l.name, 2*l.dim, l.dim, 3, 1, 1) }
func (l timeUpsample) delay() int         { return 2 }

func (l timeUpsample) out(x tensor.Shape) tensor.Shape {
	return tensor.Shape{2*x[0] - 1, x[1], x[2], l.dim}
}

func (l timeUpsample) flops(x tensor.Shape) int64 {
	return 12 * int64(x[0]-1) * int64(x[1]) * int64(x[2]) * int64(l.dim) * int64(l.dim)
}

// forward returns both frames in one, [1, h, w, 2 C]; or x, the first of all.
func (l timeUpsample) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	h := s.history(l.name)
	h.seen++
	if h.seen == 1 {
		return x
	}
	y := s.overTime(l.name, x)
	s.remember(h, x)
	return y
}

// numFrames returns how many frames lie in a result of forward.
func (l timeUpsample) numFrames(y tensor.Tensor) int { return y.Dim(3) / l.dim }

// frame returns frame k of a result of forward.
func (l timeUpsample) frame(s *stream, y tensor.Tensor, k int) tensor.Tensor {
	if y.Dim(3) == l.dim {
		return y
	}
	return s.ops.Narrow(y, 3, k*l.dim, l.dim)
}

// timeDownsample makes one frame of two: the first passes as it is, and from then
// on every second one gives a result, from itself and the two before it.
type timeDownsample struct {
	name string
	dim  int
}

func (l timeDownsample) label() string      { return l.name }
func (l timeDownsample) params() []nn.Param { return convParams(l.name, l.dim, l.dim, 3, 1, 1) }
func (l timeDownsample) delay() int         { return 2 }

func (l timeDownsample) out(x tensor.Shape) tensor.Shape {
	return tensor.Shape{(x[0]-1)/2 + 1, x[1], x[2], l.dim}
}

func (l timeDownsample) flops(x tensor.Shape) int64 {
	return 6 * int64((x[0]-1)/2) * int64(x[1]) * int64(x[2]) * int64(l.dim) * int64(l.dim)
}

// forward returns the result that ends with frame x: x itself, if it is the first.
func (l timeDownsample) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	if s.history(l.name).seen == 1 {
		return x
	}
	return s.overTime(l.name, x)
}

// push takes the next frame, with whether it is the same as the one before, and
// returns the next result, if there is one, and whether that is the same as the
// result before; if so it is not computed, and y is none.
func (l timeDownsample) push(s *stream, x tensor.Tensor, same bool) (y tensor.Tensor, ySame, ok bool) {
	h := s.history(l.name)
	h.seen++
	h.run++
	if !same {
		h.run = 0
	}
	switch {
	case h.seen%2 == 0: // waits for its partner
	case h.run >= 4: // the five frames that this and the last result come from are one
		ySame, ok = true, true
	default:
		y, ok = s.forward(l, x), true
	}
	if h.run < numRemembered { // else both remembered frames are x already
		s.remember(h, x)
	}
	return y, ySame, ok
}
