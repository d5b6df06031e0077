package jobs

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

var update = flag.Bool("update", false, "rewrite testdata")

// told is what happened at a moment, in ms after the launcher's start.
type told struct {
	at   int
	what any // group.Event, group.Action, step, node.Sample, node.Line or nil
	want string
}

type step struct {
	rank, attempt int
	progress      *wanrunv1.Progress
}

// story is a job of two nodes with a rank each, whose second rank is killed, and which
// then goes well.
func story() []told {
	table := []group.Place{{Rank: 0, Node: 0, Local: 0}, {Rank: 1, Node: 1, Local: 0}}
	rank := func(k group.EventKind, attempt, rank int) group.Event {
		return group.Event{Kind: k, Attempt: attempt, Rank: rank, Node: rank, Pid: 100 + 10*attempt + rank}
	}
	phase := func(attempt, rank int, name string, done, total int32) step {
		return step{rank, attempt, &wanrunv1.Progress{Phase: name, Done: done, Total: total, DeviceBytes: 5 << 30}}
	}
	killed := rank(group.Exited, 0, 1)
	killed.Signal, killed.Text = 9, "out of memory"
	second := rank(group.Exited, 0, 0)
	second.Signal, second.Asked = 9, true
	return []told{
		{0, nil, "gathering attempt 0 restarts 0 up 0/0 ready 0"},
		{10, group.Event{Kind: group.Join, Node: 0, Name: "gpu-01", Ranks: 1}, ""},
		{500, group.Event{Kind: group.Join, Node: 1, Name: "gpu-02", Ranks: 1}, "gathering attempt 0 restarts 0 up 0/0 ready 0"},
		{510, group.Action{Kind: group.Start, Node: group.AllNodes, Attempt: 0, Table: table}, "gathering attempt 0 restarts 0 up 0/2 ready 0"},
		{520, rank(group.Started, 0, 0), "gathering attempt 0 restarts 0 up 1/2 ready 0"},
		{530, rank(group.Started, 0, 1), "running attempt 0 restarts 0 up 2/2 ready 0 start 0.53"},
		{600, rank(group.Ready, 0, 0), ""},
		{610, rank(group.Ready, 0, 1), "running attempt 0 restarts 0 up 2/2 ready 0 start 0.53"},
		{700, phase(0, 0, "text_encode", 0, 1), ""},
		{710, phase(0, 1, "text_encode", 0, 1), "running attempt 0 restarts 0 up 2/2 ready 2 start 0.53"},
		{720, node.Sample{Rank: 0, RSS: 1 << 20, RSSPeak: -1, CPU: 3 * time.Second, State: "R"}, ""},
		{730, node.Line{Rank: 1, Stream: "stderr", Text: "hello", Dropped: 2}, ""},
		{800, phase(0, 0, "denoise", 1, 12), ""},
		{900, killed, "running attempt 0 restarts 0 up 1/2 ready 1 start 0.53"},
		{901, group.Action{Kind: group.Kill, Node: group.AllNodes}, "ending attempt 0 restarts 0 up 1/2 ready 1 start 0.53"},
		{950, second, "restarting attempt 0 restarts 0 up 0/2 ready 0 start 0.53 teardown 0.05"},
		{1950, group.Action{Kind: group.Start, Node: group.AllNodes, Attempt: 1, Table: table}, "gathering attempt 1 restarts 1 up 0/2 ready 0 teardown 0.05"},
		{1960, rank(group.Started, 1, 0), ""},
		{1970, rank(group.Exited, 0, 0), "gathering attempt 1 restarts 1 up 1/2 ready 0 teardown 0.05"}, // of the attempt before
		{1980, rank(group.Started, 1, 1), "running attempt 1 restarts 1 up 2/2 ready 0 start 1.03 teardown 0.05"},
		{2000, phase(0, 1, "late", 0, 1), "running attempt 1 restarts 1 up 2/2 ready 0 start 1.03 teardown 0.05"},
		{2100, phase(1, 0, "vae_decode", 0, 1), ""},
		{2200, phase(1, 1, "vae_decode", 0, 1), ""},
		{2300, rank(group.Finished, 1, 0), ""},
		{2310, rank(group.Finished, 1, 1), ""},
		{2400, rank(group.Exited, 1, 0), "running attempt 1 restarts 1 up 1/2 ready 1 start 1.03 teardown 0.05"},
		{2450, rank(group.Exited, 1, 1), "ending attempt 1 restarts 1 up 0/2 ready 0 start 1.03 teardown 0"},
		{2460, group.Action{Kind: group.End, Code: ends.Done, Text: "done"}, "ending attempt 1 restarts 1 up 0/2 ready 0 start 1.03 teardown 0 exit 0 done"},
	}
}

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func short(s Status) string {
	up, ready := s.Up()
	text := fmt.Sprintf("%s attempt %d restarts %d up %d/%d ready %d", s.State, s.Attempt, s.Restarts, up, s.World, ready)
	if s.StartSeconds != nil {
		text += fmt.Sprintf(" start %.4g", *s.StartSeconds)
	}
	if s.TeardownSeconds != nil {
		text += fmt.Sprintf(" teardown %.4g", *s.TeardownSeconds)
	}
	if s.Exit != nil {
		text += fmt.Sprintf(" exit %d %s", s.Exit.Code, s.Exit.Class)
	}
	return text
}

