package wan_test

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

var none tensor.Tensor

// newOps returns ops on the cpu backend with room for the tests; only touched
// pages of it become resident.
func newOps(t testing.TB, threads int) tensor.Ops {
	t.Helper()
	backend := cpu.New(threads)
	t.Cleanup(backend.Close)
	return reserve(t, backend, [tensor.NumPurposes]int64{tensor.Weights: 256 << 20, tensor.Activations: 512 << 20, tensor.Latents: 64 << 20})
}

func reserve(t testing.TB, backend tensor.Backend, bytes [tensor.NumPurposes]int64) tensor.Ops {
	t.Helper()
	space, err := tensor.Reserve(backend, bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	return tensor.NewOps(context.Background(), backend, space)
}

// open returns the model of a reference checkpoint.
func open(t testing.TB, ops tensor.Ops, name string, compute tensor.DType) *wan.Model {
	t.Helper()
	c, err := checkpoint.OpenDir("../../../testdata/ckpt_" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, err := c.DiT()
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	units := wan.Units(c.Spec.DiT)
	if err := weights.Check("dit", units, src, nil); err != nil {
		t.Fatal(err)
	}
	return wan.New(c.Spec.DiT, weights.Load(ops, units, src, compute), compute)
}

// input is one case of the reference data, on the host in the model's layout.
type input struct {
	x, y    []float32 // [T, H, W, C]
	t, h, w int
	context []float32
	clip    []float32
	config  wan.Config
}

func inputOf(c wan.Config, data map[string]golden.Tensor, key string) input {
	x := data[key+".x"]
	in := input{x: golden.Permute(x.F32, x.Shape, 1, 2, 3, 0), t: x.Shape[1], h: x.Shape[2], w: x.Shape[3],
		context: data[key+".context"].F32, config: c}
	if c.HasImage() {
		y := data[key+".y"]
		in.y, in.clip = golden.Permute(y.F32, y.Shape, 1, 2, 3, 0), data[key+".clip_fea"].F32
	}
	return in
}

// tensors puts the input on the device.
func (in input) tensors(ops tensor.Ops) (x, y, clip, text tensor.Tensor) {
	c := in.config
	x = ops.FromFloats(in.x, in.t, in.h, in.w, c.OutDim)
	text = ops.FromFloats(in.context, len(in.context)/c.TextDim, c.TextDim)
	if c.HasImage() {
		y = ops.FromFloats(in.y, in.t, in.h, in.w, c.InDim-c.OutDim)
		clip = ops.FromFloats(in.clip, c.ImageTokens(), c.ClipDim)
	}
	return x, y, clip, text
}

// forward runs Prepare and one Forward and returns the prediction [T, H, W, C].
func forward(ops tensor.Ops, m *wan.Model, in input, timestep int64) (out []float32) {
	mark := ops.Space()[tensor.Latents].Mark()
	defer ops.Space()[tensor.Latents].Release(mark)
	ops.Scope(func() {
		x, y, clip, text := in.tensors(ops)
		out = ops.Floats(m.Forward(ops, x, y, timestep, m.Prepare(ops, clip, text)...)[0])
	})
	return out
}

// predict is forward that ends the test on an error.
func predict(t testing.TB, ops tensor.Ops, m *wan.Model, in input, timestep int64) []float32 {
	t.Helper()
	out := forward(ops, m, in, timestep)
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// channelsLast returns a reference prediction [C, T, H, W] as [T, H, W, C].
func channelsLast(x golden.Tensor) []float32 { return golden.Permute(x.F32, x.Shape, 1, 2, 3, 0) }

// randomSource makes up parameters of a size that keeps activations near 1.
type randomSource struct {
	names  []string
	params map[string]nn.Param
}

func newRandomSource(units []nn.Unit) *randomSource {
	s := &randomSource{params: map[string]nn.Param{}}
	for _, u := range units {
		for _, p := range u.Params {
			s.names = append(s.names, p.Name)
			s.params[p.Name] = p
		}
	}
	return s
}

func (s *randomSource) Names() []string { return s.names }
func (s *randomSource) Close() error    { return nil }

func (s *randomSource) Lookup(name string) (checkpoint.Entry, bool) {
	p, ok := s.params[name]
	n, _ := p.Shape.NumElements()
	scale := 0.1
	if p.Kind != nn.Vector && len(p.Shape) > 1 {
		scale = 1 / math.Sqrt(float64(n)/float64(p.Shape[0]))
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)+uint64(len(name))))
	data := make([]byte, 0, 4*n)
	for range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(scale*rng.NormFloat64())))
	}
	return checkpoint.Entry{Name: name, DType: tensor.F32, Shape: p.Shape, Data: data}, ok
}

func randomFloats(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 2))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

// randomInput makes an input for a latent of [t, h, w] and a text of textTokens.
func randomInput(c wan.Config, t, h, w, textTokens int) input {
	in := input{x: randomFloats(t*h*w*c.OutDim, 1), t: t, h: h, w: w, context: randomFloats(textTokens*c.TextDim, 2), config: c}
	if c.HasImage() {
		in.y = randomFloats(t*h*w*(c.InDim-c.OutDim), 3)
		in.clip = randomFloats(c.ImageTokens()*c.ClipDim, 4)
	}
	return in
}
