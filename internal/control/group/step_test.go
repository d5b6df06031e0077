package group

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// watch sees that what a machine does keeps the rules, whatever happens to it.
type watch struct {
	m        *Machine
	now      time.Time
	started  int // attempts
	world    int // ranks of the first table
	ended    bool
	deadline time.Time
}

// step hands an event over and returns the actions, or what rule they break.
func (w *watch) step(now time.Time, e Event) ([]Action, error) {
	if now.After(w.now) {
		w.now = now
	}
	actions := w.m.Step(now, e)
	for _, a := range actions {
		if err := w.rule(a); err != nil {
			return nil, err
		}
	}
	w.deadline = w.m.Deadline()
	if !w.deadline.IsZero() && !w.deadline.After(w.now) {
		return nil, fmt.Errorf("at %v the deadline is %v: it would never be over", w.now, w.deadline)
	}
	return actions, nil
}

func (w *watch) rule(a Action) error {
	if w.ended && a.Kind != Refuse {
		return fmt.Errorf("after the end: %+v", a)
	}
	switch a.Kind {
	case Start:
		if a.Attempt != w.started || a.Node != AllNodes {
			return fmt.Errorf("the start of attempt %d after %d starts: %+v", a.Attempt, w.started, a)
		}
		w.started++
		if w.world == 0 {
			w.world = len(a.Table)
		}
		if len(a.Table) != w.world {
			return fmt.Errorf("a table of %d ranks, the first had %d", len(a.Table), w.world)
		}
		for i, p := range a.Table {
			next := i > 0 && (p.Node == a.Table[i-1].Node && p.Local == a.Table[i-1].Local+1 || p.Node == a.Table[i-1].Node+1 && p.Local == 0)
			if p.Rank != i || (i == 0 && (p.Node != 0 || p.Local != 0)) || (i > 0 && !next) {
				return fmt.Errorf("rank %d of the table is %+v", i, p)
			}
		}
	case Ask, Pass, Kill, Dump:
		if a.Attempt != w.started-1 || a.Node != AllNodes {
			return fmt.Errorf("for attempt %d of %d: %+v", a.Attempt, w.started, a)
		}
	case End:
		w.ended = true
		return w.outcome(a)
	}
	return nil
}

// outcome checks how it ended: one cause, one exit code, nobody of whom nothing is known.
func (w *watch) outcome(end Action) error {
	o := w.m.Outcome()
	if len(o.Attempts) < w.started || len(o.Attempts) > w.started+1 {
		return fmt.Errorf("%d attempts, %d were started", len(o.Attempts), w.started)
	}
	for i, a := range o.Attempts {
		if a.Number != i || a.Ended.Before(a.Started) {
			return fmt.Errorf("attempt %d: %+v", i, a)
		}
		numCauses := 0
		for rank, r := range a.Ranks {
			switch {
			case r.Rank != rank || r.Role == "":
				return fmt.Errorf("attempt %d, rank %d: %+v", i, rank, r)
			case r.Role == TheCause:
				numCauses++
				if a.Cause == nil || a.Cause.Rank != rank {
					return fmt.Errorf("attempt %d: rank %d is called the cause, which is %+v", i, rank, a.Cause)
				}
			case r.Role == Remains && i < len(o.Attempts)-1:
				return fmt.Errorf("rank %d of attempt %d remained, and another attempt followed", rank, i)
			}
		}
		last := i == len(o.Attempts)-1
		switch {
		case numCauses > 1:
			return fmt.Errorf("attempt %d has %d causes", i, numCauses)
		case a.Cause == nil && !last:
			return fmt.Errorf("attempt %d went well, and another followed", i)
		case a.Cause != nil && (a.Cause.Kind == "" || a.Cause.Code == 0 || a.Cause.Code > 255 || a.Cause.Text == ""):
			return fmt.Errorf("attempt %d: cause %+v", i, a.Cause)
		case last && (o.Code != end.Code || (a.Cause == nil) != (o.Code == 0) || (a.Cause != nil && a.Cause.Code != o.Code)):
			return fmt.Errorf("exit code %d, end %+v, cause %+v", o.Code, end, a.Cause)
		}
	}
	return nil
}

