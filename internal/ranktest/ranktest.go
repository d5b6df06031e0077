// Package ranktest runs the ranks of a job as goroutines of one test: first on the
// meta backend and transport, which gives each rank's exact memory and traffic, then
// for real in exactly that memory.
package ranktest

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/comm/local"
	commmeta "github.com/wanrun/wanrun/internal/comm/meta"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Rank is what one goroutine gets.
type Rank struct {
	tensor.Ops
	Group comm.Group
	// Rank and Size are the group's.
	Rank, Size int
	// Planning says that nothing is computed, so that values mean nothing.
	Planning bool
}

// Bytes are the bytes of each purpose.
type Bytes = [tensor.NumPurposes]int64

// Result is what the ranks left, one entry a rank.
type Result struct {
	Peaks   []Bytes
	Traffic [][]comm.Traffic
	Errs    []error
}

// Plan runs fn on every rank without computing.
func Plan(t testing.TB, size int, fn func(r Rank)) Result {
	t.Helper()
	return try(t, size, nil, fn)
}

// Try runs fn on every rank, each in the given memory. An error of one rank ends
// the group.
func Try(t testing.TB, size int, memory []Bytes, fn func(r Rank)) Result {
	t.Helper()
	return try(t, size, memory, fn)
}

// Run plans, runs in what was planned, and fails the test unless no rank had an error
// and each used and sent what was planned, to the byte.
func Run(t testing.TB, size int, fn func(r Rank)) Result {
	t.Helper()
	planned := Plan(t, size, fn)
	must(t, "planning", planned)
	used := Try(t, size, planned.Peaks, fn)
	must(t, "running", used)
	for rank := range size {
		if used.Peaks[rank] != planned.Peaks[rank] {
			t.Errorf("rank %d of %d used %v bytes, planned %v", rank, size, used.Peaks[rank], planned.Peaks[rank])
		}
		if !reflect.DeepEqual(used.Traffic[rank], planned.Traffic[rank]) {
			t.Errorf("rank %d of %d sent %v, planned %v", rank, size, used.Traffic[rank], planned.Traffic[rank])
		}
	}
	return used
}

// must ends the test with the error of the rank that had one first: the others
// report that it left.
func must(t testing.TB, what string, r Result) {
	t.Helper()
	for _, own := range []bool{true, false} {
		for rank, err := range r.Errs {
			if err != nil && own != errors.Is(err, comm.ErrAborted) {
				t.Fatalf("%s, rank %d: %v", what, rank, err)
			}
		}
	}
}

func try(t testing.TB, size int, memory []Bytes, fn func(r Rank)) Result {
	t.Helper()
	planning := memory == nil
	groups := local.New
	if planning {
		groups = commmeta.New
	}
	out := Result{Peaks: make([]Bytes, size), Traffic: make([][]comm.Traffic, size), Errs: make([]error, size)}
	var wg sync.WaitGroup
	for rank, g := range groups(size, nil) {
		like := cpu.NewExact(1)
		t.Cleanup(like.Close)
		var backend tensor.Backend = like
		space := tensor.Unlimited()
		if planning {
			backend = meta.New(like)
		} else {
			var err error
			if space, err = tensor.Reserve(like, memory[rank]); err != nil {
				t.Fatal(err)
			}
		}
		wg.Go(func() {
			r := Rank{Ops: tensor.NewOps(context.Background(), backend, space), Group: g, Rank: rank, Size: size, Planning: planning}
			fn(r)
			if err := r.Err(); err != nil {
				out.Errs[rank] = err
				g.Abort(err)
			}
			out.Peaks[rank], out.Traffic[rank] = space.Peaks(), g.Traffic()
			err := g.Close()
			if out.Errs[rank] == nil {
				out.Errs[rank] = err
			}
			if !planning {
				out.Errs[rank] = errors.Join(out.Errs[rank], space.Close())
			}
		})
	}
	wg.Wait()
	return out
}

// Sent returns the bytes of one rank's traffic with a purpose.
func Sent(traffic []comm.Traffic, purpose string) (sent, received int64) {
	for _, x := range traffic {
		if x.Purpose == purpose {
			sent, received = sent+x.Sent, received+x.Received
		}
	}
	return sent, received
}
