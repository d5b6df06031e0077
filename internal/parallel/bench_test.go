package parallel_test

import (
	"context"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/parallel"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// BenchmarkDecode decodes 2 latent frames of 16x16 with a VAE of dim 32 on two
// threads: of one rank, and of two ranks with one each.
func BenchmarkDecode(b *testing.B) {
	const n, h, w = 2, 16, 16
	c := vae.Official()
	c.Dim = 32
	decode := func(b *testing.B, size int) {
		err := everyRank(local.New(size, nil), func(g comm.Group) error {
			backend := cpu.New(2 / size)
			defer backend.Close()
			space, err := tensor.Reserve(backend, [tensor.NumPurposes]int64{128 << 20, 0, 256 << 20, 1 << 20, 512 << 20, 16 << 20})
			if err != nil {
				return err
			}
			defer space.Close()
			ops := tensor.NewOps(context.Background(), backend, space)
			units := vae.DecoderUnits(c)
			resident := weights.Load(ops, units, nil, tensor.F32)
			d := vae.NewDecoder(c, resident, tensor.F32)
			slabs, err := parallel.NewSlabs(ops.Context(), g, h, "vae_decode")
			if err != nil {
				return err
			}
			defer slabs.Close()
			d.Slabs = slabs
			z := ops.Using(tensor.Latents).FromFloats(make([]float32, n*h*w*c.ZDim), n, h, w, c.ZDim)
			for range b.N {
				err := d.Decode(ops, z, func(x tensor.Tensor) error {
					slabs.Collect(ops, ops.Quantize(x, false))
					return ops.Err()
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(c.DecodeFLOPs(n, h, w))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	}
	b.Run("1 rank 2 threads", func(b *testing.B) { decode(b, 1) })
	b.Run("2 ranks 1 thread", func(b *testing.B) { decode(b, 2) })
}