// kinds are all events, and one that is none.
var kinds = []EventKind{Join, Lost, Left, Started, NotStarted, Ready, Beat, Failing, Finished, Detached, Exited, Silent, Dumped, Signaled, Stop, Drain, Tick, "?"}

// FuzzStep makes events of any bytes. Whatever comes, the rules hold, and three wishes
// for the end bring it.
func FuzzStep(f *testing.F) {
	join := []byte{0, 0, 0, 0, 2, 0, 0, 0}
	f.Add([]byte{})
	f.Add(slices.Concat([]byte{0, 0, 0}, join, []byte{10, 0, 0, 0, 3, 0, 1, 1}, []byte{10, 0, 1, 0, 0, 15, 1, 1}))
	f.Add(slices.Concat([]byte{0xff, 0xff, 0xff}, join, []byte{0, 1, 0, 0, 2, 0, 0, 1}, []byte{3, 0, 0, 0, 0, 0, 0, 1}, []byte{5, 0, 0, 0, 0, 0, 0, 1},
		[]byte{7, 0, 0, 0, 9, 0, 0, 1}, []byte{1, 1, 0, 0, 0, 0, 0, 9}, []byte{16, 0, 0, 0, 0, 0, 0, 200}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Defaults(Any)
		pick := func(i int) byte {
			if i < len(data) {
				return data[i]
			}
			return 0
		}
		flags := pick(0)
		if flags&1 != 0 {
			c = Defaults(Ours)
		}
		c.Nodes = 1 + int(flags>>1)%3
		c.AllowSkew = flags&8 != 0
		if flags&16 != 0 {
			c.Success = FirstRank
		}
		if flags&32 != 0 {
			c.OnUSR1 = Draining
		}
		c.MaxRestarts, c.World = int(pick(1))%4, int(pick(1)>>2)%5
		if pick(1)&64 != 0 {
			c.RetryOn = []Reason{{Kind: ReasonAny}}
		}
		for i, d := range []*time.Duration{&c.JoinTimeout, &c.StartTimeout, &c.HangTimeout, &c.Timeout, &c.StragglerAfter, &c.Grace, &c.FailGrace, &c.DrainGrace} {
			if pick(2)>>i&1 != 0 {
				*d = time.Duration(i*i) * time.Second
			}
		}
		w := &watch{m: New(c)}
		now := epoch
		for data = data[min(3, len(data)):]; len(data) >= 8; data = data[8:] {
			b := data[:8]
			now = now.Add(time.Duration(int8(b[7])) * 300 * time.Millisecond) // also back
			e := Event{Kind: kinds[int(b[0])%len(kinds)], At: now.Add(time.Duration(int8(b[6])>>2) * 100 * time.Millisecond),
				Node: int(b[1]%5) - 1, Rank: int(b[2]%8) - 1, Attempt: int(b[3] % 4), Session: string(rune('a' + b[3]>>4)), Ranks: int(b[4]%6) - 1,
				Code: int(int8(b[4])), Signal: int(b[5]&127) - 1, Asked: b[5]&128 != 0, Stuck: b[6]&1 != 0, Pid: int(b[6])}
			if b[6]&2 != 0 {
				e.Text, e.Where, e.Name, e.Skew = string(b), string(b[4:6]), string(b[:2]), string(b[3:4])
			}
			if b[7] == 255 {
				e.At, e.Memory = time.Time{}, OutOfMemory
			}
			if _, err := w.step(now, e); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
		for range 3 {
			now = now.Add(time.Millisecond)
			if _, err := w.step(now, Event{Kind: Signaled, Signal: 15, At: now}); err != nil {
				t.Fatal(err)
			}
		}
		if !w.ended {
			// Nothing runs, but words of workers that ended are waited for.
			if _, err := w.step(w.now.Add(drainPatience), Event{Kind: Tick}); err != nil || !w.ended {
				t.Fatalf("three wishes and a second later it goes on: %v", err)
			}
		}
	})
}
