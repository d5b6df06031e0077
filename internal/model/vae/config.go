package vae

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Config are the hyper-parameters of the VAE.
type Config struct {
	Dim            int // channels of the first stage
	ZDim           int // latent channels
	DimMult        []int
	NumResBlocks   int
	TimeDownsample []bool // per stage boundary of the encoder: halve the time dim too
	Mean, Std      []float32
}

// Official returns the configuration of Wan2.1_VAE.pth, which the official code
// hard-codes for every task.
func Official() Config {
	return Config{
		Dim: 96, ZDim: 16, DimMult: []int{1, 2, 4, 4}, NumResBlocks: 2, TimeDownsample: []bool{false, true, true},
		Mean: []float32{-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
			0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921},
		Std: []float32{2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
			3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160},
	}
}

// TimeStride and SpaceStride are the compression of the official VAE: a latent
// frame stands for 4 frames (the first for 1), a latent pixel for 8x8.
const (
	TimeStride  = 4
	SpaceStride = 8
)

// LatentFrames returns how many latent frames stand for numFrames frames; frames
// beyond the last 4n+1 are dropped.
func LatentFrames(numFrames int) int { return (numFrames-1)/TimeStride + 1 }

// Bounds of a configuration, far above any VAE, so that no size overflows.
const (
	maxDim       = 1 << 14
	maxMult      = 64
	maxResBlocks = 64
)

// Validate returns what is wrong with the configuration, nil if a VAE of the
// official strides can be built from it.
func (c Config) Validate() error {
	stages, halvings := len(c.DimMult), 0
	for _, halve := range c.TimeDownsample {
		if halve {
			halvings++
		}
	}
	switch {
	case c.Dim < 2 || c.Dim > maxDim:
		return fmt.Errorf("vae dim is %d; want 2 to %d", c.Dim, maxDim)
	case c.ZDim < 1 || c.ZDim > maxDim:
		return fmt.Errorf("vae z_dim is %d; want 1 to %d", c.ZDim, maxDim)
	case c.NumResBlocks < 1 || c.NumResBlocks > maxResBlocks:
		return fmt.Errorf("vae num_res_blocks is %d; want 1 to %d", c.NumResBlocks, maxResBlocks)
	case stages < 1 || 1<<(min(stages, 16)-1) != SpaceStride:
		return fmt.Errorf("vae dim_mult has %d entries; want 4, for a spatial stride of %d", stages, SpaceStride)
	case len(c.TimeDownsample) != stages-1:
		return fmt.Errorf("vae temperal_downsample has %d entries; want %d, one fewer than dim_mult", len(c.TimeDownsample), stages-1)
	case 1<<halvings != TimeStride:
		return fmt.Errorf("vae temperal_downsample is true %d times; want 2, for a time stride of %d", halvings, TimeStride)
	case len(c.Mean) != c.ZDim || len(c.Std) != c.ZDim:
		return fmt.Errorf("vae has %d means and %d deviations; want z_dim = %d of each", len(c.Mean), len(c.Std), c.ZDim)
	}
	for i, m := range c.DimMult {
		if m < 1 || m > maxMult || (i > 0 && c.Dim*m%2 != 0) {
			return fmt.Errorf("vae dim_mult[%d] is %d; want 1 to %d with an even number of channels", i, m, maxMult)
		}
	}
	for i, std := range c.Std {
		if !(std > 0) {
			return fmt.Errorf("vae std[%d] is %v; want a positive number", i, std)
		}
	}
	return nil
}

// NumParams returns the number of parameters of encoder and decoder. A causal
// convolution from C to D channels has 27 C D + D, one that is 1x1 C D + D.
func (c Config) NumParams() int64 { return nn.NumParams(append(EncoderUnits(c), DecoderUnits(c)...)) }

// WeightBytes returns the bytes of encoder and decoder at rest when convolutions
// are kept in compute type, row-major.
func (c Config) WeightBytes(compute tensor.DType) int64 {
	return nn.Bytes(append(EncoderUnits(c), DecoderUnits(c)...), compute)
}

// DecodeFLOPs returns the FLOPs of decoding a latent [t, h, w], two for each
// multiplication and addition of convolutions and attention. With F frames of
// P pixels going through a layer from C to D channels:
//
//	causal convolution      54 F P C D
//	spatial convolution     18 F P C D, P of the result
//	time convolution        6 (F-1) P C D before it doubles the frames
//	attention               8 F P C² + 4 F P² C
func (c Config) DecodeFLOPs(t, h, w int) int64 {
	return flops(decoderLayers(c), tensor.Shape{t, h, w, c.ZDim})
}

// EncodeFLOPs returns the FLOPs of encoding a video [numFrames, h, w] in which no
// frame repeats; the formula is that of DecodeFLOPs, with time convolutions after
// the frames are halved: 6 F' P C D, the first frame left out.
func (c Config) EncodeFLOPs(numFrames, h, w int) int64 {
	frames := (LatentFrames(numFrames)-1)*TimeStride + 1
	return flops(encoderLayers(c), tensor.Shape{frames, h, w, 3})
}

func flops(layers []layer, x tensor.Shape) (n int64) {
	for _, l := range layers {
		n += l.flops(x)
		x = l.out(x)
	}
	return n
}
