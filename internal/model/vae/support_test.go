package vae_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// load is weights.Load: a nil src only plans.
func load(ops tensor.Ops, units []nn.Unit, src checkpoint.Source, compute tensor.DType) nn.Weights {
	return weights.Load(ops, units, src, compute)
}

// without hands out weights that lack a parameter.
type without struct {
	nn.Weights
	name string
}

func (w without) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	p, release := w.Weights.Acquire(ops, unit)
	p = maps.Clone(p)
	delete(p, w.name)
	return p, release
}

// newBackend returns a cpu backend that ends with the test.
func newBackend(t testing.TB) *cpu.Backend {
	b := cpu.New(2)
	t.Cleanup(b.Close)
	return b
}

// plan runs fn on the meta backend and returns the bytes that it takes.
func plan(t testing.TB, like tensor.Backend, fn func(ops tensor.Ops)) [tensor.NumPurposes]int64 {
	t.Helper()
	peaks, err := tryPlan(like, fn)
	if err != nil {
		t.Fatal(err)
	}
	return peaks
}

func tryPlan(like tensor.Backend, fn func(ops tensor.Ops)) ([tensor.NumPurposes]int64, error) {
	space := tensor.Unlimited()
	ops := tensor.NewOps(context.Background(), meta.New(like), space)
	fn(ops)
	return space.Peaks(), ops.Err()
}

// run plans fn, reserves exactly what the plan says, runs fn and checks that it
// took that.
func run(t testing.TB, b tensor.Backend, fn func(ops tensor.Ops)) {
	t.Helper()
	if err := tryRun(b, fn); err != nil {
		t.Fatal(err)
	}
}

func tryRun(b tensor.Backend, fn func(ops tensor.Ops)) error {
	planned, err := tryPlan(b, fn)
	if err != nil {
		return err
	}
	space, err := tensor.Reserve(b, planned)
	if err != nil {
		return err
	}
	defer space.Close()
	ops := tensor.NewOps(context.Background(), b, space)
	for p := range tensor.NumPurposes { // what is read before it is written shows
		ops := ops.Using(tensor.Purpose(p))
		ops.Scope(func() {
			if n := space[p].Capacity() / tensor.F32.Size(); n > 0 {
				ops.Fill(ops.Empty(tensor.F32, int(n)), float32(math.NaN()))
			}
		})
	}
	space.ResetPeaks()
	fn(ops)
	if used := space.Peaks(); ops.Err() == nil && used != planned {
		return fmt.Errorf("bytes used %v, planned %v", used, planned)
	}
	return ops.Err()
}

// openVAE returns configuration and tensors of a checkpoint in testdata.
func openVAE(t testing.TB, name string) (vae.Config, checkpoint.Source) {
	t.Helper()
	ckpt, err := checkpoint.OpenDir("../../../testdata/ckpt_" + name)
	if err != nil {
		t.Fatal(err)
	}
	src, err := ckpt.VAE()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close(); ckpt.Close() })
	return ckpt.Spec.VAE, src
}

// randomSource are random weights for units, scaled so that values stay near 1.
type randomSource struct {
	names   []string
	entries map[string]checkpoint.Entry
}

func newRandomSource(units []nn.Unit) randomSource {
	s := randomSource{entries: map[string]checkpoint.Entry{}}
	r := rand.New(rand.NewPCG(1, 2))
	for _, u := range units {
		for _, p := range u.Params {
			n, _ := p.Shape.NumElements()
			scale, base := 0.1, 0.0
			if p.Kind != nn.Vector {
				scale = 1 / float64(1+n/int64(p.Shape[0]))
			} else if len(p.Shape) > 1 {
				base = 1 // gamma
			}
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(base + scale*r.NormFloat64())
			}
			s.names = append(s.names, p.Name)
			s.entries[p.Name] = checkpoint.Entry{Name: p.Name, DType: tensor.F32, Shape: p.Shape, Data: tensor.FloatBytes(x)}
		}
	}
	return s
}

func (s randomSource) Names() []string { return s.names }
func (s randomSource) Lookup(name string) (checkpoint.Entry, bool) {
	e, ok := s.entries[name]
	return e, ok
}
func (s randomSource) Close() error { return nil }

// smallConfig is a VAE with every kind of layer.
func smallConfig() vae.Config {
	c := vae.Official()
	c.Dim, c.NumResBlocks = 4, 1
	return c
}

// random returns n values in [-1, 1).
func random(n int) []float32 {
	r := rand.New(rand.NewPCG(3, 4))
	x := make([]float32, n)
	for i := range x {
		x[i] = 2*r.Float32() - 1
	}
	return x
}

// cut returns the first t of [C, T, H, W] as [t, H, W, C].
func cut(x golden.Tensor, t int) []float32 {
	s := x.Shape
	return golden.Permute(x.F32, s, 1, 2, 3, 0)[:t*s[2]*s[3]*s[0]]
}

// crop returns the first frames, rows and columns of x [C, T, H, W], channels last.
func crop(x golden.Tensor, frames, h, w int) (out []float32) {
	all, s := cut(x, frames), x.Shape
	for f := range frames {
		for y := range h {
			row := (f*s[2] + y) * s[3] * s[0]
			out = append(out, all[row:row+w*s[0]]...)
		}
	}
	return out
}

// decode returns the frames of z [t, h, w, 16] on the host.
func decode(t testing.TB, b tensor.Backend, c vae.Config, src checkpoint.Source, compute tensor.DType,
	z []float32, frames, h, w int, trace func(string, []float32)) (video []float32) {
	t.Helper()
	run(t, b, func(ops tensor.Ops) {
		video = nil
		d := vae.NewDecoder(c, load(ops, vae.DecoderUnits(c), src, compute), compute)
		d.Trace = tracer(ops, trace)
		latent := ops.Using(tensor.Latents).FromFloats(z, frames, h, w, c.ZDim)
		d.Decode(ops, latent, func(x tensor.Tensor) error {
			video = append(video, ops.Floats(x)...)
			return nil
		})
	})
	return video
}

// encode returns the latent of a video [frames, h, w, 3] on the host. same says
// which frames repeat.
func encode(t testing.TB, b tensor.Backend, c vae.Config, src checkpoint.Source, compute tensor.DType,
	video []float32, frames, h, w int, same func(i int) bool, trace func(string, []float32)) (latent []float32) {
	t.Helper()
	run(t, b, func(ops tensor.Ops) {
		e := vae.NewEncoder(c, load(ops, vae.EncoderUnits(c), src, compute), compute)
		e.Trace = tracer(ops, trace)
		size := h * w * 3
		z := e.Encode(ops, frames, h, w, func(i int) ([]float32, bool) {
			if same != nil && same(i) {
				return nil, true
			}
			return video[i*size : (i+1)*size], false
		})
		latent = ops.Floats(z)
	})
	return latent
}

// tracer hands layers' results to fn, on real backends only.
func tracer(ops tensor.Ops, fn func(string, []float32)) func(string, tensor.Tensor) {
	if _, planning := ops.Backend().(*meta.Backend); fn == nil || planning {
		return nil
	}
	return func(layer string, frame tensor.Tensor) {
		x := make([]float32, frame.NumElements())
		if frame.DType() != tensor.F32 {
			panic("traces are of F32 runs")
		}
		ops.ReadFloats(x, frame)
		fn(layer, x)
	}
}
