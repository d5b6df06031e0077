// Package commtest is the conformance suite of transports: what every Group must
// do, whatever carries it.
package commtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
)

// New makes the groups of a job, one a rank, in this process. opts gives each
// rank's options. The suite closes the groups.
type New func(t testing.TB, size int, opts func(rank int) comm.Options) []comm.Group

// killer is a group that can play dead: its peers see what they see when its
// process is killed.
type killer interface{ Kill() }

// Run tests a transport that moves data.
func Run(t *testing.T, newGroups New) {
	t.Run("Collectives", func(t *testing.T) { testCollectives(t, newGroups) })
	t.Run("Large", func(t *testing.T) { testLarge(t, newGroups) })
	t.Run("Reductions", func(t *testing.T) { testReductions(t, newGroups) })
	t.Run("InPlace", func(t *testing.T) { testInPlace(t, newGroups) })
	t.Run("Pairs", func(t *testing.T) { testPairs(t, newGroups) })
	t.Run("Random", func(t *testing.T) { testRandom(t, newGroups) })
	t.Run("Concurrent", func(t *testing.T) { testConcurrent(t, newGroups) })
	t.Run("Stalled", func(t *testing.T) { testStalled(t, newGroups) })
	RunAgreement(t, newGroups)
}

// RunAgreement tests all but the data: who waits for whom, what is compared, and
// how groups end.
func RunAgreement(t *testing.T, newGroups New) {
	t.Run("Split", func(t *testing.T) { testSplit(t, newGroups) })
	t.Run("Start", func(t *testing.T) { testStart(t, newGroups) })
	t.Run("Traffic", func(t *testing.T) { testTraffic(t, newGroups) })
	t.Run("History", func(t *testing.T) { testHistory(t, newGroups) })
	t.Run("Mismatch", func(t *testing.T) { testMismatch(t, newGroups) })
	t.Run("Arguments", func(t *testing.T) { testArguments(t, newGroups) })
	t.Run("Late", func(t *testing.T) { testLate(t, newGroups) })
	t.Run("Slow", func(t *testing.T) { testSlow(t, newGroups) })
	t.Run("Abort", func(t *testing.T) { testAbort(t, newGroups) })
	t.Run("Context", func(t *testing.T) { testContext(t, newGroups) })
	t.Run("Kill", func(t *testing.T) { testKill(t, newGroups) })
	t.Run("Close", func(t *testing.T) { testClose(t, newGroups) })
}

// patience is how long anything may take before the suite calls it a hang, and
// soon is how long an end may take to reach every rank; the race detector and busy
// machines are allowed for.
const (
	patience = 60 * time.Second
	soon     = 3 * time.Second
)

// each runs fn for every group at once and returns the errors by rank.
func each(t testing.TB, groups []comm.Group, fn func(g comm.Group) error) []error {
	t.Helper()
	errs := make([]error, len(groups))
	var wait sync.WaitGroup
	for i, g := range groups {
		wait.Add(1)
		go func() {
			defer wait.Done()
			errs[i] = fn(g)
		}()
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		panic(fmt.Sprintf("%s: ranks hang", t.Name()))
	}
	return errs
}

// all is each where no rank may fail.
func all(t testing.TB, groups []comm.Group, fn func(g comm.Group) error) {
	t.Helper()
	for rank, err := range each(t, groups, fn) {
		if err != nil {
			t.Errorf("rank %d of %d: %v", rank, len(groups), err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// closed closes the groups at the end of a test.
func closed(t testing.TB, groups []comm.Group) []comm.Group {
	t.Cleanup(func() {
		for rank, err := range each(t, groups, func(g comm.Group) error { return g.Close() }) {
			if err != nil {
				t.Errorf("close rank %d: %v", rank, err)
			}
		}
	})
	return groups
}

// bg is a context without a deadline.
var bg = context.Background()

// wantKinds checks that every rank failed, and of the kind given.
func wantKinds(t testing.TB, errs []error, kind error) {
	t.Helper()
	for rank, err := range errs {
		if !errors.Is(err, kind) || !errors.Is(err, comm.ErrAborted) {
			t.Errorf("rank %d: error %v, expected %v", rank, err, kind)
		}
	}
}

// wantText checks that every error has every one of the words.
func wantText(t testing.TB, errs []error, words ...string) {
	t.Helper()
	for rank, err := range errs {
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("rank %d: error %v, expected it to say %q", rank, err, w)
			}
		}
	}
}
