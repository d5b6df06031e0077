// Package umt5 is the umT5 text encoder.
package umt5

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Config are the hyper-parameters of the encoder.
type Config struct {
	VocabSize  int
	Dim        int
	AttnDim    int // width of q, k and v; need not equal Dim
	FFNDim     int
	NumHeads   int
	NumLayers  int
	NumBuckets int // relative position buckets
	MaxDist    int // distance from which on all positions share the last bucket
	Eps        float64
	TextLen    int // tokens that the encoder runs over, padding included
}

// Official returns the configuration of umT5-XXL, which the official code
// hard-codes for every task.
func Official() Config {
	return Config{VocabSize: 256384, Dim: 4096, AttnDim: 4096, FFNDim: 10240, NumHeads: 64, NumLayers: 24,
		NumBuckets: 32, MaxDist: 128, Eps: 1e-6, TextLen: 512}
}

// HeadDim returns H.
func (c Config) HeadDim() int { return c.AttnDim / c.NumHeads }

// maxSize bounds every size of a configuration, so that no product of two of
// them overflows. It is far above any text encoder.
const maxSize = 1 << 24

// Validate returns what is wrong with the configuration, nil if an encoder can
// be built from it.
func (c Config) Validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"vocab_size", c.VocabSize}, {"dim", c.Dim}, {"dim_attn", c.AttnDim}, {"dim_ffn", c.FFNDim}, {"num_heads", c.NumHeads},
		{"num_layers", c.NumLayers}, {"num_buckets", c.NumBuckets}, {"max_dist", c.MaxDist}, {"text_len", c.TextLen},
	} {
		if f.value < 1 || f.value > maxSize {
			return fmt.Errorf("t5 %s is %d; want 1 to %d", f.name, f.value, maxSize)
		}
	}
	switch {
	case c.AttnDim%c.NumHeads != 0:
		return fmt.Errorf("t5 dim_attn %d does not divide over %d heads", c.AttnDim, c.NumHeads)
	case c.NumBuckets%4 != 0:
		return fmt.Errorf("t5 num_buckets %d; want a multiple of 4: two directions, half of each for near distances", c.NumBuckets)
	case c.MaxDist <= c.NumBuckets/4:
		return fmt.Errorf("t5 max_dist %d; want more than num_buckets/4 = %d", c.MaxDist, c.NumBuckets/4)
	case !(c.Eps > 0) || math.IsInf(c.Eps, 0):
		return fmt.Errorf("t5 eps %v; want a small positive number", c.Eps)
	}
	return nil
}

// NumParams returns the number of parameters.
//
//	V D + L (4 D A + 3 D F + 2 D + buckets N) + D
func (c Config) NumParams() int64 { return nn.NumParams(Units(c)) }

// WeightBytes returns the bytes at rest when matrices are kept in compute type.
// The tables of tokens and of relative positions stay in their file.
func (c Config) WeightBytes(compute tensor.DType) int64 { return nn.Bytes(Units(c), compute) }

// FLOPs returns the FLOPs of encoding S = numTokens tokens, two for each
// multiplication and addition of the matrix products.
//
//	L (8 S D A + 4 S² A + 6 S D F)
func (c Config) FLOPs(numTokens int) int64 {
	s, d, a, f := int64(numTokens), int64(c.Dim), int64(c.AttnDim), int64(c.FFNDim)
	return int64(c.NumLayers) * (8*s*d*a + 4*s*s*a + 6*s*d*f)
}
