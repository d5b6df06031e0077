package sharded_test

import (
	"fmt"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/umt5"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/internal/sharded"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// A sharded T5 gives the same bits as a whole one.
func TestShardedT5(t *testing.T) {
	c, err := checkpoint.OpenDir("../../testdata/ckpt_i2v")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	src, err := c.T5()
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	config := c.Spec.T5
	units := umt5.Units(config)
	prompts := [][]int32{{17, 3, 250, 42, 99, 1}, {5, 1}}
	encode := func(size int, compute tensor.DType, opts *fsdp.Options) (outs [][]float32, acquired []int) {
		outs, acquired = make([][]float32, size), make([]int, size)
		ranktest.Run(t, size, func(r ranktest.Rank) {
			src := src
			if r.Planning {
				src = nil
			}
			var ws nn.Weights
			var store *fsdp.Store
			if opts == nil {
				ws = weights.Load(r.Ops, units, src, compute)
			} else {
				parts, err := sharded.Units(units, compute)
				r.Fail(err)
				opts := *opts
				opts.Group, opts.Phase = r.Group, "text_encode"
				opts.OnAcquire = func(done, total int) { acquired[r.Rank] = done }
				store = fsdp.Open(r.Ops, parts, sharded.Reader(src), opts)
				ws = fsdp.Weights[nn.Params]{Store: store}
			}
			outs[r.Rank] = nil
			for _, x := range umt5.New(config, ws, compute).Encode(r.Ops, prompts...) {
				outs[r.Rank] = append(outs[r.Rank], r.Floats(x)...)
			}
			if store != nil {
				r.Fail(store.Close())
			}
		})
		return outs, acquired
	}
	for _, compute := range []tensor.DType{tensor.F32, tensor.BF16} {
		want, _ := encode(1, compute, nil)
		for _, size := range []int{1, 2, 3, 5, 8} {
			for _, rest := range []fsdp.Rest{fsdp.OnDevice, fsdp.OnHost, fsdp.InFile} {
				t.Run(fmt.Sprintf("%v, %d ranks, rest %d", compute, size, rest), func(t *testing.T) {
					outs, acquired := encode(size, compute, &fsdp.Options{Rest: rest})
					for rank, out := range outs {
						golden.Compare(t, fmt.Sprintf("rank %d", rank), out, want[0], 0)
						if acquired[rank] != config.NumLayers+1 {
							t.Errorf("rank %d acquired %d units, want %d blocks and the last norm", rank, acquired[rank], config.NumLayers)
						}
					}
				})
			}
		}
	}
}
