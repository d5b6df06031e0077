package vae_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// tolerance of one run of encoder or decoder: ten times what F32 and F64 runs of
// the original code differ by.
const tolerance = 3e-5

var checkpoints = []string{"i2v", "flf2v", "t2v", "t2v_quick"}

func TestDecodeAsOriginal(t *testing.T) {
	for _, name := range checkpoints {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			c, src := openVAE(t, name)
			want := golden.Load(t, "../../../testdata/vae/"+name+".safetensors")
			latent := want["latent"]
			h, w := latent.Shape[2], latent.Shape[3]
			size := h * w * vae.SpaceStride * vae.SpaceStride * 3
			worst, compared := 0.0, 0
			for n := 1; n <= latent.Shape[1]; n++ {
				all, hasAll := want[fmt.Sprintf("decode_%d", n)]
				last, hasLast := want[fmt.Sprintf("decode_%d_last_frame", n)]
				if !hasAll && !hasLast {
					continue
				}
				var unclamped []float32
				got := decode(t, b, c, src, tensor.F32, cut(latent, n), n, h, w, func(layer string, x []float32) {
					if layer == "decoder.head" {
						unclamped = append(unclamped, x...)
					}
				})
				if len(got) != (n*vae.TimeStride-3)*size {
					t.Fatalf("%d latent frames give %d floats, want %d frames of %d", n, len(got), n*vae.TimeStride-3, size)
				}
				compare := func(key string, got, want []float32, shape ...int) {
					golden.CompareShape(t, key, shape, got, want, tolerance)
					worst = max(worst, golden.MaxDiff(got, want))
					compared++
				}
				if hasAll {
					compare(fmt.Sprintf("decode_%d", n), got, cut(all, all.Shape[1]), all.Shape[1], 8*h, 8*w, 3)
				}
				if hasLast {
					compare(fmt.Sprintf("last frame of %d", n), got[len(got)-size:],
						golden.Permute(last.F32, last.Shape, 1, 2, 0), 8*h, 8*w, 3)
				}
				if before, ok := want[fmt.Sprintf("decode_%d_before_clamp", n)]; ok {
					compare("before clamp", unclamped, cut(before, n), n, 8*h, 8*w, 3)
				}
			}
			t.Logf("%d comparisons, worst difference %.2g", compared, worst)
			if compared < 2 {
				t.Errorf("only %d comparisons", compared)
			}
		})
	}
}

func TestEncodeAsOriginal(t *testing.T) {
	for _, name := range checkpoints {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			c, src := openVAE(t, name)
			want := golden.Load(t, "../../../testdata/vae/"+name+".safetensors")
			video := want["video"]
			h, w := video.Shape[2], video.Shape[3]
			worst, compared := 0.0, 0
			for n := 1; n <= video.Shape[1]; n++ {
				z, ok := want[fmt.Sprintf("encode_%d", n)]
				if !ok {
					continue
				}
				got := encode(t, b, c, src, tensor.F32, cut(video, n), n, h, w, nil, nil)
				wantZ := cut(z, z.Shape[1])
				golden.CompareShape(t, fmt.Sprintf("encode_%d", n), []int{z.Shape[1], h / 8, w / 8, 16}, got, wantZ, tolerance)
				worst = max(worst, golden.MaxDiff(got, wantZ))
				compared++
			}
			t.Logf("%d comparisons, worst difference %.2g", compared, worst)
			if compared < 3 {
				t.Errorf("only %d comparisons", compared)
			}
		})
	}
}

