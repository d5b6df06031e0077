package commtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func testSplit(t *testing.T, newGroups New) {
	groups := closed(t, newGroups(t, 6, nil))
	all(t, groups, func(g comm.Group) error {
		// 0, 2 and 4 in reverse; 1 and 5; 3 stays out
		color, key := g.Rank()%2, -g.Rank()
		if g.Rank() == 3 {
			color = -1
		}
		sub, err := g.Split(bg, comm.Place{Purpose: "mesh"}, color, key)
		if err != nil {
			return err
		}
		if color < 0 {
			if sub != nil {
				return fmt.Errorf("a group %v for a negative color", sub.Members())
			}
			return g.Barrier(bg, comm.Place{})
		}
		want := [][]int{{4, 2, 0}, {5, 1}}[color]
		if !slices.Equal(sub.Members(), want) || want[sub.Rank()] != g.Rank() || sub.Size() != len(want) {
			return fmt.Errorf("rank %d of %v, expected %v", sub.Rank(), sub.Members(), want)
		}
		alone, err := sub.Split(bg, comm.Place{}, sub.Rank(), 0) // of one rank each
		if err != nil {
			return err
		}
		if alone.Size() != 1 || alone.Members()[0] != g.Rank() {
			return fmt.Errorf("members %v of the group of rank %d alone", alone.Members(), g.Rank())
		}
		return errors.Join(alone.Barrier(bg, comm.Place{}), sub.Barrier(bg, comm.Place{}), alone.Close(), sub.Close(),
			g.Barrier(bg, comm.Place{}))
	})
}

// testStart begins many collectives at once: they run in the order of the calls.
func testStart(t *testing.T, newGroups New) {
	groups := closed(t, newGroups(t, 3, nil))
	all(t, groups, func(g comm.Group) error {
		var begun []comm.Pending
		for i := range 30 {
			x := alloc(tensor.F32, int64(i+1))
			begun = append(begun, g.Start(bg, comm.Call{Op: comm.OpAllReduce, Place: comm.Place{Step: i}, Dst: x.Tensor}))
		}
		for i := range begun { // in any order
			if err := begun[(i*7)%len(begun)].Wait(); err != nil {
				return err
			}
		}
		return g.Barrier(bg, comm.Place{})
	})
}

// testTraffic counts by hand: what goes to other ranks, and nothing else.
func testTraffic(t *testing.T, newGroups New) {
	const size = 4
	groups := closed(t, newGroups(t, size, nil))
	all(t, groups, func(g comm.Group) error {
		qkv, gather := comm.Place{Phase: "denoise", Purpose: "qkv"}, comm.Place{Phase: "denoise", Purpose: "weights"}
		small, large := alloc(tensor.BF16, 8), alloc(tensor.BF16, 8*size)
		in, x := alloc(tensor.BF16, 8*size), alloc(tensor.F32, 8*size)
		for block := range 3 {
			qkv.Block, gather.Block = block+1, block+1
			if err := errors.Join(
				g.AllToAll(bg, qkv, large.Tensor, in.Tensor, nil, nil),
				g.AllGather(bg, gather, large.Tensor, small.Tensor, nil),
			); err != nil {
				return err
			}
		}
		if err := errors.Join(g.AllReduce(bg, comm.Place{}, x.Tensor, comm.Sum), g.Broadcast(bg, comm.Place{}, x.Tensor, 1)); err != nil {
			return err
		}
		want := []comm.Traffic{
			{Op: comm.OpAllReduce, Calls: 1, Sent: 2 * (size - 1) * 32, Received: 2 * (size - 1) * 32},
			{Op: comm.OpBroadcast, Calls: 1, Received: 128},
			{Op: comm.OpAllToAll, Phase: "denoise", Purpose: "qkv", Calls: 3, Sent: 3 * 48, Received: 3 * 48},
			{Op: comm.OpAllGather, Phase: "denoise", Purpose: "weights", Calls: 3, Sent: 3 * 48, Received: 3 * 48},
		}
		if g.Rank() == 1 {
			want[1].Sent, want[1].Received = 3*128, 0
		}
		if got := g.Traffic(); !slices.Equal(got, want) {
			return fmt.Errorf("traffic %+v, expected %+v", got, want)
		}
		return nil
	})
}

