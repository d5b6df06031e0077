package agents

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Bounds of what waits on a node, and of one message of it.
const (
	lineBudget   = 8 << 20   // bytes of lines, of all ranks
	lineBatch    = 64 << 10  // so that an event that comes meanwhile waits for no more than this
	eventBatch   = 512 << 10 // bytes
	maxBeats     = 10_000    // beyond this many happenings that wait, beats are left out
	maxHappening = maxMessage / 2
)

// rankKey is a rank's life in one attempt.
type rankKey struct{ attempt, rank int }

// streamKey is one of its streams.
type streamKey struct {
	rankKey
	stderr bool
}

// waitingLine is a line with its place among all lines.
type waitingLine struct {
	node.Line
	turn int
}

// streamQueue is what waits of one stream.
type streamQueue struct {
	lines   []waitingLine
	bytes   int
	dropped int // lines lost before the first one that waits
}

// outbox is the sink that a node's agent tells; it holds things until they are sent. It
// never makes the agent wait.
type outbox struct {
	mu         sync.Mutex
	happenings []*wanrunv1.AgentHappening
	progress   map[rankKey]*wanrunv1.Progress // the newest alone
	samples    map[rankKey]node.Sample
	streams    map[streamKey]*streamQueue
	bytes      int // of lines
	turn       int
	budget     int
	credit     int // bytes of lines that node 0 has room for
	left       *wanrunv1.AgentHappening
	leftSent   bool
	wake       chan struct{}
	gone       chan struct{} // closed when the agent says that it has left
}

var _ node.Sink = (*outbox)(nil)

