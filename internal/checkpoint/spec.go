package checkpoint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
)

// Spec are the hyper-parameters of the models of a checkpoint. CLIP is of no
// use for t2v.
type Spec struct {
	DiT  wan.Config
	T5   umt5.Config
	VAE  vae.Config
	CLIP clip.Config
}

// The upper bounds of hyper-parameters: far above any model, and low enough that
// sizes computed from them do not overflow.
const (
	maxDim    = 1 << 16
	maxFFN    = 1 << 18
	maxVocab  = 1 << 21
	maxLayers = 1000
	maxHeads  = 1024
	maxChans  = 4096
	maxText   = 1 << 13
)

// parseSpec reads config.json and, unless nil, model_spec.json. What neither says
// is as in the official code.
func parseSpec(config, spec []byte) (Spec, error) {
	dit, err := parseObject(configFile, config)
	if err != nil {
		return Spec{}, err
	}
	if what := otherModel(dit); what != "" {
		return Spec{}, fmt.Errorf("%s: %s", configFile, what)
	}
	s := Spec{T5: umt5.Official(), VAE: vae.Official(), CLIP: clip.Official()}
	all := &object{path: specFile}
	if spec != nil {
		if all, err = parseObject(specFile, spec); err != nil {
			return Spec{}, err
		}
	}
	if more := all.child("dit"); more != nil {
		dit.merge(more)
	}
	s.DiT = readDiT(dit)
	clipDim := dit.integer("clip_dim", 0, 0, maxDim)
	dit.finish("_class_name", "_diffusers_version")
	t5 := all.child("t5")
	s.T5.TextLen = s.DiT.TextLen
	if t5 != nil {
		s.T5 = readT5(t5, s.DiT.TextLen)
		t5.finish("dropout")
	}
	if v := all.child("vae"); v != nil {
		s.VAE = readVAE(v, all.child("vae_norm"))
		v.finish("dropout")
	}
	if v := all.child("clip"); v != nil {
		s.CLIP = readCLIP(v)
		v.finish(clipText...)
	}
	if err := errorOf(dit, all); err != nil {
		return Spec{}, err
	}
	if s.DiT.HasImage() {
		s.DiT.ClipDim, s.DiT.ClipTokens = s.CLIP.Dim, s.CLIP.NumTokens()
		if clipDim != 0 && clipDim != s.CLIP.Dim {
			return Spec{}, fmt.Errorf("%s: dit.clip_dim is %d, clip.vision_dim %d", specFile, clipDim, s.CLIP.Dim)
		}
	}
	return s, s.check(all)
}

// check compares the models with each other.
func (s Spec) check(all *object) error {
	d := s.DiT
	in := d.OutDim
	if d.HasImage() {
		in = 2*d.OutDim + vae.TimeStride // noise, mask and image latent
	}
	task := all.text("task", d.ModelType)
	switch {
	case d.InDim != in:
		return fmt.Errorf("in_dim is %d, a %s model with out_dim %d has %d", d.InDim, d.ModelType, d.OutDim, in)
	case d.OutDim != s.VAE.ZDim:
		return fmt.Errorf("out_dim is %d, but the VAE has %d latent channels", d.OutDim, s.VAE.ZDim)
	case d.TextDim != s.T5.Dim:
		return fmt.Errorf("text_dim is %d, but the text encoder has dim %d", d.TextDim, s.T5.Dim)
	case d.TextLen != s.T5.TextLen:
		return fmt.Errorf("text_len is %d, but that of the text encoder %d", d.TextLen, s.T5.TextLen)
	case strings.SplitN(task, "-", 2)[0] != d.ModelType:
		return fmt.Errorf("%s is for task %.64q, %s for %s", specFile, task, configFile, d.ModelType)
	}
	return errorOf(all)
}

// otherModel says in words which model a config.json is for that is not of Wan2.1.
func otherModel(o *object) string {
	kind, _ := o.values["model_type"].(string)
	switch {
	case kind == "vace":
		return "this is a VACE model, which wanrun does not run"
	case slices.Contains([]string{"ti2v", "s2v", "animate"}, kind):
		return fmt.Sprintf("model_type %q is one of Wan2.2; wanrun runs Wan2.1", kind)
	case o.values["_class_name"] == "WanTransformer3DModel":
		return "this is the config.json of a diffusers checkpoint; wanrun reads the original layout (the repository of the same name without -Diffusers)"
	case o.values["in_dim"] == number("48") && o.values["out_dim"] == number("48"):
		return "48 latent channels are those of Wan2.2 TI2V-5B; wanrun runs Wan2.1"
	}
	return ""
}

func readDiT(o *object) wan.Config {
	c := wan.Config{
		ModelType: o.oneOf("model_type", "t2v", "i2v", "flf2v"),
		InDim:     o.needed("in_dim", maxChans),
		OutDim:    o.needed("out_dim", maxChans),
		Dim:       o.needed("dim", maxDim),
		FFNDim:    o.needed("ffn_dim", maxFFN),
		FreqDim:   o.needed("freq_dim", maxDim),
		NumHeads:  o.needed("num_heads", maxHeads),
		NumLayers: o.needed("num_layers", maxLayers),
		TextDim:   o.integer("text_dim", 4096, 1, maxDim),
		TextLen:   o.integer("text_len", 512, 2, maxText),
		Eps:       o.eps("eps", 1e-6),
	}
	copy(c.PatchSize[:], o.integers("patch_size", []int{1, 2, 2}, 3, 1, 16))
	o.fixed("qk_norm", true)
	o.fixed("cross_attn_norm", true)
	for _, w := range o.integers("window_size", []int{-1, -1}, 2, -1, maxDim) {
		if w != -1 {
			o.errorf("window_size: only [-1, -1], attention over everything, is supported")
		}
	}
	o.divides("num_heads", c.NumHeads, "dim", c.Dim)
	if c.NumHeads > 0 && c.Dim/c.NumHeads%2 != 0 {
		o.errorf("dim %d over %d heads is an odd head dim, which rotary embedding cannot use", c.Dim, c.NumHeads)
	}
	if c.FreqDim%2 != 0 {
		o.errorf("freq_dim %d is odd", c.FreqDim)
	}
	if c.PatchSize[0] != 1 {
		o.errorf("patch_size: %d frames a patch, only 1 is supported", c.PatchSize[0])
	}
	return c
}

