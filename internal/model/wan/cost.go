package wan

import (
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Letters in the formulas: S tokens, D dim, F FFN dim, L layers, T text rows
// after padding, I image tokens. A multiplication and an addition are two FLOPs;
// norms, activations and rope are not counted.

// NumParams returns the number of parameters.
//
//	L (8 D² + 2 D F + F + 21 D)                            blocks
//	L (2 D² + 3 D)                                         the image's keys and values
//	D (in·patch + 1) + D (freq + 1) + 7 (D² + D)           patch and time
//	D (text + 1) + D² + D                                  text embedding
//	clip² + 3 clip + D clip + 3 D (+ I clip for flf2v)     image embedding
//	out·patch (D + 1) + 2 D                                head
func (c Config) NumParams() int64 { return nn.NumParams(Units(c)) }

// WeightBytes returns the bytes of all parameters at rest when matrices are kept
// in compute type and vectors, timestep embedding and head in F32.
func (c Config) WeightBytes(compute tensor.DType) int64 { return nn.Bytes(Units(c), compute) }

// ForwardFLOPs returns the FLOPs of one forward over numTokens, one branch of
// the guidance. Of each further branch in the same call the embeddings of patch
// and time, ForwardSharedFLOPs, come free.
//
//	L (8 S D² + 4 S² D + 4 S D² + 4 S (T+I) D + 4 S D F) + 2 S D out·patch + shared
//	   q,k,v,o  attention q,o of cross-attention  FFN        head
func (c Config) ForwardFLOPs(numTokens int) int64 {
	s, d, f, keys := int64(numTokens), int64(c.Dim), int64(c.FFNDim), int64(c.TextLen+c.ImageTokens())
	block := 12*s*d*d + 4*s*s*d + 4*s*keys*d + 4*s*d*f
	head := 2 * s * d * int64(c.OutDim*c.patchVolume())
	return int64(c.NumLayers)*block + head + c.ForwardSharedFLOPs(numTokens)
}

// ForwardSharedFLOPs returns the FLOPs that all branches of a forward share.
//
//	2 S D in·patch + 2 (freq D + D² + 6 D²)
func (c Config) ForwardSharedFLOPs(numTokens int) int64 {
	d := int64(c.Dim)
	return 2*int64(numTokens)*d*int64(c.InDim*c.patchVolume()) + 2*(int64(c.FreqDim)*d+7*d*d)
}

// PrepareFLOPs returns the FLOPs of Prepare with numContexts contexts: text and
// image embedding and the keys and values of cross-attention. The image's are
// made once for all contexts.
//
//	n (2 T (text D + D²) + 4 L T D²) + 2 I (clip² + clip D) + 4 L I D²
func (c Config) PrepareFLOPs(numContexts int) int64 {
	d, l, t, i, clip := int64(c.Dim), int64(c.NumLayers), int64(c.TextLen), int64(c.ImageTokens()), int64(c.ClipDim)
	text := 2*t*(int64(c.TextDim)*d+d*d) + 4*l*t*d*d
	return int64(numContexts)*text + 2*i*(clip*clip+clip*d) + 4*l*i*d*d
}

// CondBytes returns the bytes that Prepare leaves behind in compute type: keys
// and values of each layer for the text of each context and once for the image,
// before the arena's rounding.
//
//	2 L (n T + I) D compute
func (c Config) CondBytes(numContexts int, compute tensor.DType) int64 {
	rows := int64(numContexts)*int64(c.TextLen) + int64(c.ImageTokens())
	return 2 * int64(c.NumLayers) * rows * int64(c.Dim) * compute.Size()
}
