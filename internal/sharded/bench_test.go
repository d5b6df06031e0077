package sharded_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/internal/sharded"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
	"github.com/wanrun/wanrun/pkg/ulysses"
)

// cheap is a Reader of small numbers that cost nothing to make.
type cheap struct{}

func (cheap) ReadRange(p fsdp.Param, first int64, dst []byte) error {
	if p.DType == tensor.F32 {
		floats := make([]float32, len(dst)/4)
		for i := range floats {
			floats[i] = float32((first+int64(i))*2654435761%2048-1024) / (1 << 15)
		}
		copy(dst, tensor.FloatBytes(floats))
		return nil
	}
	for i := 0; i < len(dst); i += 2 {
		h := tensor.F32ToBF16(float32((first+int64(i/2))*2654435761%2048-1024) / (1 << 15))
		dst[i], dst[i+1] = byte(h), byte(h>>8)
	}
	return nil
}

// One forward of one branch of a DiT of dim 1024, 8 layers, 4096 tokens: 1 rank of
// 2 threads against 2 ranks of 1 thread, with sharded weights. docs/log.md has the
// numbers.
func BenchmarkStep(b *testing.B) {
	c := wan.OfficialT2V1B()
	c.Dim, c.FFNDim, c.NumHeads, c.NumLayers, c.TextDim = 1024, 4096, 8, 8, 512
	const t, h, w = 4, 64, 64 // 4096 tokens
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		for _, way := range []struct{ ranks, degree, threads int }{{1, 1, 2}, {2, 2, 1}, {2, 1, 1}} {
			b.Run(fmt.Sprintf("%v/ranks=%d/ulysses=%d/threads=%d", compute, way.ranks, way.degree, way.threads), func(b *testing.B) {
				var wg sync.WaitGroup
				groups := local.New(way.ranks, nil)
				for rank, g := range groups {
					backend := cpu.New(way.threads)
					defer backend.Close()
					room := ranktest.Bytes{tensor.Weights: 1 << 30, tensor.Gathered: 1 << 30, tensor.Activations: 1 << 30, tensor.Latents: 1 << 30, tensor.Collective: 1 << 30}
					space, err := tensor.Reserve(backend, room)
					if err != nil {
						b.Fatal(err)
					}
					defer space.Close()
					wg.Go(func() {
						ops := tensor.NewOps(context.Background(), backend, space)
						step(ops, g, c, compute, way.degree, []int{t, h, w}, func() bool { return rank == 0 }, b)
						if err := ops.Err(); err != nil {
							g.Abort(err)
							b.Error(err)
						}
						if err := g.Close(); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// cpuSeconds is the process's, which other work on the machine disturbs less than the clock.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// step runs b.N forwards; first says which rank keeps the time.
func step(ops tensor.Ops, g comm.Group, c wan.Config, compute tensor.DType, degree int, size []int, first func() bool, b *testing.B) {
	seq, err := ulysses.New(ops.Context(), g, ulysses.Options{Heads: c.NumHeads, Degree: degree})
	if err != nil {
		ops.Fail(err)
		return
	}
	own, err := g.Split(ops.Context(), comm.Place{}, 0, g.Rank())
	if err != nil {
		ops.Fail(err)
		return
	}
	open := func(units []nn.Unit, cyclic bool) *fsdp.Store {
		parts, err := sharded.Units(units, compute)
		ops.Fail(err)
		return fsdp.Open(ops, parts, cheap{}, fsdp.Options{Group: own, Cyclic: cyclic})
	}
	store := open(wan.PrepareUnits(c), false)
	m := wan.New(c, fsdp.Weights[nn.Params]{Store: store}, compute)
	m.Seq = seq
	x := ops.Empty(tensor.F32, size[0], size[1], size[2], c.OutDim)
	ops.Fill(x, 0.5)
	text := ops.Empty(tensor.F32, c.TextLen, c.TextDim)
	ops.Fill(text, 0.25)
	conds := m.Prepare(ops, tensor.Tensor{}, text)
	ops.Fail(store.Close())
	store = open(wan.ForwardUnits(c), true)
	m.Weights = fsdp.Weights[nn.Params]{Store: store}
	cpuStart := 0.0
	ops.Fail(g.Barrier(ops.Context(), comm.Place{}))
	if first() {
		b.ResetTimer()
		cpuStart = cpuSeconds()
	}
	for range b.N {
		ops.Scope(func() { m.Forward(ops, x, tensor.Tensor{}, 500, conds...) })
	}
	ops.Fail(g.Barrier(ops.Context(), comm.Place{}))
	if first() {
		b.StopTimer()
		b.ReportMetric((cpuSeconds()-cpuStart)/float64(b.N), "cpu-s/op")
		b.ReportMetric(float64(c.ForwardFLOPs(size[0]*size[1]*size[2]/4))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	}
	ops.Fail(store.Close())
	ops.Fail(own.Close())
	ops.Fail(seq.Close())
}
