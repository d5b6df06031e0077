package vae

import (
	"math"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// layer is one step of encoder or decoder. It has no state of its own: what it
// remembers is the stream's.
type layer interface {
	// label names the layer as its parameters begin.
	label() string
	params() []nn.Param
	// delay is on how many frames before the present one the result depends.
	delay() int
	// out returns the shape [F, h, w, C] that comes of a whole video of shape x.
	out(x tensor.Shape) tensor.Shape
	// flops counts the matrix products over a whole video of shape x.
	flops(x tensor.Shape) int64
	// forward returns the result of frame x [1, h, w, C], which it may overwrite.
	// What else it allocates it frees.
	forward(s *stream, x tensor.Tensor) tensor.Tensor
}

// positions returns the pixels of all frames.
func positions(x tensor.Shape) int64 { return int64(x[0]) * int64(x[1]) * int64(x[2]) }

// withChannels returns x with another number of channels.
func withChannels(x tensor.Shape, c int) tensor.Shape { return tensor.Shape{x[0], x[1], x[2], c} }

// convParams are a convolution's: [out, in, kernel...] and a bias.
func convParams(name string, out, in int, kernel ...int) []nn.Param {
	shape := append(tensor.Shape{out, in}, kernel...)
	return append([]nn.Param{{Local: name + ".weight", Shape: shape, Kind: nn.Conv}}, nn.VectorParams(name+".bias", out)...)
}

// pointParams are those of a 1x1 convolution, which is a matrix product.
func pointParams(name string, out, in int, kernel ...int) []nn.Param {
	p := convParams(name, out, in, kernel...)
	p[0].Kind = nn.Matrix
	return p
}

// conv is every convolution with a kernel. spec is that of a whole frame: zeros
// are put where x, made by withHalo, has no neighbours' rows.
func (s *stream) conv(name string, x, before tensor.Tensor, spec tensor.ConvSpec) tensor.Tensor {
	above, below := s.slab.neighbours(spec.PadTop, spec.PadBottom)
	spec.PadTop -= above
	spec.PadBottom -= below
	return s.ops.Conv3D(x, before, s.params.Get(s.ops, name+".weight"), s.params.Get(s.ops, name+".bias"), spec)
}

// point is a 1x1 convolution.
func (s *stream) point(name string, x tensor.Tensor) tensor.Tensor {
	return s.params.Linear(s.ops, name, x, tensor.NoActivation, s.compute)
}

// causal is a 3x3x3 convolution over the frame that own returns, which is like x,
// and the two frames before it. Neighbours' rows are remembered with the frames,
// so that each comes once.
func (s *stream) causal(name string, x tensor.Tensor, own func() tensor.Tensor) tensor.Tensor {
	h := s.history(name)
	x = s.withHalo(x, 1, 1, own)
	y := s.conv(name, x, h.last(), tensor.ConvSpec{
		Stride: [3]int{1, 1, 1}, PadT: 2, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1})
	s.remember(h, x)
	return y
}

// overTime is a 3x1x1 convolution over x and the two frames before it.
func (s *stream) overTime(name string, x tensor.Tensor) tensor.Tensor {
	return s.conv(name, x, s.history(name).last(), tensor.ConvSpec{Stride: [3]int{1, 1, 1}, PadT: 2})
}

// normSiLUConv returns conv(silu(norm(x))) by a causal convolution.
func (s *stream) normSiLUConv(norm, conv string, x tensor.Tensor) tensor.Tensor {
	return s.causal(conv, x, func() tensor.Tensor {
		return s.ops.Activate(s.ops.L2Norm(x, s.params.Get(s.ops, norm+".gamma")), tensor.SiLU)
	})
}

// causalConv is a 3x3x3 convolution.
type causalConv struct {
	name    string
	in, dim int
}

func (l causalConv) label() string                   { return l.name }
func (l causalConv) params() []nn.Param              { return convParams(l.name, l.dim, l.in, 3, 3, 3) }
func (l causalConv) delay() int                      { return 2 }
func (l causalConv) out(x tensor.Shape) tensor.Shape { return withChannels(x, l.dim) }
func (l causalConv) flops(x tensor.Shape) int64 {
	return 54 * positions(x) * int64(l.in) * int64(l.dim)
}
func (l causalConv) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	y := s.ops.Empty(s.compute, 1, x.Dim(1), x.Dim(2), l.dim)
	s.ops.Update(y, func() tensor.Tensor {
		return s.causal(l.name, x, func() tensor.Tensor { return x })
	})
	return y
}

// resBlock is x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 convolution of
// x where the number of channels changes.
type resBlock struct {
	name    string
	in, dim int
}

func (l resBlock) label() string { return l.name }

