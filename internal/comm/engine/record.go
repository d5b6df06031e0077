package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
)

type trafficKey struct {
	op             comm.Op
	phase, purpose string
}

// count adds a finished collective to the sums.
func (w *World) count(r comm.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := trafficKey{r.Op, r.Place.Phase, r.Place.Purpose}
	t := w.traffic[key]
	if t == nil {
		t = &comm.Traffic{Op: r.Op, Phase: r.Place.Phase, Purpose: r.Place.Purpose}
		w.traffic[key] = t
	}
	t.Calls++
	t.Sent += r.Sent
	t.Received += r.Received
}

// sums returns the traffic in a fixed order.
func (w *World) sums() []comm.Traffic {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]comm.Traffic, 0, len(w.traffic))
	for _, t := range w.traffic {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b comm.Traffic) int {
		return cmp.Or(cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Op, b.Op))
	})
	return all
}

// remember puts a record into the history and returns how to change it while it
// is still there.
func (g *Group) remember(r comm.Record) (update func(comm.Record)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	limit := g.w.opts.History
	at := g.next
	if len(g.history) < limit {
		at = len(g.history)
		g.history = append(g.history, r)
	} else {
		g.history[at] = r
		g.next = (at + 1) % limit
	}
	return func(r comm.Record) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if old := g.history[at]; old.Op == r.Op && old.Seq == r.Seq {
			g.history[at] = r
		}
	}
}

func (w *World) now() time.Time {
	if w.opts.Now == nil {
		return time.Time{}
	}
	return w.opts.Now()
}