func TestBoard(t *testing.T) {
	now := began
	b := NewBoard(Info{ID: "j", Started: began, MaxRestarts: 3, Nodes: []string{"", "gpu-02"}, Command: []string{"wanrun"}, Ours: true, Now: func() time.Time { return now }})
	for _, e := range story() {
		now = began.Add(time.Duration(e.at) * time.Millisecond)
		switch what := e.what.(type) {
		case group.Event:
			what.At = now
			b.Event(what)
		case group.Action:
			b.Action(now, what)
		case step:
			b.Progress(now, what.attempt, what.rank, what.progress)
		case node.Sample:
			what.At = now
			b.Sample(what)
		case node.Line:
			b.Line(what)
		}
		s := b.Status()
		if got := short(s); e.want != "" && got != e.want {
			t.Errorf("%d ms: %s, want %s", e.at, got, e.want)
		}
		if e.at == 800 {
			r, q := s.Ranks[0], s.Ranks[1]
			if r.Where != "denoise (1 of 12)" || *r.Age != 0 || *r.RSS != 1<<20 || r.RSSPeak != nil || *r.CPU != 3 || *r.Arena != 5<<30 || r.GPU != nil || r.GPUTotal != nil || r.Proc != "R" || r.Host != "gpu-01" || r.Pid != 100 {
				t.Errorf("rank 0: %+v", r)
			}
			if *q.Age != 0.09 || q.LogBytes != 6 || q.LogDropped != 2 || q.RSS != nil || *s.Nodes[1].Age != 0.09 {
				t.Errorf("rank 1: %+v", q)
			}
		}
		if e.at == 950 && (s.Ranks[1].Signal == nil || *s.Ranks[1].Signal != 9 || s.Ranks[1].Code != nil || s.Ranks[1].Age != nil) {
			t.Errorf("rank 1 killed: %+v", s.Ranks[1])
		}
	}
}

// A node that is lost takes its ranks with it; numbers that cannot be are no panic.
func TestBoardNodeLost(t *testing.T) {
	b := NewBoard(Info{Started: began, Nodes: []string{"a", "b"}, Now: func() time.Time { return began.Add(time.Minute) }})
	b.Action(began, group.Action{Kind: group.Start, Table: []group.Place{{Rank: 0}, {Rank: 1, Node: 1}}})
	for rank := range 2 {
		b.Event(group.Event{Kind: group.Started, Rank: rank, Node: rank, At: began})
	}
	if s := b.Status(); !s.Ready() || *s.Ranks[0].Age != 60 {
		t.Errorf("two ranks of another program: %+v", s)
	}
	b.Event(group.Event{Kind: group.Lost, Node: 1, At: began})
	s := b.Status()
	if s.Ready() || s.Ranks[1].State != RankLost || s.Nodes[1].Joined || s.Ranks[0].State != RankUp {
		t.Errorf("after the loss: %+v", s)
	}
	for _, k := range []group.EventKind{group.Join, group.Lost, group.Started, group.Beat, group.Exited} {
		for _, n := range []int{-1, 2, 1 << 40} {
			b.Event(group.Event{Kind: k, Node: n, Rank: n})
			b.Event(group.Event{Kind: k, Node: n, Rank: 0})
			b.Heard(n, began)
		}
	}
	b.Sample(node.Sample{Rank: -1})
	b.Progress(began, 7, 0, nil)
}

