// Package wan is the Wan2.1 diffusion transformer (DiT) for t2v, i2v and flf2v.
package wan

import (
	"fmt"
	"math"
)

// Config are the hyper-parameters of a DiT, as in the official config.json with
// the defaults that the file leaves out.
type Config struct {
	ModelType string // "t2v", "i2v" or "flf2v"
	InDim     int    // channels of the input: 16, or 36 with mask and image latent
	OutDim    int    // channels of the prediction
	Dim       int    // D
	FFNDim    int
	FreqDim   int // width of the sinusoidal timestep embedding
	TextDim   int // width of the T5 context
	TextLen   int // rows of the context after zero padding
	NumHeads  int
	NumLayers int
	PatchSize [3]int
	Eps       float64
	ClipDim   int // width of the CLIP features, 0 for t2v
	// ClipTokens is the number of CLIP tokens of one picture, 0 for t2v; flf2v
	// attends to twice as many.
	ClipTokens int
}

// official returns what the official configurations have in common.
func official(modelType string) Config {
	c := Config{ModelType: modelType, InDim: 16, OutDim: 16, Dim: 5120, FFNDim: 13824, FreqDim: 256, TextDim: 4096,
		TextLen: 512, NumHeads: 40, NumLayers: 40, PatchSize: [3]int{1, 2, 2}, Eps: 1e-6}
	if c.HasImage() {
		c.InDim, c.ClipDim, c.ClipTokens = 36, 1280, 257
	}
	return c
}

// OfficialI2V14B returns the configuration of Wan2.1-I2V-14B, 480P and 720P.
func OfficialI2V14B() Config { return official("i2v") }

// OfficialFLF2V14B returns the configuration of Wan2.1-FLF2V-14B-720P.
func OfficialFLF2V14B() Config { return official("flf2v") }

// OfficialT2V14B returns the configuration of Wan2.1-T2V-14B.
func OfficialT2V14B() Config { return official("t2v") }

// OfficialT2V1B returns the configuration of Wan2.1-T2V-1.3B.
func OfficialT2V1B() Config {
	c := official("t2v")
	c.Dim, c.FFNDim, c.NumHeads, c.NumLayers = 1536, 8960, 12, 30
	return c
}

// HasImage reports whether the model attends to CLIP features of pictures.
func (c Config) HasImage() bool { return c.ModelType == "i2v" || c.ModelType == "flf2v" }

// HeadDim returns H.
func (c Config) HeadDim() int { return c.Dim / c.NumHeads }

// ImageTokens returns the number of CLIP tokens of all pictures: two for flf2v.
func (c Config) ImageTokens() int {
	switch c.ModelType {
	case "flf2v":
		return 2 * c.ClipTokens
	case "i2v":
		return c.ClipTokens
	}
	return 0
}

// NumTokens returns the length S of the sequence for a latent of [t, h, w], 0
// if the patches do not divide it.
func (c Config) NumTokens(t, h, w int) int {
	if t%c.PatchSize[0] != 0 || h%c.PatchSize[1] != 0 || w%c.PatchSize[2] != 0 {
		return 0
	}
	return t / c.PatchSize[0] * (h / c.PatchSize[1]) * (w / c.PatchSize[2])
}

// patchVolume is the number of latent pixels of a token.
func (c Config) patchVolume() int { return c.PatchSize[0] * c.PatchSize[1] * c.PatchSize[2] }

// maxSize bounds every size of a configuration, so that no product of two of
// them overflows. It is far above any DiT.
const maxSize = 1 << 24

// Validate returns what is wrong with the configuration, nil if a model can be
// built from it.
func (c Config) Validate() error {
	if c.ModelType != "t2v" && !c.HasImage() {
		return fmt.Errorf("model_type %q; known are t2v, i2v and flf2v", c.ModelType)
	}
	for _, f := range []struct {
		name  string
		value int
	}{
		{"in_dim", c.InDim}, {"out_dim", c.OutDim}, {"dim", c.Dim}, {"ffn_dim", c.FFNDim}, {"freq_dim", c.FreqDim},
		{"text_dim", c.TextDim}, {"text_len", c.TextLen}, {"num_heads", c.NumHeads}, {"num_layers", c.NumLayers},
		{"patch_size[0]", c.PatchSize[0]}, {"patch_size[1]", c.PatchSize[1]}, {"patch_size[2]", c.PatchSize[2]},
	} {
		if f.value < 1 || f.value > maxSize {
			return fmt.Errorf("%s is %d; want 1 to %d", f.name, f.value, maxSize)
		}
	}
	if c.HasImage() && (c.ClipDim < 1 || c.ClipDim > maxSize || c.ClipTokens < 1 || c.ClipTokens > maxSize) {
		return fmt.Errorf("%s needs CLIP features; got %d tokens of width %d", c.ModelType, c.ClipTokens, c.ClipDim)
	}
	switch {
	case c.Dim%c.NumHeads != 0 || c.HeadDim()%2 != 0:
		return fmt.Errorf("dim %d over %d heads; each head needs an even width", c.Dim, c.NumHeads)
	case c.FreqDim%2 != 0:
		return fmt.Errorf("freq_dim %d; want an even number", c.FreqDim)
	case c.InDim < c.OutDim:
		return fmt.Errorf("in_dim %d; want at least out_dim %d, the channels of the noise", c.InDim, c.OutDim)
	case !(c.Eps > 0) || math.IsInf(c.Eps, 0):
		return fmt.Errorf("eps %v; want a small positive number", c.Eps)
	}
	return nil
}
