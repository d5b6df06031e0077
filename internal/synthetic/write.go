package synthetic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Options say what is written.
type Options struct {
	Spec checkpoint.Spec
	// DType is that of the DiT's file: F32, BF16 or F16. T5 is BF16, CLIP F16 and the
	// VAE F32, as in the official files.
	DType tensor.DType
	// Shard is the most bytes of a file of the DiT, unless one tensor has more; 0
	// makes one file.
	Shard int64
	Seed  uint64
	// Sparse makes all matrices zeros that take no room on disk.
	Sparse bool
	// Tokenizer are the files of google/umt5-xxl; nil takes the demo model's, whose
	// vocabulary is smaller than the official one.
	Tokenizer fs.FS
	// Progress, if not nil, is told of each n bytes that are written.
	Progress func(n int64)
}

// Bytes returns the bytes of all weights.
func (o Options) Bytes() (n int64) {
	for _, m := range models(o.Spec, o.DType) {
		for _, w := range m.weights() {
			n += w.bytes()
		}
	}
	return n
}

// Write makes the folder dir, which must be empty or not exist. What was written so far
// stays there when it fails.
func Write(ctx context.Context, dir string, o Options) error {
	if _, ok := safetensorsNames[o.DType]; !ok {
		return fmt.Errorf("weights of type %v; want F32, BF16 or F16", o.DType)
	}
	if err := Validate(o.Spec); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("folder %q is not empty", dir))
	}
	for _, m := range models(o.Spec, o.DType) {
		if err := o.writeModel(ctx, dir, m); err != nil {
			return err
		}
	}
	if err := o.writeTokenizer(dir); err != nil {
		return err
	}
	return o.writeConfig(dir) // last: a folder without it is no checkpoint
}

func (o Options) writeModel(ctx context.Context, dir string, m model) error {
	all := m.weights()
	if m.name != ditStem {
		return o.create(ctx, filepath.Join(dir, m.name), func(to *out) error {
			return writeTorch(to, m.name, all, o.Seed, o.Sparse)
		})
	}
	parts := shards(all, o.Shard)
	for i, part := range parts {
		err := o.create(ctx, filepath.Join(dir, shardName(i, len(parts))), func(to *out) error {
			return writeSafetensors(to, part, o.Seed, o.Sparse)
		})
		if err != nil {
			return err
		}
	}
	if len(parts) == 1 {
		return nil
	}
	data, err := index(parts)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ditStem+".safetensors.index.json"), data, 0o644)
}

func (o Options) writeTokenizer(dir string) error {
	files := o.Tokenizer
	if files == nil {
		files = examples.DemoTokenizer()
	}
	return os.CopyFS(filepath.Join(dir, "google", "umt5-xxl"), files)
}

// writeConfig writes config.json and, unless all else is official, model_spec.json.
func (o Options) writeConfig(dir string) error {
	s := o.Spec
	d := s.DiT
	config := map[string]any{"_class_name": "WanModel", "_diffusers_version": "0.30.0", "model_type": d.ModelType, "text_len": d.TextLen,
		"in_dim": d.InDim, "dim": d.Dim, "ffn_dim": d.FFNDim, "freq_dim": d.FreqDim, "out_dim": d.OutDim, "num_heads": d.NumHeads,
		"num_layers": d.NumLayers, "eps": d.Eps}
	if err := writeJSON(filepath.Join(dir, "config.json"), config); err != nil {
		return err
	}
	if s.T5 == umt5.Official() && reflect.DeepEqual(s.VAE, vae.Official()) && s.CLIP == clip.Official() {
		return nil
	}
	t, v, c := s.T5, s.VAE, s.CLIP
	return writeJSON(filepath.Join(dir, "model_spec.json"), map[string]any{
		"dit": map[string]any{"text_dim": d.TextDim, "patch_size": d.PatchSize},
		"t5": map[string]any{"vocab_size": t.VocabSize, "dim": t.Dim, "dim_attn": t.AttnDim, "dim_ffn": t.FFNDim, "num_heads": t.NumHeads,
			"num_layers": t.NumLayers, "num_buckets": t.NumBuckets, "max_dist": t.MaxDist, "norm_eps": t.Eps, "text_len": t.TextLen, "shared_pos": false},
		"vae": map[string]any{"dim": v.Dim, "z_dim": v.ZDim, "dim_mult": v.DimMult, "num_res_blocks": v.NumResBlocks,
			"temperal_downsample": v.TimeDownsample, "mean": v.Mean, "std": v.Std},
		"clip": map[string]any{"image_size": c.ImageSize, "patch_size": c.PatchSize, "vision_dim": c.Dim, "vision_mlp_ratio": c.MLPDim / c.Dim,
			"vision_heads": c.NumHeads, "vision_layers": c.NumLayers, "mean": c.Mean, "std": c.Std},
	})
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
