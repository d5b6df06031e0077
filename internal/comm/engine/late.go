package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/pkg/comm"
)

// expire ends the groups because a context of the collective is done: limited,
// which carries the collective's own deadline, or the caller's ctx above it.
func (r *running) expire(ctx, limited context.Context) {
	w := r.g.w
	w.mu.Lock()
	if r.over {
		w.mu.Unlock()
		return
	}
	text, late := r.waits()
	w.mu.Unlock()
	cause := context.Cause(limited)
	f := &comm.Failure{Kind: comm.ErrTimeout, Rank: late, Text: text}
	switch {
	case errors.Is(cause, errDeadline):
		f.Text += fmt.Sprintf("; given up after %v", w.opts.Timeout)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.Cause = errors.Join(context.DeadlineExceeded, cause)
		f.Text += "; the caller's deadline has passed"
	default:
		f.Kind, f.Cause = comm.ErrAborted, cause
		f.Text = fmt.Sprintf("rank %d left %s: %v", w.rank, r.name(), cause)
	}
	r.fail(f)
}

// slow reports a collective that waits, once.
func (r *running) slow() {
	w := r.g.w
	w.mu.Lock()
	if r.over || w.failure != nil {
		w.mu.Unlock()
		return
	}
	text, _ := r.waits()
	w.mu.Unlock()
	w.opts.Slow(text)
}

// waits says which ranks wait in the collective and which are late, as far as
// this rank knows, and returns the late one, -1 if there are several or none. The
// caller holds the world's mutex.
func (r *running) waits() (text string, late int) {
	w := r.g.w
	waiting, missing := []int{}, []int{}
	for i, heard := range r.heard {
		member := r.g.members[i]
		switch {
		case !heard:
			missing = append(missing, member)
		case i == r.g.rank || r.involves(i):
			waiting = append(waiting, member)
		}
	}
	verb := "waits"
	if len(waiting) > 1 {
		verb = "wait"
	}
	text = fmt.Sprintf("%s %s in %s", ranks(waiting), verb, r.name())
	if len(missing) > 0 {
		for _, m := range missing {
			text += "; " + w.lastSeen(m)
		}
	} else {
		// All came, and somebody stopped in the middle.
		text = fmt.Sprintf("rank %d waits in %s", w.rank, r.name())
		for i, n := range r.wanted {
			if n > 0 {
				missing = append(missing, r.g.members[i])
				text += fmt.Sprintf("; %d of %d bytes from rank %d have not come", n, r.plan.received[i], r.g.members[i])
			}
		}
		if len(missing) == 0 {
			text += fmt.Sprintf("; %d chunks sent are not taken", r.g.box.unacked)
		}
	}
	if len(missing) == 1 {
		return text, missing[0]
	}
	return text, -1
}

func (r *running) involves(member int) bool {
	for _, i := range r.plan.involved {
		if i == member {
			return true
		}
	}
	return false
}

func (w *World) lastSeen(rank int) string {
	if w.seen[rank] == "" {
		return fmt.Sprintf("rank %d not seen yet", rank)
	}
	return fmt.Sprintf("rank %d last seen in %s", rank, w.seen[rank])
}

// ranks names ranks: "rank 2", "ranks 0,1,3".
func ranks(list []int) string {
	word := "ranks "
	if len(list) == 1 {
		word = "rank "
	}
	return word + strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]")
}