// TestTracesAsOriginal compares the stages of each chunk. A stage's frames of one
// chunk are consecutive in the trace.
func TestTracesAsOriginal(t *testing.T) {
	b := newBackend(t)
	c, src := openVAE(t, "i2v")
	want := golden.Load(t, "../../../testdata/vae/i2v.safetensors")
	video, latent := want["video"], want["latent"]
	traced := map[string][]float32{}
	keep := func(layer string, x []float32) { traced[layer] = append(traced[layer], x...) }
	traced["trace_encode.result"] = encode(t, b, c, src, tensor.F32, crop(video, 5, 16, 24), 5, 16, 24, nil, keep)
	decoded := decode(t, b, c, src, tensor.F32, crop(latent, 3, 2, 3), 3, 2, 3, keep)
	traced["trace_decode.result"] = decoded

	layers := map[string]string{ // the original's stage: our last layer in it
		"trace_encode.conv1":               "encoder.conv1",
		"trace_encode.stage2_downsample2d": "encoder.downsamples.2.resample.1",
		"trace_encode.stage5_downsample3d": "encoder.downsamples.5.time_conv",
		"trace_encode.stage8_downsample3d": "encoder.downsamples.8.time_conv",
		"trace_encode.middle":              "encoder.middle.2",
		"trace_encode.head":                "encoder.head",
		"trace_encode.result":              "trace_encode.result",
		"trace_decode.conv1":               "decoder.conv1",
		"trace_decode.middle":              "decoder.middle.2",
		"trace_decode.stage3_upsample3d":   "decoder.upsamples.3.resample.1",
		"trace_decode.stage7_upsample3d":   "decoder.upsamples.7.resample.1",
		"trace_decode.stage11_upsample2d":  "decoder.upsamples.11.resample.1",
		"trace_decode.head":                "decoder.head",
		"trace_decode.result":              "trace_decode.result",
	}
	var keys []string
	for key := range want {
		if strings.HasPrefix(key, "trace_") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	used := map[string]int{}
	for _, key := range keys {
		stage := key
		if parts := strings.Split(key, "."); len(parts) == 3 {
			stage = parts[0] + "." + parts[2]
		}
		layer, ok := layers[stage]
		if !ok {
			t.Errorf("no layer is known for %s", key)
			continue
		}
		x := want[key]
		n := x.Len()
		if used[layer]+n > len(traced[layer]) {
			t.Errorf("%s: layer %s gave %d floats, want more than %d", key, layer, len(traced[layer]), used[layer]+n)
			continue
		}
		golden.CompareShape(t, key, []int{x.Shape[1], x.Shape[2], x.Shape[3], x.Shape[0]},
			traced[layer][used[layer]:used[layer]+n], cut(x, x.Shape[1]), tolerance)
		used[layer] += n
	}
	for _, layer := range layers {
		if used[layer] != len(traced[layer]) || used[layer] == 0 {
			t.Errorf("%s gave %d floats, compared %d", layer, len(traced[layer]), used[layer])
		}
	}
}

// TestBF16 bounds what BF16 storage costs. The original code has no such mode: the
// bound is a PSNR of 46 dB over the range of 2, about three times what was measured.
func TestBF16(t *testing.T) {
	b := newBackend(t)
	c, src := openVAE(t, "t2v_quick")
	want := golden.Load(t, "../../../testdata/vae/t2v_quick.safetensors")
	rms := func(got, want []float32) float64 {
		sum := 0.0
		for i := range want {
			d := float64(got[i] - want[i])
			sum += d * d
		}
		return math.Sqrt(sum / float64(len(want)))
	}
	latent, video := want["latent"], want["video"]
	frames := decode(t, b, c, src, tensor.BF16, cut(latent, 3), 3, 4, 6, nil)
	z := encode(t, b, c, src, tensor.BF16, cut(video, 5), 5, 32, 48, nil, nil)
	decoded, encoded := rms(frames, cut(want["decode_3"], 9)), rms(z, cut(want["encode_5"], 2))
	t.Logf("rms difference from F32: decode %.2g, encode %.2g", decoded, encoded)
	if decoded == 0 || encoded == 0 {
		t.Error("BF16 gave the same as F32: it was not used")
	}
	if decoded > 0.01 || encoded > 0.01 {
		t.Errorf("rms difference from F32: decode %.3g, encode %.3g, want at most 0.01", decoded, encoded)
	}
}
