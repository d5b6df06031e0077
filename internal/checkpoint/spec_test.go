package checkpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/model/clip"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/model/wan"
)

// official is the config.json of the official i2v-14B checkpoints.
const official = `{"_class_name": "WanModel", "_diffusers_version": "0.30.0", "dim": 5120, "eps": 1e-06, "ffn_dim": 13824,
	"freq_dim": 256, "in_dim": 36, "model_type": "i2v", "num_heads": 40, "num_layers": 40, "out_dim": 16, "text_len": 512}`

func load(t testing.TB, dir string) (config, spec []byte) {
	t.Helper()
	for name, to := range map[string]*[]byte{configFile: &config, specFile: &spec} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		*to = b
	}
	return config, spec
}

func TestSpecs(t *testing.T) {
	fixture := func(dir string) func() (Spec, error) {
		return func() (Spec, error) { return parseSpec(load(t, dir)) }
	}
	officialVAE := vae.Official()
	smallVAE := officialVAE
	smallVAE.Dim = 8
	smallCLIP := clip.Official()
	smallCLIP.Dim, smallCLIP.MLPDim, smallCLIP.NumHeads, smallCLIP.NumLayers = 64, 256, 4, 3
	demoCLIP := smallCLIP
	demoCLIP.ImageSize = 112
	for _, tc := range []struct {
		name string
		read func() (Spec, error)
		want Spec
	}{
		{"official i2v-14B", func() (Spec, error) { return parseSpec([]byte(official), nil) }, Spec{
			DiT: wan.Config{ModelType: "i2v", InDim: 36, OutDim: 16, Dim: 5120, FFNDim: 13824, FreqDim: 256, TextDim: 4096, TextLen: 512,
				NumHeads: 40, NumLayers: 40, PatchSize: [3]int{1, 2, 2}, Eps: 1e-6, ClipDim: 1280, ClipTokens: 257},
			T5: umt5.Official(), VAE: officialVAE, CLIP: clip.Official(),
		}},
		{"fixture", fixture("../../testdata/ckpt_i2v"), Spec{
			DiT: wan.Config{ModelType: "i2v", InDim: 36, OutDim: 16, Dim: 128, FFNDim: 256, FreqDim: 64, TextDim: 64, TextLen: 512,
				NumHeads: 8, NumLayers: 3, PatchSize: [3]int{1, 2, 2}, Eps: 1e-6, ClipDim: 64, ClipTokens: 257},
			T5: umt5.Config{VocabSize: 4352, Dim: 64, AttnDim: 64, FFNDim: 160, NumHeads: 8, NumLayers: 3, NumBuckets: 32, MaxDist: 128,
				Eps: 1e-6, TextLen: 512},
			VAE: smallVAE, CLIP: smallCLIP,
		}},
		{"demo", fixture("../../examples/demo-model/checkpoint"), Spec{
			DiT: wan.Config{ModelType: "i2v", InDim: 36, OutDim: 16, Dim: 160, FFNDim: 640, FreqDim: 256, TextDim: 128, TextLen: 512,
				NumHeads: 8, NumLayers: 4, PatchSize: [3]int{1, 2, 2}, Eps: 1e-6, ClipDim: 64, ClipTokens: 65},
			T5: umt5.Config{VocabSize: 1280, Dim: 128, AttnDim: 128, FFNDim: 256, NumHeads: 4, NumLayers: 2, NumBuckets: 32, MaxDist: 128,
				Eps: 1e-6, TextLen: 512},
			VAE: smallVAE, CLIP: demoCLIP,
		}},
	} {
		got, err := tc.read()
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tc.name, diff)
		}
	}
	quick, err := fixture("../../testdata/ckpt_t2v_quick")()
	if err != nil || quick.DiT.TextLen != 64 || quick.T5.TextLen != 64 || quick.DiT.ClipDim != 0 || quick.DiT.ClipTokens != 0 {
		t.Errorf("t2v_quick: %+v, %v", quick.DiT, err)
	}
}

