package vae_test

import (
	"context"
	"testing"

	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// The sizes are those at which the original code was timed: dim 32, 5 frames of
// 128x128.
func benchConfig() vae.Config {
	c := vae.Official()
	c.Dim = 32
	return c
}

// benchmark plans and loads once and then times fn.
func benchmark(b *testing.B, flops int64, prepare func(ops tensor.Ops) (fn func())) {
	backend := newBackend(b)
	planned := plan(b, backend, func(ops tensor.Ops) { prepare(ops)() })
	space, err := tensor.Reserve(backend, planned)
	if err != nil {
		b.Fatal(err)
	}
	defer space.Close()
	ops := tensor.NewOps(context.Background(), backend, space)
	fn := prepare(ops)
	for b.Loop() {
		mark := space[tensor.Latents].Mark()
		fn()
		space[tensor.Latents].Release(mark)
	}
	if ops.Err() != nil {
		b.Fatal(ops.Err())
	}
	b.ReportMetric(float64(flops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkDecode(b *testing.B) {
	c := benchConfig()
	src := newRandomSource(vae.DecoderUnits(c))
	benchmark(b, c.DecodeFLOPs(2, 16, 16), func(ops tensor.Ops) func() {
		d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), src, tensor.F32), tensor.F32)
		z := ops.Using(tensor.Latents).FromFloats(random(2*16*16*c.ZDim), 2, 16, 16, c.ZDim)
		return func() { d.Decode(ops, z, func(tensor.Tensor) error { return nil }) }
	})
}

func BenchmarkEncode(b *testing.B) {
	c := benchConfig()
	src := newRandomSource(vae.EncoderUnits(c))
	frame := random(128 * 128 * 3)
	benchmark(b, c.EncodeFLOPs(5, 128, 128), func(ops tensor.Ops) func() {
		e := vae.NewEncoder(c, load(ops, vae.EncoderUnits(c), src, tensor.F32), tensor.F32)
		return func() {
			e.Encode(ops, 5, 128, 128, func(int) ([]float32, bool) { return frame, false })
		}
	})
}
