package local_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/pkg/comm"
)

// TestMemory: ranks of a group get the same bytes, and each call others.
func TestMemory(t *testing.T) {
	const size = 3
	memory := &local.Memory{}
	got := make([][2][]byte, size)
	run(t, size, func(rank int, g comm.Group) error {
		for i := range got[rank] {
			b, err := memory.Share(t.Context(), g, 100)
			if err != nil {
				return err
			}
			got[rank][i] = b
		}
		return nil
	})
	for rank := range size {
		for i, b := range got[rank] {
			if len(b) != 100 || &b[0] != &got[0][i][0] {
				t.Errorf("rank %d got %d bytes of its own", rank, len(b))
			}
		}
	}
	if &got[0][0][0] == &got[0][1][0] {
		t.Error("two calls gave the same memory")
	}
}

// TestMemoryMisused: ranks that do not use one Memory, or agree on no size, are told.
func TestMemoryMisused(t *testing.T) {
	one := &local.Memory{}
	for _, tc := range []struct {
		memory *local.Memory
		n      int64
	}{{&local.Memory{}, 8}, {one, 9}} {
		errs := make([]error, 2)
		run(t, 2, func(rank int, g comm.Group) error {
			m, n := one, int64(8)
			if rank == 1 {
				m, n = tc.memory, tc.n
			}
			_, err := m.Share(t.Context(), g, n)
			if errs[rank] = err; err != nil {
				g.Abort(err)
			}
			return nil
		})
		if errs[1] == nil || !strings.Contains(errs[1].Error(), "do not use one Memory") || !errors.Is(errs[0], comm.ErrAborted) {
			t.Errorf("%v", errs)
		}
	}
}

// run runs fn on each rank and closes the groups.
func run(t *testing.T, size int, fn func(rank int, g comm.Group) error) {
	t.Helper()
	var wait sync.WaitGroup
	for rank, g := range local.New(size, nil) {
		wait.Go(func() {
			if err := errors.Join(fn(rank, g), g.Close()); err != nil {
				t.Errorf("rank %d: %v", rank, err)
			}
		})
	}
	wait.Wait()
}
