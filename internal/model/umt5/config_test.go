package umt5

import (
	"math"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestBuckets(t *testing.T) {
	for _, name := range []string{"i2v", "flf2v", "t2v", "t2v_quick"} {
		want := golden.Load(t, "../../../testdata/t5/"+name+"_buckets.safetensors")["bucket_of_key_minus_query_from_-511_to_511"].I64
		got := Official().buckets(512)
		if len(got) != len(want) {
			t.Fatalf("%s: %d buckets, want %d", name, len(got), len(want))
		}
		for i := range want {
			if int64(got[i]) != want[i] {
				t.Errorf("%s: distance %d is in bucket %d, want %d", name, i-511, got[i], want[i])
			}
		}
	}
}

func TestOfficialSizes(t *testing.T) {
	c := Official()
	const params, table = 5_680_910_336, 256384 * 4096 // of the published checkpoint
	if got := c.NumParams(); got != params {
		t.Errorf("%d parameters, want %d", got, params)
	}
	// Tables stay in their file; norms are F32.
	const positions, norms = 24 * 32 * 64, (24*2 + 1) * 4096
	if got, want := c.WeightBytes(tensor.BF16), int64(2*(params-table-positions-norms)+4*norms); got != want {
		t.Errorf("%d bytes in BF16, want %d", got, want)
	}
	// The published figure for 512 tokens is 4.85 TFLOP.
	if got := float64(c.FLOPs(512)) / 1e12; math.Abs(got-4.85) > 0.01 {
		t.Errorf("%.3f TFLOP for 512 tokens, want 4.85", got)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // "" is legal
	}{
		{"official", func(*Config) {}, ""},
		{"no layers", func(c *Config) { c.NumLayers = 0 }, "num_layers is 0"},
		{"huge", func(c *Config) { c.VocabSize = 1 << 40 }, "vocab_size is 1099511627776"},
		{"heads", func(c *Config) { c.NumHeads = 7 }, "dim_attn 4096 does not divide over 7 heads"},
		{"odd buckets", func(c *Config) { c.NumBuckets = 30 }, "num_buckets 30"},
		{"short distance", func(c *Config) { c.MaxDist = 8 }, "max_dist 8; want more than num_buckets/4 = 8"},
		{"eps", func(c *Config) { c.Eps = 0 }, "eps 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Official()
			tc.change(&c)
			err := c.Validate()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