func readT5(o *object, textLen int) umt5.Config {
	c := umt5.Config{
		VocabSize:  o.needed("vocab_size", maxVocab),
		Dim:        o.needed("dim", maxDim),
		AttnDim:    o.needed("dim_attn", maxDim),
		FFNDim:     o.needed("dim_ffn", maxFFN),
		NumHeads:   o.needed("num_heads", maxHeads),
		NumLayers:  o.needed("num_layers", maxLayers),
		NumBuckets: o.needed("num_buckets", 1024),
		MaxDist:    o.integer("max_dist", 128, 1, 1<<20),
		Eps:        o.eps("norm_eps", 1e-6),
		TextLen:    o.integer("text_len", textLen, 2, maxText),
	}
	o.fixed("shared_pos", false)
	o.divides("num_heads", c.NumHeads, "dim_attn", c.AttnDim)
	if c.NumBuckets%4 != 0 || c.MaxDist <= c.NumBuckets/4 {
		o.errorf("num_buckets %d with max_dist %d: want a multiple of 4, and more distance than a quarter of it", c.NumBuckets, c.MaxDist)
	}
	return c
}

func readVAE(o, norm *object) vae.Config {
	official := vae.Official()
	c := vae.Config{
		Dim:            o.needed("dim", maxChans),
		ZDim:           o.needed("z_dim", maxChans),
		DimMult:        o.integers("dim_mult", official.DimMult, len(official.DimMult), 1, 64),
		NumResBlocks:   o.integer("num_res_blocks", official.NumResBlocks, 1, 16),
		TimeDownsample: o.bools("temperal_downsample", official.TimeDownsample), // the official spelling
	}
	if norm == nil {
		norm = o
	}
	c.Mean = norm.floats("mean", official.Mean, c.ZDim, -1e3, 1e3)
	c.Std = norm.floats("std", official.Std, c.ZDim, 1e-6, 1e3)
	if norm != o {
		norm.finish()
	}
	if len(o.integers("attn_scales", nil, -1, 0, maxDim)) > 0 {
		o.errorf("attn_scales: attention inside of stages is not supported")
	}
	if stride := o.integers("stride", []int{vae.TimeStride, vae.SpaceStride, vae.SpaceStride}, 3, 1, 64); !slices.Equal(stride,
		[]int{vae.TimeStride, vae.SpaceStride, vae.SpaceStride}) {
		o.errorf("stride %v, only [%d, %d, %d] is supported", stride, vae.TimeStride, vae.SpaceStride, vae.SpaceStride)
	}
	halvings := 0
	for _, halve := range c.TimeDownsample {
		if halve {
			halvings++
		}
	}
	if len(c.TimeDownsample) != len(official.TimeDownsample) || 1<<halvings != vae.TimeStride {
		o.errorf("temperal_downsample %v: want %d stages of which 2 halve the time", c.TimeDownsample, len(official.TimeDownsample))
	}
	return c
}

// clipText are the keys of the text tower and of training, which do not matter.
var clipText = []string{"embed_dim", "vocab_size", "max_text_len", "type_size", "pad_id", "text_dim", "text_heads", "text_layers",
	"text_post_norm", "text_dropout", "attn_dropout", "proj_dropout", "embedding_dropout", "vision_post_norm"}

func readCLIP(o *object) clip.Config {
	official := clip.Official()
	c := clip.Config{
		ImageSize: o.needed("image_size", 4096),
		PatchSize: o.needed("patch_size", 512),
		Dim:       o.needed("vision_dim", maxDim),
		NumHeads:  o.needed("vision_heads", maxHeads),
		NumLayers: o.needed("vision_layers", maxLayers),
	}
	c.MLPDim = c.Dim * o.integer("vision_mlp_ratio", 4, 1, 64)
	mean, std := o.floats("mean", official.Mean[:], 3, -1e3, 1e3), o.floats("std", official.Std[:], 3, 1e-6, 1e3)
	copy(c.Mean[:], mean)
	copy(c.Std[:], std)
	o.fixed("vision_pool", "token")
	o.fixed("vision_pre_norm", true)
	o.fixed("activation", "gelu")
	if eps := o.eps("norm_eps", 1e-5); eps != 1e-5 {
		o.errorf("norm_eps %g, only 1e-5 is supported", eps)
	}
	o.divides("vision_heads", c.NumHeads, "vision_dim", c.Dim)
	o.divides("patch_size", c.PatchSize, "image_size", c.ImageSize)
	if c.NumLayers < 2 {
		o.errorf("vision_layers is %d, want at least 2: the last one is not used", c.NumLayers)
	}
	return c
}
