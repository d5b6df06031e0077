package guard

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestOrderOfEnds lets 16 ranks die in an order that is not that of their starts, while
// the guard cannot run: it tells of them in the order in which they died.
func TestOrderOfEnds(t *testing.T) {
	g := startGuard(t, Options{})
	var ps []*Process
	for range 16 {
		ps = append(ps, startShell(t, g, "exec sleep 100"))
	}
	order := []int{7, 3, 15, 0, 9, 1, 14, 2, 11, 4, 13, 5, 12, 6, 10, 8}
	sendSignal(t, g.Pid(), syscall.SIGSTOP)
	for _, i := range order {
		p, err := readProc(ps[i].Pid())
		if err != nil {
			t.Fatal(err)
		}
		sendSignal(t, p.pid, syscall.SIGKILL)
		gone(t, 5*time.Second, p)
	}
	sendSignal(t, g.Pid(), syscall.SIGCONT)
	ends := make([]time.Time, len(ps))
	for i, p := range ps {
		ends[i] = exitOfProcess(t, p).At
	}
	got := slices.Clone(order)
	slices.SortStableFunc(got, func(a, b int) int { return ends[a].Compare(ends[b]) })
	if !slices.Equal(got, order) {
		t.Errorf("ranks died in the order %v, told %v", order, got)
	}
	for i := 1; i < len(order); i++ {
		if ends[order[i]].Equal(ends[order[i-1]]) {
			t.Errorf("ranks %d and %d have the same time", order[i-1], order[i])
		}
	}
}
