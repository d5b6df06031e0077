package wan_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func smallI2V(layers int) wan.Config {
	return wan.Config{ModelType: "i2v", InDim: 36, OutDim: 16, Dim: 96, FFNDim: 224, FreqDim: 64, TextDim: 40, TextLen: 48,
		NumHeads: 6, NumLayers: layers, PatchSize: [3]int{1, 2, 2}, Eps: 1e-6, ClipDim: 32, ClipTokens: 17}
}

// plan runs Prepare with two contexts and Forward of both on the meta backend.
func plan(t *testing.T, c wan.Config, compute tensor.DType, slab int, in input) (peaks [tensor.NumPurposes]int64, prepare, forward meta.Counts) {
	t.Helper()
	cpuBackend := cpu.New(1)
	defer cpuBackend.Close()
	backend := meta.New(cpuBackend)
	space := tensor.Unlimited()
	ops := tensor.NewOps(context.Background(), backend, space)
	m := wan.New(c, weights.Load(ops, wan.Units(c), nil, compute), compute)
	m.SlabTokens = slab
	x, y, clip, text := in.tensors(ops)
	loaded := backend.Counts
	conds := m.Prepare(ops, clip, text, text)
	prepared := backend.Counts
	m.Forward(ops, x, y, 500, conds...)
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
	return space.Peaks(), prepared.Sub(loaded), backend.Sub(prepared)
}

// What a plan reserves is, to the byte, what a run takes, and enough for it.
func TestPlannedPeak(t *testing.T) {
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		c := smallI2V(3)
		in := randomInput(c, 3, 6, 8, 11)
		planned, _, _ := plan(t, c, compute, 10, in)

		backend := cpu.New(2)
		t.Cleanup(backend.Close)
		ops := reserve(t, backend, planned)
		units := wan.Units(c)
		m := wan.New(c, weights.Load(ops, units, newRandomSource(units), compute), compute)
		m.SlabTokens = 10
		x, y, clip, text := in.tensors(ops)
		m.Forward(ops, x, y, 500, m.Prepare(ops, clip, text, text)...)
		if err := ops.Err(); err != nil {
			t.Fatal(err)
		}
		if used := ops.Space().Peaks(); used != planned {
			t.Errorf("%v: peaks %v, planned %v", compute, used, planned)
		}
		if want := c.CondBytes(2, compute); planned[tensor.Latents] < want || planned[tensor.Latents] > want+256*4*int64(2*c.NumLayers) {
			t.Errorf("%v: %d bytes of latents, want %d and rounding", compute, planned[tensor.Latents], want)
		}
	}
}

// Activations do not grow with depth, and with the sequence they grow by the
// residual streams, q, k, v and the attention's result alone: everything else
// is bounded by the slab.
func TestActivationPeak(t *testing.T) {
	const slab = 16
	peak := func(layers, frames int, compute tensor.DType) int64 {
		c := smallI2V(layers)
		peaks, _, _ := plan(t, c, compute, slab, randomInput(c, frames, 16, 16, 11))
		return peaks[tensor.Activations]
	}
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		if two, six := peak(2, 4, compute), peak(6, 4, compute); two != six {
			t.Errorf("%v: 2 layers peak at %d bytes, 6 layers at %d", compute, two, six)
		}
		c := smallI2V(2)
		got := peak(2, 20, compute) - peak(2, 4, compute)
		pixels := int64(16 * 16 * 16)                       // 16 frames more
		tokens := pixels / 4                                //
		perToken := int64(c.Dim) * (2*4 + 4*compute.Size()) // two streams; q, k, v and result
		perToken += int64(c.HeadDim()) * 4                  // cosines and sines
		perPixel := int64(4 * (c.InDim + 2*c.OutDim))       // the latent given and two predictions
		if want := tokens*perToken + pixels*perPixel; got != want {
			t.Errorf("%v: %d tokens more take %d bytes, want %d", compute, tokens, got, want)
		}
	}
}

// The formulas of FLOPs are what the ops add up to.
func TestFLOPs(t *testing.T) {
	for _, modelType := range []string{"i2v", "flf2v", "t2v"} {
		c := smallI2V(3)
		c.ModelType = modelType
		if !c.HasImage() {
			c.InDim, c.ClipDim, c.ClipTokens = 16, 0, 0
		}
		in := randomInput(c, 3, 6, 8, 11)
		_, prepare, forward := plan(t, c, tensor.BF16, 10, in)
		for _, tc := range []struct {
			name   string
			counts meta.Counts
			want   int64
		}{
			{"prepare", prepare, c.PrepareFLOPs(2)},
			{"forward", forward, 2*c.ForwardFLOPs(36) - c.ForwardSharedFLOPs(36)},
		} {
			if got := tc.counts.MatMulFLOPs + tc.counts.AttentionFLOPs; got != tc.want {
				t.Errorf("%s %s: %d FLOPs counted, want %d", modelType, tc.name, got, tc.want)
			}
		}
	}
}

// A block of the size that docs/log.md compares with the original code: dim 512,
// 4096 tokens, 512 text and 257 image tokens. One layer of 71.7 GFLOP.
func BenchmarkBlock(b *testing.B) {
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("%v/threads=%d", compute, threads), func(b *testing.B) {
				c := wan.OfficialI2V14B()
				c.Dim, c.FFNDim, c.NumHeads, c.NumLayers, c.TextDim, c.ClipDim = 512, 2048, 8, 1, 512, 320
				ops := newOps(b, threads)
				units := wan.Units(c)
				m := wan.New(c, weights.Load(ops, units, newRandomSource(units), compute), compute)
				x, y, clip, text := randomInput(c, 4, 64, 64, 512).tensors(ops)
				conds := m.Prepare(ops, clip, text)
				b.ResetTimer()
				for b.Loop() {
					ops.Scope(func() { m.Forward(ops, x, y, 500, conds...) })
				}
				if err := ops.Err(); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(c.ForwardFLOPs(4096))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
