package commtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// testAbort aborts from each rank while all others wait, some in a sub-group.
func testAbort(t *testing.T, newGroups New) {
	const size = 4
	cause := errors.New("out of paper")
	for by := range size {
		groups := closed(t, newGroups(t, size, nil))
		began := time.Now()
		errs := each(t, groups, func(g comm.Group) error {
			sub, err := g.Split(bg, comm.Place{}, g.Rank()/2, 0)
			if err != nil {
				return err
			}
			switch {
			case g.Rank() == by:
				g.Abort(cause)
				err = g.Err()
			case g.Rank()/2 == by/2:
				err = sub.Barrier(bg, comm.Place{})
			default:
				err = g.AllGather(bg, comm.Place{}, alloc(tensor.F32, size).Tensor, alloc(tensor.F32, 1).Tensor, nil)
			}
			<-g.Done()
			// Dead is dead.
			for _, dead := range []comm.Group{g, sub} {
				if err := dead.Barrier(bg, comm.Place{}); !errors.Is(err, comm.ErrAborted) {
					return fmt.Errorf("barrier after the abort: %v", err)
				}
			}
			return err
		})
		if d := time.Since(began); d > soon {
			t.Errorf("abort took %v", d)
		}
		wantKinds(t, errs, comm.ErrAborted)
		wantText(t, errs, fmt.Sprintf("rank %d aborted: out of paper", by))
		if !errors.Is(errs[by], cause) {
			t.Errorf("rank %d does not wrap its own cause: %v", by, errs[by])
		}
	}
}

func testContext(t *testing.T, newGroups New) {
	at := comm.Place{Phase: "denoise"}
	t.Run("cancelled", func(t *testing.T) {
		groups := closed(t, newGroups(t, 3, nil))
		reason := errors.New("the user said stop")
		ctx, cancel := context.WithCancelCause(bg)
		errs := each(t, groups, func(g comm.Group) error {
			switch g.Rank() {
			case 0:
				time.AfterFunc(10*time.Millisecond, func() { cancel(reason) })
				return g.Barrier(ctx, at)
			case 1:
				return g.Barrier(bg, at)
			}
			<-g.Done()
			return g.Err()
		})
		wantKinds(t, errs, comm.ErrAborted)
		wantText(t, errs, "rank 0 left barrier #1 (denoise): the user said stop")
		if !errors.Is(errs[0], reason) {
			t.Errorf("rank 0 does not wrap its reason: %v", errs[0])
		}
	})
	t.Run("before", func(t *testing.T) {
		groups := closed(t, newGroups(t, 2, nil))
		reason := errors.New("the user said stop")
		ctx, cancel := context.WithCancelCause(bg)
		cancel(reason)
		errs := each(t, groups, func(g comm.Group) error {
			if g.Rank() == 1 {
				return g.Barrier(bg, at)
			}
			return g.Barrier(ctx, at)
		})
		wantKinds(t, errs, comm.ErrAborted)
		wantText(t, errs, "rank 0 left barrier #1 (denoise): the user said stop")
		if !errors.Is(errs[0], reason) {
			t.Errorf("rank 0 does not wrap its reason: %v", errs[0])
		}
	})
	t.Run("deadline", func(t *testing.T) {
		groups := closed(t, newGroups(t, 2, nil))
		ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
		defer cancel()
		errs := each(t, groups, func(g comm.Group) error {
			if g.Rank() == 1 {
				<-g.Done()
				return g.Err()
			}
			return g.Barrier(ctx, at)
		})
		wantKinds(t, errs, comm.ErrTimeout)
		wantText(t, errs, "rank 0 waits in barrier #1 (denoise); rank 1 not seen yet")
		if !errors.Is(errs[0], context.DeadlineExceeded) {
			t.Errorf("rank 0: %v is not a deadline exceeded", errs[0])
		}
	})
}

