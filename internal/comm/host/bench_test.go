package host

import (
	"context"
	"errors"
	"testing"

	"github.com/wanrun/wanrun/internal/comm/commtest"
	"github.com/wanrun/wanrun/pkg/comm"
)

// benchmark runs with the default slots. The ranks are in one process, which the
// transport does not know: bytes go through the segments and sockets all the same.
func benchmark(b *testing.B, node func(rank int) int) {
	commtest.Bench(b, func(t testing.TB, size int, opts func(rank int) comm.Options) []comm.Group {
		nodes := make([]int, size)
		for rank := range nodes {
			nodes[rank] = node(rank)
		}
		cfgs := job(t, nodes, opts)
		for i := range cfgs {
			cfgs[i].SlotBytes, cfgs[i].Slots = 0, 0
		}
		groups, errs := connect(context.Background(), cfgs)
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		return groups
	})
}

func BenchmarkOneNode(b *testing.B) { benchmark(b, func(int) int { return 0 }) }

func BenchmarkTCP(b *testing.B) { benchmark(b, func(rank int) int { return rank }) }
