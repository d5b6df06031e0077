package kernels

import (
	"math"
	"strings"
	"testing"
)

// TestSeededBugs puts one bug at a time into a kernel and wants it seen: the tests
// above are worth what this one says.
func TestSeededBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("seeded bugs were not tried: each compiles a kernel; run without -short")
	}
	keys := func(keyLen int) func(h *host) (Buffer, result, float64, error) {
		return func(h *host) (Buffer, result, float64, error) {
			c, call := newAttention(h, BF16, 20, 200, keyLen, 1, 64)
			want, _ := c.oracle()
			return Buffer{call.O, BF16}, want, roundoff(BF16), h.try(call.Launches()[0])
		}
	}
	attention, fewKeys := keys(131), keys(3) // one key more of three changes every result
	norm := func(h *host) (Buffer, result, float64, error) {
		x, xs := h.random(F32, 4*100, 1)
		ones := make([]float64, 100)
		for i := range ones {
			ones[i] = 1
		}
		want := newResult(len(xs))
		for r := range 4 {
			square := 0.0
			for _, v := range xs[r*100 : (r+1)*100] {
				square += v * v
			}
			for i := r * 100; i < (r+1)*100; i++ {
				want.values[i] = xs[i] / math.Sqrt(square/100+1e-6)
				want.sizes[i] = 1
			}
		}
		y := h.empty(F32, len(xs))
		return y, want, 0, h.try(RMSNorm(y, x, h.values(F32, ones).At, 4, 100, 1e-6))
	}
	type run func(h *host) (Buffer, result, float64, error)
	for _, tc := range []struct {
		name     string
		module   Module
		file     string // "" for the module's own
		old, new string
		run      run
	}{
		{"unchanged", Attention, "", "", "", attention},
		{"no wait for the copies", Attention, "", "copy_wait<1>();", "copy_wait<2>();", attention},
		{"no barrier behind the copies", Attention, "", "block_sync();  // everyone's part", "// everyone's part", attention},
		{"no barrier before the next copies", Attention, "", "block_sync();  // before the tile after next", "// before the tile after next", attention},
		{"a key too many", Attention, "", "? first + split_keys : key_len;", "? first + split_keys : key_len + 1;", attention},
		{"masked by the wrong column", Attention, "", "i * 8 + 2 * t + (j & 1) < left", "i * 8 + 2 * t < left", fewKeys},
		{"no mask", Attention, "", "i * 8 + 2 * t + (j & 1) < left", "true", attention},
		{"no rescaling", Attention, "", "acc[i][2 * r] *= keep, ", "", attention},
		{"a barrier that not all reach", Attention, "", "const int left = end - key;", "const int left = end - key; if (warp == 0) block_sync();", attention},
		{"a row too many", Attention, "", "if (row >= sq) continue;", "if (row > sq) continue;", attention},
		{"norm unchanged", Norm, "", "", "", norm},
		{"a lane alone in a shuffle", Norm, "", "const u64 at = (u64)block_x() * c;", "const u64 at = (u64)block_x() * c; if (thread_x() == 3) shuffle_xor(0.f, 1);", norm},
		{"half of the lanes", Norm, "types.h", "for (int m = 16; m; m >>= 1) v +=", "for (int m = 8; m; m >>= 1) v +=", norm},
	} {
		t.Run(tc.name, func(t *testing.T) {
			source := sources(t)[tc.module]
			if tc.file != "" {
				// The changed header stands in the source's place for it.
				source = strings.Replace(source, "#include \""+tc.file+"\"", read(t, tc.file), 1)
				source = strings.Replace(source, "#pragma once\n", "", 1)
			}
			changed := strings.Replace(source, tc.old, tc.new, 1)
			if tc.old != "" && changed == source {
				t.Fatalf("the source has no %q; the seeded bug must follow it", tc.old)
			}
			h := startHost(t, buildHost(t, map[Module]string{tc.module: changed}))
			y, want, extra, err := tc.run(h)
			if err == nil {
				err = h.differs("result", y, want, 40, extra)
			}
			switch {
			case err == nil && tc.old != "":
				t.Error("the bug was not seen")
			case err != nil && tc.old == "":
				t.Errorf("without a bug: %v", err)
			case err != nil:
				t.Logf("seen: %v", err)
			}
		})
	}
}
