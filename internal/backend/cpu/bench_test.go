package cpu_test

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// bench runs op and reports the arithmetic and traffic that the meta backend
// counts for it. GFLOP/s/core is per second of processor time, which other work
// on the machine disturbs little.
func bench(b *testing.B, construct func(int) *cpu.Backend, prepare func(o tensor.Ops) (op func())) {
	backend := construct(min(runtime.NumCPU(), 8))
	if backend == nil {
		b.Skip("not in this build")
	}
	defer backend.Close()
	space, err := tensor.Reserve(backend, [tensor.NumPurposes]int64{tensor.Activations: 2 << 30, tensor.Weights: 1 << 28})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := space.Close(); err != nil {
			b.Error(err)
		}
	}()
	o := tensor.NewOps(context.Background(), backend, space)
	op := prepare(o)
	counter := meta.New(backend)
	plan := tensor.NewOps(context.Background(), counter, tensor.Unlimited())
	counted := prepare(plan)
	before := counter.Counts
	counted()
	work := counter.Sub(before)
	o.Scope(op) // touches memory, fills scratch
	b.ResetTimer()
	start := processorTime(b)
	for range b.N {
		o.Scope(op)
	}
	used := (processorTime(b) - start).Seconds() / float64(b.N)
	b.StopTimer()
	if o.Err() != nil {
		b.Fatal(o.Err())
	}
	b.ReportMetric(float64(work.FLOPs())/used/1e9, "GFLOP/s/core")
	b.ReportMetric(float64(work.BytesMoved)/used/1e9, "GB/s/core")
	b.ReportMetric(used*1e3, "cpu-ms/op")
}

func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// variants are the fast backends of this build.
var variants = map[string]func(threads int) *cpu.Backend{
	"best": cpu.New,
	"onednn": func(threads int) *cpu.Backend {
		b, err := cpu.NewOneDNN(threads)
		if err != nil {
			return nil
		}
		return b
	},
}

// eachVariant runs a benchmark on every backend of this build.
func eachVariant(b *testing.B, name string, prepare func(o tensor.Ops) (op func())) {
	for variant, construct := range variants {
		b.Run(name+"/"+variant, func(b *testing.B) { bench(b, construct, prepare) })
	}
}

// filled returns a tensor of small numbers.
func filled(o tensor.Ops, d tensor.DType, dims ...int) tensor.Tensor {
	x := o.Empty(d, dims...)
	o.Fill(x, 0.01)
	return x
}

func weight(o tensor.Ops, kind tensor.WeightKind, d tensor.DType, dims ...int) tensor.Tensor {
	w := o.Using(tensor.Weights).EmptyWeight(kind, d, dims...)
	n, _ := tensor.Shape(dims).NumElements()
	if o.Err() == nil {
		o.Fail(o.Backend().WriteWeight(w, kind, make([]byte, n*d.Size())))
	}
	return w
}

var none tensor.Tensor

func BenchmarkMatMul(b *testing.B) {
	for _, size := range [][3]int{{2048, 2048, 2048}, {512, 1536, 8960}, {1, 5120, 5120}} {
		for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
			eachVariant(b, fmt.Sprintf("%dx%dx%d_%v", size[0], size[1], size[2], d), func(o tensor.Ops) func() {
				x, w := filled(o, d, size[0], size[2]), weight(o, tensor.MatrixWeight, d, size[1], size[2])
				return func() { o.MatMul(x, w, none, tensor.NoActivation, d) }
			})
		}
	}
}

// BenchmarkReference is small: the kernels in Go are twenty times slower.
func BenchmarkReference(b *testing.B) {
	bench(b, cpu.NewReference, func(o tensor.Ops) func() {
		x, w := filled(o, tensor.F32, 512, 1024), weight(o, tensor.MatrixWeight, tensor.F32, 1024, 1024)
		return func() { o.MatMul(x, w, none, tensor.NoActivation, tensor.F32) }
	})
}

// BenchmarkAttention has a length of the DiT and a picture of the VAE.
func BenchmarkAttention(b *testing.B) {
	for _, size := range [][3]int{{4096, 12, 128}, {1560, 1, 384}} {
		for _, d := range []tensor.DType{tensor.F32, tensor.BF16} {
			eachVariant(b, fmt.Sprintf("%dx%dx%d_%v", size[0], size[1], size[2], d), func(o tensor.Ops) func() {
				x := filled(o, d, size[0], size[1], size[2])
				return func() { o.Attention(x, x, x, tensor.AttentionSpec{Scale: 0.1, KeyLen: size[0]}) }
			})
		}
	}
}

// BenchmarkConv has the convolutions of the VAE's finest and coarsest stages.
func BenchmarkConv(b *testing.B) {
	for _, size := range [][3]int{{96, 240, 416}, {384, 60, 104}} {
		channels, height, width := size[0], size[1], size[2]
		eachVariant(b, fmt.Sprintf("%d_4x%dx%d", channels, height, width), func(o tensor.Ops) func() {
			x := filled(o, tensor.F32, 4, height, width, channels)
			past := filled(o, tensor.F32, 2, height, width, channels)
			w := weight(o, tensor.ConvWeight, tensor.F32, channels, 3, 3, 3, channels)
			spec := tensor.ConvSpec{Stride: [3]int{1, 1, 1}, PadT: 2, PadTop: 1, PadBottom: 1, PadLeft: 1, PadRight: 1}
			return func() { o.Conv3D(x, past, w, none, spec) }
		})
	}
}

func BenchmarkRows(b *testing.B) {
	type op = func(o tensor.Ops, x, g tensor.Tensor)
	for name, run := range map[string]op{
		"rms_norm":   func(o tensor.Ops, x, g tensor.Tensor) { o.RMSNorm(x, g, 1e-6, tensor.F32) },
		"layer_norm": func(o tensor.Ops, x, _ tensor.Tensor) { o.LayerNorm(x, none, none, 1e-6, tensor.F32) },
		"affine":     func(o tensor.Ops, x, g tensor.Tensor) { o.Affine(x, g, g, 1, tensor.F32) },
		"add":        func(o tensor.Ops, x, g tensor.Tensor) { o.AddTo(x, x, g) },
		"gelu_tanh":  func(o tensor.Ops, x, _ tensor.Tensor) { o.Activate(x, tensor.GELUTanh) },
		"cast_bf16":  func(o tensor.Ops, x, _ tensor.Tensor) { o.Cast(x, tensor.BF16) },
	} {
		b.Run(name, func(b *testing.B) {
			bench(b, cpu.New, func(o tensor.Ops) func() {
				x, g := filled(o, tensor.F32, 1024, 5120), filled(o, tensor.F32, 5120)
				return func() { run(o, x, g) }
			})
		})
	}
	b.Run("rope", func(b *testing.B) {
		bench(b, cpu.New, func(o tensor.Ops) func() {
			x, angles := filled(o, tensor.F32, 1024, 40, 128), filled(o, tensor.F32, 1024, 64)
			return func() { o.Rope(x, angles, angles) }
		})
	})
}