func (l resBlock) params() []nn.Param {
	p := nn.VectorParams(l.name+".residual.0.gamma", l.in, 1, 1, 1)
	p = append(p, convParams(l.name+".residual.2", l.dim, l.in, 3, 3, 3)...)
	p = append(p, nn.VectorParams(l.name+".residual.3.gamma", l.dim, 1, 1, 1)...)
	p = append(p, convParams(l.name+".residual.6", l.dim, l.dim, 3, 3, 3)...)
	if l.in != l.dim {
		p = append(p, pointParams(l.name+".shortcut", l.dim, l.in, 1, 1, 1)...)
	}
	return p
}

func (l resBlock) delay() int                      { return 4 }
func (l resBlock) out(x tensor.Shape) tensor.Shape { return withChannels(x, l.dim) }

func (l resBlock) flops(x tensor.Shape) int64 {
	in, dim := int64(l.in), int64(l.dim)
	n := 54 * positions(x) * dim * (in + dim)
	if in != dim {
		n += 2 * positions(x) * in * dim
	}
	return n
}

func (l resBlock) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	y := x
	if l.in != l.dim {
		y = s.point(l.name+".shortcut", x)
	}
	s.ops.Scope(func() {
		h := s.ops.Empty(s.compute, 1, x.Dim(1), x.Dim(2), l.dim)
		s.ops.Update(h, func() tensor.Tensor { return s.normSiLUConv(l.name+".residual.0", l.name+".residual.2", x) })
		s.ops.AddTo(y, s.normSiLUConv(l.name+".residual.3", l.name+".residual.6", h), tensor.Tensor{})
	})
	return y
}

// attention is x + proj(attention(norm(x))) with one head over the pixels of a
// frame: those of this rank attend to those of all ranks.
type attention struct {
	name string
	dim  int
}

func (l attention) label() string { return l.name }

func (l attention) params() []nn.Param {
	p := nn.VectorParams(l.name+".norm.gamma", l.dim, 1, 1)
	p = append(p, pointParams(l.name+".to_qkv", 3*l.dim, l.dim, 1, 1)...)
	return append(p, pointParams(l.name+".proj", l.dim, l.dim, 1, 1)...)
}

func (l attention) delay() int                      { return 0 }
func (l attention) out(x tensor.Shape) tensor.Shape { return x }

func (l attention) flops(x tensor.Shape) int64 {
	pixels, dim := int64(x[1])*int64(x[2]), int64(l.dim)
	return positions(x) * (8*dim*dim + 4*pixels*dim)
}

func (l attention) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	s.ops.Scope(func() {
		qkv := s.point(l.name+".to_qkv", s.ops.L2Norm(x, s.params.Get(s.ops, l.name+".norm.gamma")))
		part := func(i int) tensor.Tensor { return s.ops.Narrow(qkv, 3, i*l.dim, l.dim) }
		pixels := func(x tensor.Tensor) tensor.Tensor { return s.ops.Reshape(x, -1, 1, l.dim) }
		q, k, v := pixels(part(0)), pixels(s.gathered(part(1))), pixels(s.gathered(part(2)))
		y := s.ops.Attention(q, k, v, tensor.AttentionSpec{Scale: float32(1 / math.Sqrt(float64(l.dim))), KeyLen: k.Dim(0)})
		s.ops.AddTo(x, s.point(l.name+".proj", s.ops.Reshape(y, 1, x.Dim(1), x.Dim(2), l.dim)), tensor.Tensor{})
	})
	return x
}

// head is conv(silu(norm(x))).
type head struct {
	name    string
	in, dim int
}

func (l head) label() string { return l.name }

func (l head) params() []nn.Param {
	return append(nn.VectorParams(l.name+".0.gamma", l.in, 1, 1, 1), convParams(l.name+".2", l.dim, l.in, 3, 3, 3)...)
}

func (l head) delay() int                      { return 2 }
func (l head) out(x tensor.Shape) tensor.Shape { return withChannels(x, l.dim) }
func (l head) flops(x tensor.Shape) int64      { return 54 * positions(x) * int64(l.in) * int64(l.dim) }

func (l head) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	y := s.ops.Empty(s.compute, 1, x.Dim(1), x.Dim(2), l.dim)
	s.ops.Update(y, func() tensor.Tensor { return s.normSiLUConv(l.name+".0", l.name+".2", x) })
	return y
}

// projection is a 1x1x1 convolution between the latent and the network.
type projection struct {
	name    string
	in, dim int
}

func (l projection) label() string                   { return l.name }
func (l projection) params() []nn.Param              { return pointParams(l.name, l.dim, l.in, 1, 1, 1) }
func (l projection) delay() int                      { return 0 }
func (l projection) out(x tensor.Shape) tensor.Shape { return withChannels(x, l.dim) }
func (l projection) flops(x tensor.Shape) int64      { return 2 * positions(x) * int64(l.in) * int64(l.dim) }
func (l projection) forward(s *stream, x tensor.Tensor) tensor.Tensor {
	return s.point(l.name, x)
}