func testHistory(t *testing.T, newGroups New) {
	clock := time.Unix(1000, 0)
	var mu sync.Mutex
	groups := closed(t, newGroups(t, 2, func(int) comm.Options {
		return comm.Options{History: 3, Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			clock = clock.Add(time.Second)
			return clock
		}}
	}))
	all(t, groups, func(g comm.Group) error {
		for i := range 5 {
			if err := g.Barrier(bg, comm.Place{Phase: "denoise", Step: i + 1}); err != nil {
				return err
			}
		}
		h := g.History()
		if len(h) != 3 {
			return fmt.Errorf("history of %d, expected the last 3", len(h))
		}
		for i, r := range h {
			if r.Op != comm.OpBarrier || r.Seq != int64(i+3) || r.State != comm.Finished || !r.Ended.After(r.Began) ||
				r.String() != fmt.Sprintf("barrier #%d (denoise, step %d)", i+3, i+3) {
				return fmt.Errorf("record %d is %+v", i, r)
			}
		}
		return nil
	})
}

// testMismatch lets rank 1 differ from the others in one thing at a time.
func testMismatch(t *testing.T, newGroups New) {
	f32 := func(n int64) tensor.Tensor { return alloc(tensor.F32, n).Tensor }
	at := comm.Place{Phase: "denoise", Step: 4, Block: 17}
	right := comm.Call{Op: comm.OpAllToAll, Place: at, Dst: f32(12), Src: f32(12)}
	for _, tc := range []struct {
		name        string
		right, odd  comm.Call
		first, then string // what is said of the right one and the odd one
	}{
		{"op", right, comm.Call{Op: comm.OpBarrier, Place: at}, "all-to-all #1 (denoise, block 17, step 4)", "barrier #1 (denoise, block 17, step 4)"},
		{"place", right, comm.Call{Op: comm.OpAllToAll, Place: comm.Place{Phase: "denoise", Step: 4, Block: 18}, Dst: f32(12), Src: f32(12)}, "block 17", "block 18"},
		{"size", right, comm.Call{Op: comm.OpAllToAll, Place: at, Dst: f32(24), Src: f32(24)}, "16 bytes to", "32 bytes to"},
		{"type", right, comm.Call{Op: comm.OpAllToAll, Place: at, Dst: alloc(tensor.I32, 12).Tensor, Src: alloc(tensor.I32, 12).Tensor}, "in F32", "in I32"},
		{"counts", right, comm.Call{Op: comm.OpAllToAll, Place: at, Dst: f32(12), Src: f32(12), SrcCounts: []int64{3, 4, 5}, DstCounts: []int64{4, 4, 4}},
			"16 bytes to", "disagree"},
		{"nothing", right, comm.Call{Op: comm.OpAllToAll, Place: at}, "16 bytes to", "0 bytes to"},
		{"root", comm.Call{Op: comm.OpBroadcast, Place: at, Dst: f32(4)}, comm.Call{Op: comm.OpBroadcast, Place: at, Dst: f32(4), Peer: 2}, "from member 0", "from member 2"},
		{"reduction", comm.Call{Op: comm.OpAllReduce, Place: at, Dst: f32(4)}, comm.Call{Op: comm.OpAllReduce, Place: at, Dst: f32(4), Reduce: comm.Max}, "sum", "max"},
		{"distance", comm.Call{Op: comm.OpShift, Place: at, Dst: f32(4), Src: f32(4), Peer: 1}, comm.Call{Op: comm.OpShift, Place: at, Dst: f32(4), Src: f32(4), Peer: 2}, "by 1", "by 2"},
		{"pair in collective", comm.Call{Op: comm.OpBarrier, Place: at}, comm.Call{Op: comm.OpSend, Place: at, Src: f32(4)}, "barrier #1", "send #1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			groups := closed(t, newGroups(t, 3, nil))
			errs := each(t, groups, func(g comm.Group) error {
				c := tc.right
				if g.Rank() == 1 {
					c = tc.odd
				}
				// Buffers of its own, as three ranks write to them.
				for _, b := range []*tensor.Tensor{&c.Dst, &c.Src} {
					if !b.IsNone() {
						*b = alloc(b.DType(), b.NumElements()).Tensor
					}
				}
				return g.Start(bg, c).Wait()
			})
			wantKinds(t, errs, comm.ErrMismatch)
			wantText(t, errs, "rank 1", tc.first, tc.then)
		})
	}
	t.Run("two sends", func(t *testing.T) {
		groups := closed(t, newGroups(t, 2, nil))
		errs := each(t, groups, func(g comm.Group) error { return g.Send(bg, at, f32(4), 1-g.Rank()) })
		wantKinds(t, errs, comm.ErrMismatch)
	})
	t.Run("in a group", func(t *testing.T) {
		groups := closed(t, newGroups(t, 4, nil))
		errs := each(t, groups, func(g comm.Group) error {
			sub, err := g.Split(bg, comm.Place{}, g.Rank()%2, 0)
			if err != nil {
				return err
			}
			if g.Rank() == 3 {
				return sub.Barrier(bg, comm.Place{Phase: "denoise"})
			}
			if g.Rank()%2 == 0 {
				return g.Barrier(bg, comm.Place{})
			}
			return sub.Barrier(bg, comm.Place{Phase: "write"})
		})
		wantKinds(t, errs, comm.ErrMismatch)
		wantText(t, errs, "among ranks 1,3", "write", "denoise")
	})
}

