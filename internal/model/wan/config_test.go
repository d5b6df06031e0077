package wan

import (
	"math"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestOfficialSizes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config Config
		want   int64 // parameters of the published checkpoint
		block  int64 // of one block, its cross-attention keys and values included
	}{
		{"i2v-14B", OfficialI2V14B(), 16_394_878_784, 403_838_464},
		{"t2v-14B", OfficialT2V14B(), 14_288_491_584, 351_394_304},
		{"t2v-1.3B", OfficialT2V1B(), 1_418_996_800, 0},
		// i2v's and the position embedding of two pictures.
		{"flf2v-14B", OfficialFLF2V14B(), 16_394_878_784 + 514*1280, 403_838_464},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := tc.config.Validate(); err != nil {
				t.Error(err)
			}
			if got := tc.config.NumParams(); got != tc.want {
				t.Errorf("%d parameters, want %d", got, tc.want)
			}
			var block, vectors int64
			for _, u := range Units(tc.config) {
				for _, p := range u.Params {
					n, _ := p.Shape.NumElements()
					if strings.HasPrefix(p.Name, "blocks.7.") {
						block += n
					}
					if len(p.Shape) != 2 && p.Local != "patch_embedding.weight" || strings.HasPrefix(p.Name, "time_") || strings.HasPrefix(p.Name, "head.") {
						vectors += n
					}
				}
			}
			if tc.block > 0 && block != tc.block {
				t.Errorf("%d parameters a block, want %d", block, tc.block)
			}
			if got, want := tc.config.WeightBytes(tensor.F32), 4*tc.want; got != want {
				t.Errorf("%d bytes in F32, want %d", got, want)
			}
			if got, want := tc.config.WeightBytes(tensor.BF16), 2*tc.want+2*vectors; got != want {
				t.Errorf("%d bytes in BF16, want %d", got, want)
			}
		})
	}
}

// The published figures: PFLOP of one forward of the 14B model by resolution.
func TestForwardFLOPs(t *testing.T) {
	for _, tc := range []struct {
		t, h, w int
		want    float64
	}{
		{21, 60, 104, 1.686}, // 480p, 81 frames
		{21, 90, 160, 6.540}, // 720p, 81 frames
		{9, 60, 104, 0.509},  // 480p, 33 frames
	} {
		c := OfficialI2V14B()
		got := float64(c.ForwardFLOPs(c.NumTokens(tc.t, tc.h, tc.w))+c.PrepareFLOPs(1)) / 1e15
		if math.Abs(got-tc.want) > 0.002 {
			t.Errorf("%dx%dx%d: %.4f PFLOP, want %.3f", tc.t, tc.h, tc.w, got, tc.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // "" is legal
	}{
		{"official", func(*Config) {}, ""},
		{"model type", func(c *Config) { c.ModelType = "vace" }, `"vace"; known are`},
		{"no layers", func(c *Config) { c.NumLayers = 0 }, "num_layers is 0"},
		{"negative", func(c *Config) { c.FFNDim = -3 }, "ffn_dim is -3"},
		{"huge", func(c *Config) { c.Dim = 1 << 40 }, "dim is 1099511627776"},
		{"patch", func(c *Config) { c.PatchSize[1] = 0 }, "patch_size[1]"},
		{"heads", func(c *Config) { c.NumHeads = 7 }, "dim 5120 over 7 heads"},
		{"odd head dim", func(c *Config) { c.NumHeads = 1024 }, "dim 5120 over 1024 heads"},
		{"odd freq dim", func(c *Config) { c.FreqDim = 255 }, "freq_dim 255"},
		{"no noise channels", func(c *Config) { c.InDim = 8 }, "in_dim 8; want at least out_dim 16"},
		{"no clip", func(c *Config) { c.ClipDim = 0 }, "needs CLIP features"},
		{"t2v without clip", func(c *Config) { c.ModelType, c.ClipDim = "t2v", 0 }, ""},
		{"eps", func(c *Config) { c.Eps = math.NaN() }, "eps NaN"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := OfficialI2V14B()
			tc.change(&c)
			err := c.Validate()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