// TestSpecRefuses changes one thing in good files.
func TestSpecRefuses(t *testing.T) {
	config, spec := load(t, "../../testdata/ckpt_i2v")
	demoConfig, demoSpec := load(t, "../../examples/demo-model/checkpoint")
	for _, tc := range []struct {
		name     string
		file     *[]byte // which of the files to change
		old, new string
		want     string
	}{
		{"zero dim", &config, `"dim": 128`, `"dim": 0`, "dim is 0"},
		{"negative dim", &config, `"dim": 128`, `"dim": -128`, "dim"},
		{"huge dim", &config, `"dim": 128`, `"dim": 1000000000000`, "dim"},
		{"fractional dim", &config, `"dim": 128`, `"dim": 128.5`, "dim"},
		{"dim 1e30", &config, `"dim": 128`, `"dim": 1e30`, "dim"},
		{"dim is a string", &config, `"dim": 128`, `"dim": "128"`, "dim"},
		{"dim is null", &config, `"dim": 128`, `"dim": null`, "dim"},
		{"dim twice", &config, `"dim": 128`, `"dim": 128, "dim": 256`, "occurs twice"},
		{"files disagree", &config, `"dim": 128`, `"dim": 256`, "model_spec.json"},
		{"unknown key", &config, `"dim": 128`, `"dim": 128, "moe_experts": 2`, `"moe_experts"`},
		{"unknown model", &config, `"i2v"`, `"x2v"`, "model_type"},
		{"VACE", &config, `"i2v"`, `"vace"`, "VACE"},
		{"Wan2.2 model", &config, `"i2v"`, `"ti2v"`, "Wan2.2"},
		{"diffusers config", &config, `"WanModel"`, `"WanTransformer3DModel"`, "diffusers"},
		{"not an object", &config, string(config), `[1]`, "not a JSON object"},
		{"empty", &config, string(config), ``, "config.json"},
		{"two documents", &config, string(config), string(config) + "{}", "after the end"},
		{"nested deep", &config, `"dim": 128`, `"dim": ` + strings.Repeat("[", 10_000), "nested"},
		{"no bool", &spec, `"qk_norm": true`, `"qk_norm": 1`, "qk_norm"},
		{"without qk_norm", &spec, `"qk_norm": true`, `"qk_norm": false`, "qk_norm"},
		{"without cross_attn_norm", &spec, `"cross_attn_norm": true`, `"cross_attn_norm": false`, "cross_attn_norm"},
		{"shared positions", &spec, `"shared_pos": false`, `"shared_pos": true`, "shared_pos"},
		{"two frames a patch", &spec, "\"patch_size\": [\n   1,", "\"patch_size\": [\n   2,", "patch_size"},
		{"long patch", &spec, "\"patch_size\": [\n   1,", "\"patch_size\": [\n 1,1,", "patch_size"},
		{"heads do not divide", &spec, `"num_heads": 8,
  "num_layers": 3,
  "num_buckets"`, `"num_heads": 7,
  "num_layers": 3,
  "num_buckets"`, "num_heads 7 does not divide dim_attn 64"},
		{"no vocabulary", &spec, `"vocab_size": 4352,`, ``, "vocab_size is missing"},
		{"buckets", &spec, `"num_buckets": 32`, `"num_buckets": 3`, "num_buckets"},
		{"text width", &spec, `"text_dim": 64`, `"text_dim": 32`, "text_dim is 32"},
		{"text length", &spec, `"text_len": 512
 },
 "vae"`, `"text_len": 256
 },
 "vae"`, "text_len is 512"},
		{"latent channels", &spec, `"z_dim": 16`, `"z_dim": 8`, "8"},
		{"multipliers", &spec, "\"dim_mult\": [\n   1,", "\"dim_mult\": [\n   1, 1,", "dim_mult"},
		{"zero std", &spec, `2.8184`, `0`, "std"},
		{"no time compression", &spec, "false,\n   true,\n   true", "false,\n   false,\n   true", "temperal_downsample"},
		{"attention in stages", &spec, `"attn_scales": []`, `"attn_scales": [0]`, "attn_scales"},
		{"stride", &spec, "\"stride\": [\n   4,", "\"stride\": [\n   2,", "stride"},
		{"CLIP pool", &spec, `"vision_pool": "token"`, `"vision_pool": "map"`, "vision_pool"},
		{"CLIP activation", &spec, `"activation": "gelu"`, `"activation": "quick_gelu"`, "activation"},
		{"CLIP heads", &spec, `"vision_heads": 4`, `"vision_heads": 5`, "vision_heads 5 does not divide vision_dim 64"},
		{"CLIP patch", &spec, `"patch_size": 14`, `"patch_size": 15`, "patch_size 15 does not divide image_size 224"},
		{"CLIP layers", &spec, `"vision_layers": 3`, `"vision_layers": 1`, "vision_layers is 1"},
		{"CLIP epsilon", &spec, `"norm_eps": 1e-05`, `"norm_eps": 1e-06`, "norm_eps"},
		{"CLIP unknown key", &spec, `"vision_layers": 3`, `"vision_layers": 3, "vision_register": 4`, `"vision_register"`},
		{"group is a list", &spec, `"clip": {`, `"clip": [], "clap": {`, "clip is not an object"},
		{"demo: CLIP width", &demoSpec, `"clip_dim": 64`, `"clip_dim": 128`, "clip_dim is 128"},
		{"demo: task", &demoSpec, `"task": "i2v"`, `"task": "t2v"`, `is for task "t2v"`},
		{"demo: attention window", &demoSpec, "-1,\n   -1", "-1,\n   8", "window_size"},
		{"demo: input channels", &demoConfig, `"in_dim": 36`, `"in_dim": 16`, "in_dim is 16"},
		{"demo: odd head", &demoConfig, `"dim": 160`, `"dim": 168`, "odd head dim"},
		{"demo: odd freq_dim", &demoConfig, `"freq_dim": 256`, `"freq_dim": 255`, "freq_dim 255 is odd"},
		{"demo: epsilon 0", &demoConfig, `"eps": 1e-06`, `"eps": 0`, "eps"},
		{"demo: no heads", &demoConfig, `"num_heads": 8,`, ``, "num_heads is missing"},
		{"demo: 1e6 layers", &demoConfig, `"num_layers": 4`, `"num_layers": 1000000`, "num_layers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if !strings.Contains(string(*tc.file), tc.old) {
				t.Fatalf("%q is not in the file", tc.old)
			}
			changed := []byte(strings.Replace(string(*tc.file), tc.old, tc.new, 1))
			c, s := config, spec
			switch tc.file {
			case &config:
				c = changed
			case &spec:
				s = changed
			case &demoConfig:
				c, s = changed, demoSpec
			case &demoSpec:
				c, s = demoConfig, changed
			}
			_, err := parseSpec(c, s)
			if err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 400 {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
		})
	}
}

