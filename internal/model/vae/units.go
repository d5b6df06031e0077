package vae

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
)

// The units: each half of the VAE is acquired as a whole.
const (
	encoderUnit = "vae.encoder"
	decoderUnit = "vae.decoder"
)

// EncoderUnits returns the parameters of the encoder under their official names.
func EncoderUnits(c Config) []nn.Unit { return unitOf(encoderUnit, encoderLayers(c)) }

// DecoderUnits returns the parameters of the decoder under their official names.
func DecoderUnits(c Config) []nn.Unit { return unitOf(decoderUnit, decoderLayers(c)) }

func unitOf(name string, layers []layer) []nn.Unit {
	var params [][]nn.Param
	for _, l := range layers {
		params = append(params, l.params())
	}
	return []nn.Unit{nn.NewUnit(name, "", params...)}
}

// encoderLayers returns the encoder from picture [.., 3] to mean and variance
// [.., 2 ZDim]. Stage i works at 1/2^i of the size.
func encoderLayers(c Config) []layer {
	dim := c.Dim
	layers := []layer{causalConv{"encoder.conv1", 3, dim}}
	index := 0 // in the official Sequential
	next := func() string {
		index++
		return fmt.Sprintf("encoder.downsamples.%d", index-1)
	}
	for i, mult := range c.DimMult {
		out := c.Dim * mult
		for range c.NumResBlocks {
			layers = append(layers, resBlock{next(), dim, out})
			dim = out
		}
		if i == len(c.DimMult)-1 {
			break
		}
		name := next()
		layers = append(layers, downsample{name + ".resample.1", dim})
		if c.TimeDownsample[i] {
			layers = append(layers, timeDownsample{name + ".time_conv", dim})
		}
	}
	return append(layers,
		resBlock{"encoder.middle.0", dim, dim}, attention{"encoder.middle.1", dim}, resBlock{"encoder.middle.2", dim, dim},
		head{"encoder.head", dim, 2 * c.ZDim},
		projection{"conv1", 2 * c.ZDim, 2 * c.ZDim})
}

// decoderLayers returns the decoder from latent [.., ZDim] to picture [.., 3].
// Each upsampling halves the channels, so the stages after it start with half of
// what the one before ended with.
func decoderLayers(c Config) []layer {
	last := len(c.DimMult) - 1
	dim := c.Dim * c.DimMult[last]
	layers := []layer{
		projection{"conv2", c.ZDim, c.ZDim},
		causalConv{"decoder.conv1", c.ZDim, dim},
		resBlock{"decoder.middle.0", dim, dim}, attention{"decoder.middle.1", dim}, resBlock{"decoder.middle.2", dim, dim},
	}
	index := 0
	next := func() string {
		index++
		return fmt.Sprintf("decoder.upsamples.%d", index-1)
	}
	for i := last; i >= 0; i-- {
		out := c.Dim * c.DimMult[i]
		for range c.NumResBlocks + 1 {
			layers = append(layers, resBlock{next(), dim, out})
			dim = out
		}
		if i == 0 {
			break
		}
		name := next()
		if c.TimeDownsample[i-1] {
			layers = append(layers, timeUpsample{name + ".time_conv", dim})
		}
		layers = append(layers, upsample{name + ".resample.1", dim, dim / 2})
		dim /= 2
	}
	return append(layers, head{"decoder.head", dim, 3})
}