// testKill kills rank 1 at each point of each collective.
func testKill(t *testing.T, newGroups New) {
	const size, n = 3, 30_000
	ops := map[string]func(g comm.Group) error{
		"barrier":        func(g comm.Group) error { return g.Barrier(bg, comm.Place{}) },
		"all-to-all":     func(g comm.Group) error { return call(g, comm.Call{Op: comm.OpAllToAll}, size*n, size*n) },
		"all-gather":     func(g comm.Group) error { return call(g, comm.Call{Op: comm.OpAllGather}, size*n, n) },
		"reduce-scatter": func(g comm.Group) error { return call(g, comm.Call{Op: comm.OpReduceScatter}, n, size*n) },
		"all-reduce":     func(g comm.Group) error { return call(g, comm.Call{Op: comm.OpAllReduce}, n, 0) },
		"broadcast":      func(g comm.Group) error { return call(g, comm.Call{Op: comm.OpBroadcast, Peer: 1}, n, 0) },
		"shift":          func(g comm.Group) error { return call(g, comm.Call{Op: comm.OpShift, Peer: 1}, n, n) },
	}
	for op, do := range ops {
		for _, point := range []string{"enter", "announced", "matched", "moving", "done"} {
			t.Run(op+"."+point, func(t *testing.T) {
				var victim atomic.Pointer[comm.Group]
				groups := closed(t, newGroups(t, size, func(rank int) comm.Options {
					if rank != 1 {
						return comm.Options{}
					}
					return comm.Options{Failpoint: func(name string) {
						if g := victim.Load(); g != nil && name == op+"."+point {
							(*g).(killer).Kill()
						}
					}}
				}))
				victim.Store(&groups[1])
				began := time.Now()
				errs := each(t, groups, func(g comm.Group) error {
					if err := do(g); err != nil {
						return err
					}
					if g.Rank() == 1 && point == "moving" { // the transport may have nothing to move
						g.(killer).Kill()
					}
					return g.Barrier(bg, comm.Place{})
				})
				if d := time.Since(began); d > soon {
					t.Errorf("the end took %v", d)
				}
				survivors := []error{errs[0], errs[2]}
				wantKinds(t, survivors, comm.ErrPeerLost)
				wantText(t, survivors, "rank 1 is gone")
				var f *comm.Failure
				if !errors.As(errs[0], &f) || f.Rank != 1 {
					t.Errorf("failure %+v does not blame rank 1", f)
				}
			})
		}
	}
}

// call runs c with fresh buffers of so many elements.
func call(g comm.Group, c comm.Call, dst, src int64) error {
	c.Dst, c.Src = alloc(tensor.F32, dst).Tensor, alloc(tensor.F32, src).Tensor
	return g.Start(bg, c).Wait()
}

func testClose(t *testing.T, newGroups New) {
	t.Run("early", func(t *testing.T) {
		groups := newGroups(t, 3, nil)
		errs := each(t, groups, func(g comm.Group) error {
			if g.Rank() == 2 {
				return g.Close()
			}
			err := g.Barrier(bg, comm.Place{Phase: "write"})
			return errors.Join(err, g.Close())
		})
		if errs[2] != nil {
			t.Errorf("close: %v", errs[2])
		}
		wantKinds(t, errs[:2], comm.ErrPeerLost)
		wantText(t, errs[:2], "rank 2 has closed its groups")
	})
	t.Run("twice", func(t *testing.T) {
		groups := newGroups(t, 2, nil)
		all(t, groups, func(g comm.Group) error { return g.Close() })
		for _, g := range groups {
			if err := g.Close(); err == nil || !strings.Contains(err.Error(), "twice") {
				t.Errorf("second close: %v", err)
			}
			if err := g.Barrier(bg, comm.Place{}); err == nil {
				t.Error("barrier of a closed group succeeds")
			}
		}
	})
	t.Run("during", func(t *testing.T) {
		groups := newGroups(t, 2, nil)
		errs := each(t, groups, func(g comm.Group) error {
			if g.Rank() == 1 {
				<-g.Done()
				return errors.Join(g.Err(), g.Close())
			}
			p := g.Start(bg, comm.Call{Op: comm.OpBarrier})
			err := g.Close()
			return errors.Join(p.Wait(), err)
		})
		wantKinds(t, errs, comm.ErrAborted)
		wantText(t, errs, "rank 0 closed its groups during a collective")
	})
}