func TestSpecWithoutImage(t *testing.T) {
	t2v := strings.NewReplacer(`"i2v"`, `"t2v"`, `36`, `16`).Replace(official)
	s, err := parseSpec([]byte(t2v), nil)
	if err != nil || s.DiT.ClipDim != 0 || s.DiT.ClipTokens != 0 || s.DiT.HasImage() {
		t.Errorf("%+v, %v", s.DiT, err)
	}
	ti2v := strings.NewReplacer(`"i2v"`, `"t2v"`, `36`, `48`, `"out_dim": 16`, `"out_dim": 48`).Replace(official)
	if _, err := parseSpec([]byte(ti2v), nil); err == nil || !strings.Contains(err.Error(), "Wan2.2 TI2V-5B") {
		t.Errorf("48 channels: %v", err)
	}
}

// FuzzSpec looks for values that get through out of bounds.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(official), []byte(`{}`))
	for _, dir := range []string{"../../testdata/ckpt_i2v", "../../testdata/ckpt_t2v_quick", "../../examples/demo-model/checkpoint"} {
		config, spec := load(f, dir)
		f.Add(config, spec)
	}
	f.Fuzz(func(t *testing.T, config, spec []byte) {
		if len(spec) == 0 {
			spec = nil
		}
		s, err := parseSpec(config, spec)
		if err != nil {
			return
		}
		for name, v := range map[string]int{
			"dim": s.DiT.Dim, "ffn": s.DiT.FFNDim, "freq": s.DiT.FreqDim, "in": s.DiT.InDim, "out": s.DiT.OutDim, "heads": s.DiT.NumHeads,
			"layers": s.DiT.NumLayers, "text": s.DiT.TextLen, "text dim": s.DiT.TextDim, "patch": s.DiT.PatchSize[1] * s.DiT.PatchSize[2],
			"t5": s.T5.Dim, "t5 attn": s.T5.AttnDim, "t5 ffn": s.T5.FFNDim, "t5 heads": s.T5.NumHeads, "t5 layers": s.T5.NumLayers,
			"buckets": s.T5.NumBuckets, "vocab": s.T5.VocabSize, "vae": s.VAE.Dim, "z": s.VAE.ZDim, "blocks": s.VAE.NumResBlocks,
			"clip": s.CLIP.Dim, "clip mlp": s.CLIP.MLPDim, "clip heads": s.CLIP.NumHeads, "clip tokens": s.CLIP.NumTokens(),
		} {
			if v <= 0 || v > 1<<24 {
				t.Fatalf("%s is %d", name, v)
			}
		}
		if s.DiT.Dim%s.DiT.NumHeads != 0 || s.T5.AttnDim%s.T5.NumHeads != 0 || s.CLIP.Dim%s.CLIP.NumHeads != 0 ||
			s.CLIP.ImageSize%s.CLIP.PatchSize != 0 || len(s.VAE.Mean) != s.VAE.ZDim || len(s.VAE.Std) != s.VAE.ZDim {
			t.Fatalf("%+v", s)
		}
	})
}
