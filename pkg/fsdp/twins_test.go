package fsdp_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/ranktest"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// TestTwins: ranks that keep the same shards, each of another group, keep them once, read
// each element once, and get what one rank gets.
func TestTwins(t *testing.T) {
	units := stack(3)
	expected := want(units)
	for _, tc := range []struct{ size, group int }{{2, 1}, {3, 1}, {4, 2}, {6, 3}, {6, 2}, {4, 4}} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d ranks in groups of %d, row-major %v", tc.size, tc.group, plain), func(t *testing.T) {
				memory, read := &shared{}, &file{}
				held := make([]int64, tc.size)
				ranktest.Run(t, tc.size, func(r ranktest.Rank) {
					if plain {
						r.Ops = tensor.NewOps(r.Context(), rowMajor{r.Backend()}, r.Space())
					}
					split := func(color int) comm.Group {
						g, err := r.Group.Split(r.Context(), comm.Place{Purpose: "groups"}, color, r.Rank)
						r.Fail(err)
						return g
					}
					opts := fsdp.Options{Rest: fsdp.OnHost, Cyclic: true, Phase: "denoise", Group: split(r.Rank / tc.group), Twins: split(r.Rank % tc.group)}
					var reader fsdp.Reader
					if !r.Planning {
						reader = read
						opts.Host = func(n int64) ([]byte, error) { return memory.of(r.Rank%tc.group, n), nil }
					}
					store := fsdp.Open(r.Ops, units, reader, opts)
					held[r.Rank] = store.HostBytes()
					for range 2 {
						got := forward(r.Ops, fsdp.Weights[params]{Store: store}, units)
						if !r.Planning && r.Err() == nil {
							golden.Compare(t, fmt.Sprintf("rank %d", r.Rank), got, expected, 0)
						}
					}
					if (store.HostBytes() > 0) != (r.Rank < tc.group) || store.ShardBytes() == 0 {
						r.Fail(fmt.Errorf("rank %d counts %d bytes on the host", r.Rank, store.HostBytes()))
					}
					r.Fail(store.Close())
				})
				sum, all := int64(0), int64(0)
				for _, n := range held {
					sum += n
				}
				for _, u := range units {
					all += bytesOf(u)
				}
				if sum < all || sum > all+int64(len(units)*(5+tc.group))*256 {
					t.Errorf("%d bytes on the host in all, want %d and rounding", sum, all)
				}
				for _, u := range units[1:] {
					for _, p := range u.Params {
						n, _ := p.Shape.NumElements()
						for i := range n {
							if got := read.read[p.Name][i]; got != 1 {
								t.Fatalf("element %d of %s was read %d times, want once", i, p.Name, got)
							}
						}
					}
				}
			})
		}
	}
}

// shared is memory that twins have in common.
type shared struct {
	mu     sync.Mutex
	pieces map[int][]byte // by the number of the shard
}

func (s *shared) of(shard int, n int64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pieces == nil {
		s.pieces = map[int][]byte{}
	}
	if s.pieces[shard] == nil {
		s.pieces[shard] = make([]byte, n)
	}
	return s.pieces[shard]
}

// TestTwinsWithoutMemory: twins need memory from outside, and a twin that cannot read
// ends the waiting of the others.
func TestTwinsWithoutMemory(t *testing.T) {
	lost := errors.New("the disk is gone")
	units := stack(1)
	run := func(given bool) []error {
		memory := &shared{}
		sizes := []ranktest.Bytes{{tensor.Gathered: 1 << 20}, {tensor.Gathered: 1 << 20}}
		return ranktest.Try(t, 2, sizes, func(r ranktest.Rank) {
			own, err := r.Group.Split(r.Context(), comm.Place{Purpose: "groups"}, r.Rank, 0)
			if r.Fail(err); err != nil { // the other one was faster to fail
				return
			}
			opts := fsdp.Options{Rest: fsdp.OnHost, Group: own, Twins: r.Group}
			if given {
				opts.Host = func(n int64) ([]byte, error) { return memory.of(0, n), nil }
			}
			f := &file{}
			if r.Rank == 1 {
				f.fail = lost
			}
			s := fsdp.Open(r.Ops, units, f, opts)
			if r.Err() != nil {
				r.Group.Abort(r.Err())
			}
			r.Fail(s.Close())
		}).Errs
	}
	if errs := run(true); !errors.Is(errs[1], lost) || !errors.Is(errs[0], comm.ErrAborted) {
		t.Errorf("one cannot read: %v", errs)
	}
	for rank, err := range run(false) {
		if err == nil {
			t.Errorf("rank %d shares memory that nobody gave", rank)
		}
	}
}
