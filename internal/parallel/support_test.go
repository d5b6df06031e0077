package parallel_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/comm/local"
	commmeta "github.com/wanrun/wanrun/internal/comm/meta"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/model/vae"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// everyRank runs fn on each rank of groups and returns the ranks' errors joined to
// one, closing the groups. A rank that fails ends the others.
func everyRank(groups []comm.Group, fn func(g comm.Group) error) error {
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() {
			if errs[i] = fn(g); errs[i] != nil {
				g.Abort(errs[i])
			} else {
				errs[i] = g.Barrier(context.Background(), comm.Place{Purpose: "end"})
			}
			g.Close()
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("rank %d: %w", i, err)
		}
	}
	return nil
}

// inGroup plans fn on a planning group of size ranks, and then runs it on one of
// goroutines with exactly the planned bytes. It fails where a rank takes other
// bytes, or moves others, than planned, and returns the traffic of each rank.
func inGroup(t *testing.T, size int, fn func(g comm.Group, ops tensor.Ops) error) [][]comm.Traffic {
	t.Helper()
	planned, traffic := plan(t, size, fn)
	err := everyRank(local.New(size, nil), func(g comm.Group) error {
		b := cpu.New(1)
		defer b.Close()
		space, err := tensor.Reserve(b, planned[g.Rank()])
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
		if err := fn(g, ops); err != nil {
			return err
		}
		if used := space.Peaks(); used != planned[g.Rank()] {
			return fmt.Errorf("bytes used %v, planned %v", used, planned[g.Rank()])
		}
		if got := g.Traffic(); !slices.Equal(got, traffic[g.Rank()]) {
			return fmt.Errorf("traffic %v, planned %v", got, traffic[g.Rank()])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return traffic
}

// plan returns the peaks and the traffic of fn on each rank.
func plan(t *testing.T, size int, fn func(g comm.Group, ops tensor.Ops) error) ([][tensor.NumPurposes]int64, [][]comm.Traffic) {
	t.Helper()
	b := cpu.New(1)
	defer b.Close()
	peaks, traffic := make([][tensor.NumPurposes]int64, size), make([][]comm.Traffic, size)
	err := everyRank(commmeta.New(size, nil), func(g comm.Group) error {
		space := tensor.Unlimited()
		err := fn(g, tensor.NewOps(context.Background(), meta.New(b), space))
		peaks[g.Rank()], traffic[g.Rank()] = space.Peaks(), g.Traffic()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return peaks, traffic
}

// openVAE returns configuration and tensors of a checkpoint in testdata.
func openVAE(t *testing.T, name string) (vae.Config, checkpoint.Source) {
	t.Helper()
	ckpt, err := checkpoint.OpenDir("../../testdata/ckpt_" + name)
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

// crop returns the first t frames, h rows and w columns of x [C, T, H, W],
// channels last.
func crop(x golden.Tensor, t, h, w int) (out []float32) {
	s := x.Shape
	all := golden.Permute(x.F32, s, 1, 2, 3, 0)
	for f := range t {
		for y := range h {
			row := (f*s[2] + y) * s[3] * s[0]
			out = append(out, all[row:row+w*s[0]]...)
		}
	}
	return out
}

// sameBits fails where got is not want to the bit.
func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		t.Fatalf("%s: %d floats, want %d", what, len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: element %d is %v, one rank gives %v (worst difference %.2g)", what, i, got[i], want[i], golden.MaxDiff(got, want))
		}
	}
}
