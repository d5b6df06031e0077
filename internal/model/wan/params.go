package wan

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The units outside the blocks.
const (
	contextUnit = "context" // once per prompt
	rootUnit    = "root"    // first in a forward
	headUnit    = "head"    // last in a forward
)

// blockUnit names what a forward needs of block i.
func blockUnit(i int) string { return fmt.Sprintf("blocks.%d", i) }

// crossKVUnit names what block i makes the keys and values of cross-attention
// from: once per prompt.
func crossKVUnit(i int) string { return blockUnit(i) + ".cross_kv" }

// Units returns all parameters under their official names, in the order of use.
// No unit is used by both Prepare and Forward, so that the weights of the first
// need not stay.
func Units(c Config) []nn.Unit { return append(PrepareUnits(c), ForwardUnits(c)...) }

// PrepareUnits returns what Prepare acquires, once per prompt: "context" and each
// "blocks.N.cross_kv".
func PrepareUnits(c Config) []nn.Unit {
	units := []nn.Unit{nn.NewUnit(contextUnit, "", contextParams(c)...)}
	for i := range c.NumLayers {
		units = append(units, nn.NewUnit(crossKVUnit(i), blockUnit(i)+".", crossKVParams(c)...))
	}
	return units
}

// ForwardUnits returns what every Forward acquires: "root", each "blocks.N" and
// "head".
func ForwardUnits(c Config) []nn.Unit {
	d := c.Dim
	units := []nn.Unit{nn.NewUnit(rootUnit, "",
		patchParams(c),
		nn.LinearParams("time_embedding.0", d, c.FreqDim, nn.MatrixF32),
		nn.LinearParams("time_embedding.2", d, d, nn.MatrixF32),
		nn.LinearParams("time_projection.1", 6*d, d, nn.MatrixF32))}
	for i := range c.NumLayers {
		units = append(units, nn.NewUnit(blockUnit(i), blockUnit(i)+".", blockParams(c)...))
	}
	return append(units, nn.NewUnit(headUnit, "",
		nn.VectorParams("head.modulation", 1, 2, d),
		nn.LinearParams("head.head", c.OutDim*c.patchVolume(), d, nn.MatrixF32)))
}

// patchParams are the patch embedding's: a Conv3d whose stride is its kernel,
// hence a matrix over (channel, pt, ph, pw).
func patchParams(c Config) []nn.Param {
	p := c.PatchSize
	weight := nn.Param{Local: "patch_embedding.weight", Kind: nn.Matrix, Shape: tensor.Shape{c.Dim, c.InDim, p[0], p[1], p[2]}}
	return append([]nn.Param{weight}, nn.VectorParams("patch_embedding.bias", c.Dim)...)
}

func contextParams(c Config) [][]nn.Param {
	params := [][]nn.Param{
		nn.LinearParams("text_embedding.0", c.Dim, c.TextDim, nn.Matrix),
		nn.LinearParams("text_embedding.2", c.Dim, c.Dim, nn.Matrix),
	}
	if c.ModelType == "flf2v" {
		params = append(params, nn.VectorParams("img_emb.emb_pos", 1, c.ImageTokens(), c.ClipDim))
	}
	if c.HasImage() {
		params = append(params,
			nn.NormParams("img_emb.proj.0", c.ClipDim),
			nn.LinearParams("img_emb.proj.1", c.ClipDim, c.ClipDim, nn.Matrix),
			nn.LinearParams("img_emb.proj.3", c.Dim, c.ClipDim, nn.Matrix),
			nn.NormParams("img_emb.proj.4", c.Dim))
	}
	return params
}

func crossKVParams(c Config) [][]nn.Param {
	suffixes := []string{""}
	if c.HasImage() {
		suffixes = append(suffixes, "_img")
	}
	var params [][]nn.Param
	for _, s := range suffixes {
		params = append(params,
			nn.LinearParams("cross_attn.k"+s, c.Dim, c.Dim, nn.Matrix),
			nn.LinearParams("cross_attn.v"+s, c.Dim, c.Dim, nn.Matrix),
			nn.VectorParams("cross_attn.norm_k"+s+".weight", c.Dim))
	}
	return params
}

func blockParams(c Config) [][]nn.Param {
	d := c.Dim
	return [][]nn.Param{
		nn.VectorParams("modulation", 1, 6, d),
		nn.LinearParams("self_attn.q", d, d, nn.Matrix),
		nn.LinearParams("self_attn.k", d, d, nn.Matrix),
		nn.LinearParams("self_attn.v", d, d, nn.Matrix),
		nn.LinearParams("self_attn.o", d, d, nn.Matrix),
		nn.VectorParams("self_attn.norm_q.weight", d),
		nn.VectorParams("self_attn.norm_k.weight", d),
		nn.NormParams("norm3", d),
		nn.LinearParams("cross_attn.q", d, d, nn.Matrix),
		nn.LinearParams("cross_attn.o", d, d, nn.Matrix),
		nn.VectorParams("cross_attn.norm_q.weight", d),
		nn.LinearParams("ffn.0", c.FFNDim, d, nn.Matrix),
		nn.LinearParams("ffn.2", d, c.FFNDim, nn.Matrix),
	}
}