func newOutbox() *outbox {
	return &outbox{progress: map[rankKey]*wanrunv1.Progress{}, samples: map[rankKey]node.Sample{}, streams: map[streamKey]*streamQueue{},
		budget: lineBudget, credit: lineWindow, wake: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (o *outbox) poke() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Event holds an event until it is sent. Left goes last, after everything else.
func (o *outbox) Event(e group.Event) {
	h := &wanrunv1.AgentHappening{Kind: &wanrunv1.AgentHappening_Event{Event: wireEvent(e)}}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.left != nil:
		return // nothing comes after it
	case e.Kind == group.Left:
		o.left = h
		close(o.gone)
	case e.Kind == group.Beat && len(o.happenings) >= maxBeats:
		return
	default:
		o.happenings = append(o.happenings, h)
	}
	o.poke()
}

// Report holds a worker's report until it is sent, in its order among events.
func (o *outbox) Report(attempt, rank int, r *wanrunv1.Report) {
	if proto.Size(r) > maxHappening {
		r = proto.CloneOf(r)
		r.Phases, r.Notices, r.Error = nil, []string{"the report was too long to be sent: what it said of phases is lost"}, clean(r.GetError(), maxText)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left != nil {
		return
	}
	o.happenings = append(o.happenings, &wanrunv1.AgentHappening{Kind: &wanrunv1.AgentHappening_Report{
		Report: &wanrunv1.AgentReport{Attempt: int32(attempt), Rank: int32(rank), Report: r}}})
	o.poke()
}

// Progress replaces what waits of the rank's progress.
func (o *outbox) Progress(attempt, rank int, p *wanrunv1.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left == nil {
		o.progress[rankKey{attempt, rank}] = p
		o.poke()
	}
}

// Sample replaces what waits of the rank's samples.
func (o *outbox) Sample(s node.Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left == nil {
		o.samples[rankKey{s.Attempt, s.Rank}] = s
		o.poke()
	}
}

// Line holds a line until it is sent. Beyond the budget the oldest lines of the stream
// that has most go, so that neither a rank's last words nor a quiet rank are lost to
// a talkative one.
func (o *outbox) Line(l node.Line) {
	for len(l.Text) > maxLine {
		piece := l
		piece.Text, piece.Partial = l.Text[:maxLine], true
		o.Line(piece)
		l.Text, l.Dropped = l.Text[maxLine:], 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left != nil {
		return
	}
	key := streamKey{rankKey{l.Attempt, l.Rank}, l.Stream == stderr}
	q := o.streams[key]
	if q == nil {
		q = &streamQueue{}
		o.streams[key] = q
	}
	q.lines = append(q.lines, waitingLine{l, o.turn})
	o.turn++
	q.bytes += costOf(l)
	o.bytes += costOf(l)
	for o.bytes > o.budget {
		o.dropOldest()
	}
	o.poke()
}

func (o *outbox) dropOldest() {
	var most *streamQueue
	for _, q := range o.streams {
		if most == nil || q.bytes > most.bytes {
			most = q
		}
	}
	l := o.pop(most)
	most.dropped += l.Dropped + 1
}

// pop takes a queue's first line.
func (o *outbox) pop(q *streamQueue) node.Line {
	l := q.lines[0].Line
	q.lines[0] = waitingLine{}
	q.lines = q.lines[1:]
	q.bytes -= costOf(l)
	o.bytes -= costOf(l)
	return l
}

// allow adds to what node 0 has room for.
func (o *outbox) allow(bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.credit = min(o.credit+int(max(0, min(bytes, lineWindow))), lineWindow)
	o.poke()
}

// next returns what to send now, the most urgent first, or nil. It returns the event Left
// when nothing else is left or, with hurry, at once.
func (o *outbox) next(hurry bool) *wanrunv1.FromAgent {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leftSent {
		return nil
	}
	if m := o.nextHappenings(); m != nil {
		return m
	}
	if m := o.nextStates(); m != nil {
		return m
	}
	if m := o.nextLines(); m != nil {
		return m
	}
	if o.left != nil && (hurry || o.bytes == 0) {
		o.leftSent = true
		return &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Happenings{Happenings: &wanrunv1.AgentHappenings{List: []*wanrunv1.AgentHappening{o.left}}}}
	}
	return nil
}

func (o *outbox) nextHappenings() *wanrunv1.FromAgent {
	n, size := 0, 0
	for ; n < len(o.happenings); n++ {
		size += proto.Size(o.happenings[n]) + 8
		if n > 0 && size > eventBatch {
			break
		}
	}
	if n == 0 {
		return nil
	}
	batch := slices.Clone(o.happenings[:n])
	o.happenings = slices.Delete(o.happenings, 0, n)
	return &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Happenings{Happenings: &wanrunv1.AgentHappenings{List: batch}}}
}

func (o *outbox) nextStates() *wanrunv1.FromAgent {
	if len(o.progress)+len(o.samples) == 0 {
		return nil
	}
	const most = 1000 // in one message
	m := &wanrunv1.AgentStates{}
	for key, p := range o.progress {
		if len(m.Progress) == most {
			break
		}
		delete(o.progress, key)
		m.Progress = append(m.Progress, &wanrunv1.AgentProgress{Attempt: int32(key.attempt), Rank: int32(key.rank), Progress: p})
	}
	for key, s := range o.samples {
		if len(m.Samples) == most {
			break
		}
		delete(o.samples, key)
		m.Samples = append(m.Samples, wireSample(s))
	}
	return &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_States{States: m}}
}

// nextLines takes lines in the order in which they came, as far as node 0 has room.
func (o *outbox) nextLines() *wanrunv1.FromAgent {
	var list []*wanrunv1.AgentLine
	for size := 0; ; {
		key, q := o.first()
		if q == nil {
			break
		}
		cost := costOf(q.lines[0].Line)
		if cost > o.credit || size > 0 && size+cost > lineBatch {
			break
		}
		l := o.pop(q)
		l.Dropped += q.dropped
		q.dropped = 0
		if len(q.lines) == 0 {
			delete(o.streams, key)
		}
		size += cost
		o.credit -= cost
		list = append(list, wireLine(l))
	}
	if list == nil {
		return nil
	}
	return &wanrunv1.FromAgent{Kind: &wanrunv1.FromAgent_Lines{Lines: &wanrunv1.AgentLines{List: list}}}
}

// first returns the stream whose line came first.
func (o *outbox) first() (streamKey, *streamQueue) {
	var best streamKey
	var queue *streamQueue
	for key, q := range o.streams {
		if len(q.lines) > 0 && (queue == nil || q.lines[0].turn < queue.lines[0].turn) {
			best, queue = key, q
		}
	}
	return best, queue
}

// unsent returns how many lines wait and whether Left was sent.
func (o *outbox) unsent() (lines int, left bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, q := range o.streams {
		lines += len(q.lines)
	}
	return lines, o.leftSent
}

// hasLeft is true if the agent has said that it left.
func (o *outbox) hasLeft() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left != nil
}