func TestTrace(t *testing.T) {
	tr := NewTrace(began)
	for _, e := range story() {
		now := began.Add(time.Duration(e.at) * time.Millisecond)
		switch what := e.what.(type) {
		case group.Event:
			what.At = now
			tr.Event(what)
		case group.Action:
			tr.Action(now, what)
		case step:
			tr.Progress(now, what.attempt, what.rank, what.progress)
		}
		if e.at == 800 { // in the middle it can be written, and goes on
			if n := len(spans(t, tr)); n == 0 {
				t.Error("no spans in the middle")
			}
		}
	}
	got := strings.Join(spans(t, tr), "\n") + "\n"
	const golden = "testdata/trace.txt"
	if *update {
		must(os.MkdirAll("testdata", 0o755))
		must(os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("trace is\n%s\nwant\n%s", got, want)
	}
}

// spans writes the trace, reads it as a viewer does, and returns its events in words.
func spans(t *testing.T, tr *Trace) []string {
	t.Helper()
	var text strings.Builder
	if n, err := tr.WriteTo(&text); err != nil || n != int64(text.Len()) {
		t.Fatalf("WriteTo = %d, %v, wrote %d", n, err, text.Len())
	}
	var file struct {
		Unit   string `json:"displayTimeUnit"`
		Events []struct {
			Name     string
			Ph       string
			Ts, Dur  float64
			Pid, Tid int
			Args     map[string]any
		} `json:"traceEvents"`
	}
	if err := json.Unmarshal([]byte(text.String()), &file); err != nil || file.Unit != "ms" {
		t.Fatal(err)
	}
	names, end := map[string]string{}, map[string]float64{}
	var words []string
	for _, e := range file.Events {
		if e.Ph == "M" {
			names[fmt.Sprint(e.Name, e.Pid, ".", e.Tid)] = e.Args["name"].(string)
		}
	}
	for _, e := range file.Events {
		row := names[fmt.Sprint("process_name", e.Pid, ".", 0)] + " / " + names[fmt.Sprint("thread_name", e.Pid, ".", e.Tid)]
		switch e.Ph {
		case "X":
			if e.Ts < end[row] || e.Dur < 0 {
				t.Errorf("%s: %s begins at %v µs, before the end of the one before at %v", row, e.Name, e.Ts, end[row])
			}
			end[row] = e.Ts + e.Dur
			words = append(words, fmt.Sprintf("%6.0f ms for %5.0f ms  %s: %s", e.Ts/1e3, e.Dur/1e3, row, e.Name))
		case "i":
			words = append(words, fmt.Sprintf("%6.0f ms               %s: %s", e.Ts/1e3, row, e.Name))
		case "M":
		default:
			t.Errorf("event of type %q", e.Ph)
		}
		if strings.HasPrefix(row, " /") || strings.HasSuffix(row, "/ ") {
			t.Errorf("row %d.%d has no name", e.Pid, e.Tid)
		}
	}
	slices.Sort(words) // the rows come in any order
	return words
}

// A trace is bounded.
func TestTraceBound(t *testing.T) {
	tr := NewTrace(began)
	for range maxTraced + 100 {
		tr.Event(group.Event{Kind: group.Signaled, Signal: 10, At: began})
	}
	if len(tr.events) != maxTraced || tr.dropped != 100 {
		t.Errorf("%d events, %d dropped", len(tr.events), tr.dropped)
	}
}
