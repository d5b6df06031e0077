package sharded_test

import (
	"fmt"
	"testing"

	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// official is a prediction by the official i2v model for 81 frames of 832x480, without
// its weights.
func official() prediction {
	c := wan.OfficialI2V14B()
	p := prediction{config: c, t: 21, h: 60, w: 104, timestep: 500}
	pixels := p.t * p.h * p.w
	p.x, p.y = make([]float32, pixels*c.OutDim), make([]float32, pixels*(c.InDim-c.OutDim))
	p.context, p.clip = make([]float32, c.TextLen*c.TextDim), make([]float32, c.ImageTokens()*c.ClipDim)
	return p
}

// phaseSums adds up one rank's traffic of a phase and purpose.
func phaseSums(r ranktest.Result, rank int, phase, purpose string) (sent, received int64) {
	for _, x := range r.Traffic[rank] {
		if x.Phase == phase && x.Purpose == purpose {
			sent, received = sent+x.Sent, received+x.Received
		}
	}
	return sent, received
}

// The formulas for one step of the official model, of two branches, in BF16:
//
//	Ulysses  4 all-to-alls a layer and branch, sent = (L/P) d 2 B (P-1)/P each
//	FSDP     unit bytes (P-1)/P received, once for both branches
//
// and per rank 1/P of the unit bytes, two gathered units, and for exchange buffers 10
// times what q has of one of the five pieces that a rank's heads are exchanged in.
func TestOfficialPlan(t *testing.T) {
	p := official()
	c := p.config
	tokens, d := int64(c.NumTokens(p.t, p.h, p.w)), int64(c.Dim)
	units := wan.ForwardUnits(c)
	for _, size := range []int{2, 4, 8} {
		t.Run(fmt.Sprintf("%d ranks", size), func(t *testing.T) {
			ranks := int64(size)
			result := ranktest.Plan(t, size, func(r ranktest.Rank) {
				p.run(r, way{degree: size, compute: tensor.BF16, shard: &fsdp.Options{Rest: fsdp.OnDevice}, slab: 4096})
			})
			for rank, err := range result.Errs {
				if err != nil {
					t.Fatalf("rank %d: %v", rank, err)
				}
			}
			perLayer := 4 * (tokens / ranks) * d * 2 * (ranks - 1) / ranks
			published := map[int]float64{2: 335.5, 4: 251.6, 8: 146.8}[size] // MB, rounded
			if mb := float64(perLayer) / 1e6; mb < published-0.06 || mb > published+0.06 {
				t.Errorf("%.2f MB a layer by the formula, want %v", mb, published)
			}
			rounding := int64(len(units)) * sharding.Align * 24
			all := nn.Bytes(units, tensor.BF16)
			root := nn.Bytes(units[:1], tensor.BF16) // prefetched for the step that does not come
			for rank := range size {
				qkv, _ := phaseSums(result, rank, "denoise", "qkv")
				output, _ := phaseSums(result, rank, "denoise", "output")
				if got, want := qkv+output, 2*int64(c.NumLayers)*perLayer; got != want {
					t.Errorf("rank %d: %d bytes sent in all-to-alls, want %d", rank, got, want)
				}
				_, received := phaseSums(result, rank, "denoise", "weights")
				if want := (all + root) * (ranks - 1) / ranks; received < want || received > want+rounding {
					t.Errorf("rank %d: %d bytes of weights received, want %d", rank, received, want)
				}
				peak := result.Peaks[rank]
				if want := all / ranks; peak[tensor.Weights] < want || peak[tensor.Weights] > want+rounding {
					t.Errorf("rank %d: %d bytes of weights at rest, want %d", rank, peak[tensor.Weights], want)
				}
				largest := int64(0)
				for _, u := range units {
					largest = max(largest, nn.Bytes([]nn.Unit{u}, tensor.BF16))
				}
				if got := peak[tensor.Gathered]; got > 2*largest+rounding {
					t.Errorf("rank %d: %d bytes gathered, want at most two units of %d", rank, got, largest)
				}
				if got, want := peak[tensor.Collective], 2*(tokens/ranks)*d*2; got < want || got > want+1024 {
					t.Errorf("rank %d: %d bytes of exchange buffers, want %d", rank, got, want)
				}
			}
			if peak := result.Peaks[0]; !t.Failed() {
				t.Logf("a rank of %d: weights %.2f GB, gathered %.2f, activations %.2f, latents %.2f, exchange %.2f; weights received a step %.1f GB, all-to-all sent %.1f GB",
					size, gb(peak[tensor.Weights]), gb(peak[tensor.Gathered]), gb(peak[tensor.Activations]), gb(peak[tensor.Latents]), gb(peak[tensor.Collective]),
					gb(all*(ranks-1)/ranks), gb(2*int64(c.NumLayers)*perLayer))
			}
		})
	}
}

func gb(n int64) float64 { return float64(n) / 1e9 }

// Only the shards and the kept keys and values grow with depth.
func TestPeakByDepth(t *testing.T) {
	for _, degree := range []int{4, 2, 1} {
		peak := func(layers int) ranktest.Bytes {
			p := official()
			p.t, p.h, p.w = 3, 12, 20
			p.x, p.y = p.x[:p.t*p.h*p.w*p.config.OutDim], p.y[:p.t*p.h*p.w*(p.config.InDim-p.config.OutDim)]
			p.config.NumLayers = layers
			result := ranktest.Plan(t, 4, func(r ranktest.Rank) {
				p.run(r, way{degree: degree, compute: tensor.BF16, shard: &fsdp.Options{Rest: fsdp.OnDevice}, slab: 64})
			})
			for rank, err := range result.Errs {
				if err != nil {
					t.Fatalf("rank %d: %v", rank, err)
				}
			}
			return result.Peaks[3]
		}
		two, nine := peak(2), peak(9)
		for _, purpose := range []tensor.Purpose{tensor.Gathered, tensor.Activations, tensor.Collective} {
			if two[purpose] != nine[purpose] || two[purpose] == 0 {
				t.Errorf("ulysses %d: %v peak at %d bytes with 2 layers, %d with 9", degree, purpose, two[purpose], nine[purpose])
			}
		}
	}
}
