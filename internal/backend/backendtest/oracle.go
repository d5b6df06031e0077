package backendtest

import (
	"math"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// The oracle computes in float64, by the definitions and without regard to speed.

// matMul is act(x [M, K] · w [N, K]ᵀ + bias).
func matMul(x, w, bias []float64, m, n, k int, act tensor.Activation) result {
	out := newResult(m * n)
	for i := range m {
		for j := range n {
			sum, size := 0.0, 0.0
			for t := range k {
				p := x[i*k+t] * w[j*k+t]
				sum += p
				size += math.Abs(p)
			}
			if bias != nil {
				sum += bias[j]
				size += math.Abs(bias[j])
			}
			out.values[i*n+j] = activation(sum, act)
			out.sizes[i*n+j] = size // no activation is steeper than 1.13
		}
	}
	return out
}

// activation is the definition of act.
func activation(x float64, act tensor.Activation) float64 {
	switch act {
	case tensor.GELUTanh:
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case tensor.GELUErf:
		return 0.5 * x * math.Erfc(-x/math.Sqrt2)
	case tensor.SiLU:
		return x / (1 + math.Exp(-x))
	}
	return x
}

// attentionCase are the inputs of an attention; bias may be nil.
type attentionCase struct {
	queries, keys, keyLen, heads, dim int
	scale                             float64
	q, k, v, bias                     []float64
}

// attention returns the output [Sq, N, H] and the logs of the sums [Sq, N].
// An error of a logit changes its weight by as much, relatively, and so the
// output by twice that times the mean size of the values.
func (c attentionCase) attention() (out, lse result) {
	out, lse = newResult(c.queries*c.heads*c.dim), newResult(c.queries*c.heads)
	logits := make([]float64, c.keyLen)
	for i := range c.queries {
		for n := range c.heads {
			top, size := math.Inf(-1), 0.0
			for j := range logits {
				dot, dotSize := 0.0, 0.0
				for h := range c.dim {
					p := c.q[(i*c.heads+n)*c.dim+h] * c.k[(j*c.heads+n)*c.dim+h] * c.scale
					dot += p
					dotSize += math.Abs(p)
				}
				if c.bias != nil {
					b := c.bias[n*(c.queries+c.keys-1)+j-i+c.queries-1]
					dot += b
					dotSize += math.Abs(b)
				}
				logits[j] = dot
				top, size = max(top, dot), max(size, dotSize)
			}
			sum := 0.0
			for j := range logits {
				logits[j] = math.Exp(logits[j] - top)
				sum += logits[j]
			}
			for h := range c.dim {
				dot, dotSize := 0.0, 0.0
				for j, p := range logits {
					v := c.v[(j*c.heads+n)*c.dim+h]
					dot += p / sum * v
					dotSize += p / sum * math.Abs(v)
				}
				at := (i*c.heads+n)*c.dim + h
				out.values[at] = dot
				out.sizes[at] = dotSize * (1 + 2*size)
			}
			lse.values[i*c.heads+n] = top + math.Log(sum)
			lse.sizes[i*c.heads+n] = 1 + size + math.Abs(top)
		}
	}
	return out, lse
}

// convCase is a convolution; history and bias may be nil.
type convCase struct {
	x, history, w, bias         []float64
	frames, height, width       int
	past, channels, out         int
	kernel                      [3]int
	spec                        tensor.ConvSpec
	outFrames, outRows, outCols int
}

// pixel returns channel c of the input at t, y, x, which may be outside.
func (c *convCase) pixel(t, y, x, channel int) float64 {
	if y < 0 || y >= c.height || x < 0 || x >= c.width {
		return 0
	}
	data := c.x
	if t < 0 {
		data = c.history
		t += c.past
	}
	if t < 0 {
		return 0
	}
	return data[((t*c.height+y)*c.width+x)*c.channels+channel]
}

func (c *convCase) conv() result {
	s := c.spec
	size := func(length, pad, kernel, stride int) int { return (length+pad-kernel)/stride + 1 }
	c.outFrames = size(c.frames, s.PadT, c.kernel[0], s.Stride[0])
	c.outRows = size(c.height, s.PadTop+s.PadBottom, c.kernel[1], s.Stride[1])
	c.outCols = size(c.width, s.PadLeft+s.PadRight, c.kernel[2], s.Stride[2])
	out := newResult(c.outFrames * c.outRows * c.outCols * c.out)
	for i := range out.values {
		o, x := i%c.out, i/c.out
		x, y := x%c.outCols, x/c.outCols
		y, t := y%c.outRows, y/c.outRows
		w := c.w[o*len(c.w)/c.out:]
		for kt := range c.kernel[0] {
			for ky := range c.kernel[1] {
				for kx := range c.kernel[2] {
					for channel := range c.channels {
						p := c.pixel(t*s.Stride[0]+kt-s.PadT, y*s.Stride[1]+ky-s.PadTop, x*s.Stride[2]+kx-s.PadLeft, channel) *
							w[((kt*c.kernel[1]+ky)*c.kernel[2]+kx)*c.channels+channel]
						out.values[i] += p
						out.sizes[i] += math.Abs(p)
					}
				}
			}
		}
		if c.bias != nil {
			out.values[i] += c.bias[o]
			out.sizes[i] += math.Abs(c.bias[o])
		}
	}
	return out
}