// testArguments sees that a call that cannot be made ends the job at once.
func testArguments(t *testing.T, newGroups New) {
	f32 := func(n int64) tensor.Tensor { return alloc(tensor.F32, n).Tensor }
	both := f32(8)
	for name, c := range map[string]comm.Call{
		"not divisible":    {Op: comm.OpAllToAll, Dst: f32(4), Src: f32(5)},
		"sum of counts":    {Op: comm.OpAllToAll, Dst: f32(4), Src: f32(4), SrcCounts: []int64{1, 2}, DstCounts: []int64{2, 2}},
		"negative count":   {Op: comm.OpAllToAll, Dst: f32(4), Src: f32(4), SrcCounts: []int64{5, -1}, DstCounts: []int64{2, 2}},
		"number of counts": {Op: comm.OpAllGather, Dst: f32(4), Src: f32(2), DstCounts: []int64{4}},
		"own part":         {Op: comm.OpAllGather, Dst: f32(6), Src: f32(2)},
		"types":            {Op: comm.OpAllGather, Dst: f32(4), Src: alloc(tensor.I32, 2).Tensor},
		"overlap":          {Op: comm.OpAllToAll, Dst: both, Src: both.Slice(0, 8)},
		"wrong own part":   {Op: comm.OpAllGather, Dst: both, Src: both.Slice(2, 4)},
		"root":             {Op: comm.OpBroadcast, Dst: f32(1), Peer: 2},
		"to itself":        {Op: comm.OpSend, Src: f32(1), Peer: 0},
		"no such peer":     {Op: comm.OpRecv, Dst: f32(1), Peer: -1},
		"no sum":           {Op: comm.OpAllReduce, Dst: alloc(tensor.U8, 4).Tensor},
		"no op":            {},
	} {
		t.Run(name, func(t *testing.T) {
			groups := closed(t, newGroups(t, 2, nil))
			errs := each(t, groups, func(g comm.Group) error {
				if g.Rank() == 0 {
					return g.Start(bg, c).Wait()
				}
				return g.Barrier(bg, comm.Place{})
			})
			if !errors.Is(errs[0], tensor.ErrShape) {
				t.Errorf("rank 0: %v, expected %v", errs[0], tensor.ErrShape)
			}
			wantKinds(t, errs[1:], comm.ErrAborted)
			wantText(t, errs[1:], "rank 0 called it wrongly")
		})
	}
}

// testLate holds rank 2 back and reads who the others say is late.
func testLate(t *testing.T, newGroups New) {
	groups := closed(t, newGroups(t, 4, func(int) comm.Options { return comm.Options{Timeout: 300 * time.Millisecond} }))
	at := comm.Place{Step: 4, Block: 17}
	errs := each(t, groups, func(g comm.Group) error {
		if g.Rank() == 2 {
			g.Enter(comm.Place{Phase: "vae_encode"})
			<-g.Done()
			return g.Err()
		}
		return g.AllToAll(bg, at, alloc(tensor.F32, 8).Tensor, alloc(tensor.F32, 8).Tensor, nil, nil)
	})
	wantKinds(t, errs, comm.ErrTimeout)
	wantText(t, errs, "ranks 0,1,3 wait in all-to-all #1 (block 17, step 4); rank 2 last seen in vae_encode")
	var f *comm.Failure
	if !errors.As(errs[0], &f) || f.Rank != 2 {
		t.Errorf("failure %+v does not blame rank 2", f)
	}
}

// testSlow reads the report of a collective that waits and then succeeds.
func testSlow(t *testing.T, newGroups New) {
	said := make(chan string, 2)
	groups := closed(t, newGroups(t, 2, func(int) comm.Options {
		return comm.Options{SlowAfter: 20 * time.Millisecond, Slow: func(text string) { said <- text }}
	}))
	all(t, groups, func(g comm.Group) error {
		if g.Rank() == 0 {
			return g.Barrier(bg, comm.Place{Phase: "write"})
		}
		select { // until rank 0 has complained
		case text := <-said:
			if want := "rank 0 waits in barrier #1 (write); rank 1 "; !strings.HasPrefix(text, want) {
				return fmt.Errorf("report %q, expected %q", text, want)
			}
		case <-time.After(patience):
			return errors.New("no report of a slow collective")
		}
		return g.Barrier(bg, comm.Place{Phase: "write"})
	})
}
