package jobs

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// maxTraced bounds a trace: 1,000 ranks with 50 phases in 4 attempts. What follows is
// counted.
const maxTraced = 200_000

// launcherPid is the row of the launcher in a trace; node n has the row n+1. A rank is a
// thread of its node, numbered from 1; 0 is the node itself.
const launcherPid = 0

// Trace collects when what happened to a job, as Chrome's trace events: open it in
// ui.perfetto.dev or chrome://tracing. Its methods may be called at the same time.
//
// Source: "Trace Event Format", the types X (complete), i (instant) and M (metadata).
type Trace struct {
	base time.Time

	mu      sync.Mutex
	events  []traceEvent
	dropped int
	nodes   map[int]string
	ranks   map[int]*tracedRank // of the latest attempt
	attempt int
	open    map[traceRow]span // of the launcher and of nodes
	last    time.Time
}

type tracedRank struct {
	node int
	span span
}

// span is something that has begun; name "" is none.
type span struct {
	name  string
	since time.Time
}

type traceRow struct{ pid, tid int }

type traceEvent struct {
	Name  string         `json:"name"`
	Phase string         `json:"ph"`
	At    float64        `json:"ts"` // µs
	Took  *float64       `json:"dur,omitempty"`
	Pid   int            `json:"pid"`
	Tid   int            `json:"tid"`
	Scope string         `json:"s,omitempty"` // of an instant: t is its thread's
	Args  map[string]any `json:"args,omitempty"`
}

// NewTrace begins a trace with the launcher's start.
func NewTrace(base time.Time) *Trace {
	t := &Trace{base: base, last: base, nodes: map[int]string{}, ranks: map[int]*tracedRank{}, open: map[traceRow]span{}, attempt: -1}
	t.open[traceRow{launcherPid, 0}] = span{"gather", base}
	return t
}

func (t *Trace) micros(at time.Time) float64 { return float64(at.Sub(t.base).Nanoseconds()) / 1e3 }

func (t *Trace) add(e traceEvent) {
	if len(t.events) >= maxTraced {
		t.dropped++
		return
	}
	t.events = append(t.events, e)
}

func (t *Trace) see(at time.Time) {
	if at.After(t.last) {
		t.last = at
	}
}

func (t *Trace) instant(row traceRow, name string, at time.Time, args map[string]any) {
	t.see(at)
	t.add(traceEvent{Name: name, Phase: "i", At: t.micros(at), Pid: row.pid, Tid: row.tid, Scope: "t", Args: args})
}

func (t *Trace) complete(row traceRow, s span, end time.Time, args map[string]any) {
	if s.name == "" {
		return
	}
	t.see(end)
	took := max(t.micros(end)-t.micros(s.since), 0) // clocks of nodes differ by a little
	t.add(traceEvent{Name: s.name, Phase: "X", At: t.micros(s.since), Took: &took, Pid: row.pid, Tid: row.tid, Args: args})
}

// turn ends what goes on in a row and begins something else; "" for nothing.
func (t *Trace) turn(row traceRow, name string, at time.Time, args map[string]any) {
	t.complete(row, t.open[row], at, args)
	t.open[row] = span{name, at}
}

// Action takes what the machine decided.
func (t *Trace) Action(at time.Time, a group.Action) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := traceRow{launcherPid, 0}
	switch a.Kind {
	case group.Start:
		t.turn(row, "attempt "+strconv.Itoa(a.Attempt), at, nil)
		for rank, r := range t.ranks { // of a node that was lost
			t.complete(traceRow{r.node + 1, rank + 1}, r.span, at, map[string]any{"attempt": t.attempt})
		}
		t.attempt = a.Attempt
		clear(t.ranks)
		for rank, p := range a.Table {
			t.ranks[rank] = &tracedRank{p.Node, span{"spawn", at}}
		}
	case group.End:
		t.turn(row, "", at, nil)
		t.instant(row, "end", at, map[string]any{"code": int(a.Code), "text": a.Text})
	case group.Ask, group.Pass, group.Kill, group.Dump:
		t.instant(row, string(a.Kind), at, map[string]any{"node": a.Node, "text": a.Text})
	}
}

// Event takes what happened.
func (t *Trace) Event(e group.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	onNode := traceRow{e.Node + 1, 0}
	switch e.Kind {
	case group.Join:
		t.nodes[e.Node] = e.Name
		if _, before := t.open[onNode]; !before {
			t.open[onNode] = span{"join", t.base}
		}
		t.turn(onNode, "joined", e.At, map[string]any{"ranks": e.Ranks})
	case group.Lost, group.Left:
		t.turn(onNode, "", e.At, nil)
		t.instant(onNode, string(e.Kind), e.At, textArgs(e.Text))
	case group.Signaled:
		t.instant(traceRow{launcherPid, 0}, "signal "+strconv.Itoa(e.Signal), e.At, nil)
	case group.Stop, group.Drain:
		t.instant(traceRow{launcherPid, 0}, string(e.Kind), e.At, textArgs(e.Text))
	case group.Tick:
	default:
		if r := t.ranks[e.Rank]; r != nil && e.Attempt == t.attempt {
			t.rankEvent(r, e)
		}
	}
}

func (t *Trace) rankEvent(r *tracedRank, e group.Event) {
	row := traceRow{r.node + 1, e.Rank + 1}
	turn := func(name string, args map[string]any) {
		if args == nil {
			args = map[string]any{}
		}
		args["attempt"] = t.attempt
		t.complete(row, r.span, e.At, args)
		r.span = span{name, e.At}
	}
	switch e.Kind {
	case group.Started:
		turn("start up", map[string]any{"pid": e.Pid})
	case group.Ready:
		t.instant(row, "first heartbeat", e.At, nil)
		turn("connected", nil)
	case group.NotStarted, group.Exited:
		turn("", nil)
		args := map[string]any{"code": e.Code, "attempt": t.attempt}
		if e.Signal != 0 {
			args = map[string]any{"signal": e.Signal, "attempt": t.attempt}
		}
		if e.Text != "" {
			args["text"] = e.Text
		}
		t.instant(row, string(e.Kind), e.At, args)
	case group.Failing, group.Silent, group.Detached:
		t.instant(row, string(e.Kind), e.At, textArgs(e.Text))
	case group.Finished:
		t.instant(row, string(e.Kind), e.At, nil)
		turn("leave", nil)
	}
}

func textArgs(text string) map[string]any {
	if text == "" {
		return nil
	}
	return map[string]any{"text": text}
}

// Progress takes how far a worker of ours is: each phase becomes a span.
func (t *Trace) Progress(at time.Time, attempt, rank int, p *wanrunv1.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.ranks[rank]
	if r == nil || attempt != t.attempt || p.GetPhase() == "" || r.span.name == p.GetPhase() {
		return
	}
	if r.span.name == "" {
		return // it has ended, and this comes late
	}
	row := traceRow{r.node + 1, rank + 1}
	t.complete(row, r.span, at, map[string]any{"attempt": attempt})
	r.span = span{p.GetPhase(), at}
}

// WriteTo writes the trace so far, as one JSON object. What goes on ends with what was seen
// last.
func (t *Trace) WriteTo(w io.Writer) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count := len(t.events)
	defer func() { t.events = t.events[:count] }() // what is added here goes on
	rows := map[traceRow]string{{launcherPid, 0}: "launcher"}
	for _, e := range t.events {
		rows[traceRow{e.Pid, e.Tid}] = ""
	}
	for row, s := range t.open {
		rows[row] = ""
		t.finish(row, s)
	}
	for rank, r := range t.ranks {
		row := traceRow{r.node + 1, rank + 1}
		rows[row], rows[traceRow{r.node + 1, 0}] = "", ""
		t.finish(row, r.span)
	}
	all := t.events
	for row := range rows {
		all = append(all, t.names(row)...)
	}
	var out bytes.Buffer
	err := json.NewEncoder(&out).Encode(map[string]any{
		"displayTimeUnit": "ms", "traceEvents": all,
		"otherData": map[string]any{"started": t.base.Format(time.RFC3339Nano), "dropped": t.dropped},
	})
	if err != nil {
		return 0, err
	}
	return out.WriteTo(w)
}

// finish adds a span that has not ended, beyond the bound, for there is one a row.
func (t *Trace) finish(row traceRow, s span) {
	if s.name == "" {
		return
	}
	took := max(t.micros(t.last)-t.micros(s.since), 0)
	t.events = append(t.events, traceEvent{Name: s.name, Phase: "X", At: t.micros(s.since), Took: &took, Pid: row.pid, Tid: row.tid,
		Args: map[string]any{"open": true}})
}

// names are a row's names: of the process, once, and of the thread.
func (t *Trace) names(row traceRow) []traceEvent {
	meta := func(kind, name string) traceEvent {
		return traceEvent{Name: kind, Phase: "M", Pid: row.pid, Tid: row.tid, Args: map[string]any{"name": name}}
	}
	switch {
	case row.tid > 0:
		return []traceEvent{meta("thread_name", "rank "+strconv.Itoa(row.tid-1))}
	case row.pid == launcherPid:
		return []traceEvent{meta("process_name", "launcher"), meta("thread_name", "launcher")}
	}
	name := "node " + strconv.Itoa(row.pid-1)
	if label := t.nodes[row.pid-1]; label != "" {
		name += " (" + label + ")"
	}
	return []traceEvent{meta("process_name", name), meta("thread_name", "node")}
}
