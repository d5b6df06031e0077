package jobs

import (
	"slices"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Info is what is known of a job from the start.
type Info struct {
	ID, Name    string
	Pid         int
	Started     time.Time
	MaxRestarts int
	Nodes       []string // names by number; "" for one that is not known yet
	Command     []string // without secrets
	LogDir      string
	Ours        bool // the ranks are workers of ours, which say how far they are
	Now         func() time.Time
}

// Board keeps a job's Status from what the launcher sees: each event before the machine
// takes it, and each action that it gives. Its methods may be called at the same time.
type Board struct {
	info Info

	mu      sync.Mutex
	s       Status
	heard   []time.Time // by node
	beats   []time.Time // by rank, of the latest attempt
	paces   []pace      // by rank, of the latest attempt
	bytes   map[int]int64
	dropped map[int]int64
	begun   time.Time // what the latest attempt's start is counted from
	failed  time.Time // when the latest attempt's end began
	ending  bool      // that end was asked for by the machine
	over    bool      // the machine has ended
}

// NewBoard returns the board of a job whose nodes are still to come.
func NewBoard(info Info) *Board {
	b := &Board{info: info, begun: info.Started, bytes: map[int]int64{}, dropped: map[int]int64{}, heard: make([]time.Time, len(info.Nodes))}
	b.s = Status{Schema: Schema, ID: info.ID, Name: info.Name, Pid: info.Pid, State: Gathering, MaxRestarts: info.MaxRestarts,
		Started: info.Started, Nodes: []Node{}, Ranks: []Rank{}, Command: append([]string{}, info.Command...), LogDir: info.LogDir}
	for i, name := range info.Nodes {
		b.s.Nodes = append(b.s.Nodes, Node{Node: i, Name: name})
	}
	return b
}

// Status returns what is known now. It shares nothing with the board.
func (b *Board) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.s
	s.Now = b.info.Now()
	s.Nodes, s.Ranks, s.Command = slices.Clone(s.Nodes), slices.Clone(s.Ranks), slices.Clone(s.Command)
	for i := range s.Nodes {
		s.Nodes[i].Age = age(s.Now, b.heard[i])
	}
	for i := range s.Ranks {
		r := &s.Ranks[i]
		r.LogBytes, r.LogDropped = b.bytes[r.Rank], b.dropped[r.Rank]
		if r.State == RankUp || r.State == RankFailing {
			r.Age = age(s.Now, b.beats[i])
			r.ETA = b.paces[i].eta(s.Now)
		}
	}
	return s
}

func age(now, then time.Time) *float64 {
	if then.IsZero() {
		return nil
	}
	return seconds(now.Sub(then))
}

func seconds(d time.Duration) *float64 {
	v := max(d, 0).Seconds()
	return &v
}

// Heard says that a node lives. Events and samples of the node say so, too.
func (b *Board) Heard(node int, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hear(node, at)
}

func (b *Board) hear(node int, at time.Time) {
	if node >= 0 && node < len(b.heard) && at.After(b.heard[node]) {
		b.heard[node] = at
	}
}

// Event takes what happened.
func (b *Board) Event(e group.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Kind {
	case group.Join, group.Lost, group.Left:
		b.nodeEvent(e)
	case group.Signaled, group.Stop, group.Drain, group.Tick:
	default:
		b.hear(e.Node, e.At)
		if r := b.rank(e.Attempt, e.Rank); r != nil {
			b.rankEvent(r, e)
		}
	}
}

func (b *Board) nodeEvent(e group.Event) {
	if e.Node < 0 || e.Node >= len(b.s.Nodes) {
		return
	}
	n := &b.s.Nodes[e.Node]
	n.Joined = e.Kind == group.Join
	if e.Kind == group.Join {
		if e.Name != "" {
			n.Name = e.Name
		}
		b.hear(e.Node, e.At)
		return
	}
	for i := range b.s.Ranks {
		if r := &b.s.Ranks[i]; e.Kind == group.Lost && r.Node == e.Node && r.State != RankEnded {
			r.State, r.Ready = RankLost, false
			b.goneAt(e.At)
		}
	}
}

// rank is a rank of the latest attempt, nil for another.
func (b *Board) rank(attempt, rank int) *Rank {
	if attempt != b.s.Attempt || rank < 0 || rank >= len(b.s.Ranks) {
		return nil
	}
	return &b.s.Ranks[rank]
}

func (b *Board) rankEvent(r *Rank, e group.Event) {
	switch e.Kind {
	case group.Started:
		r.State, r.Pid, r.Ready = RankUp, e.Pid, !b.info.Ours
		b.beat(r, e.At)
		b.allStarted(e.At)
	case group.Ready:
		b.beat(r, e.At)
	case group.Beat:
		b.beat(r, e.At)
		r.Ready = r.Ready || r.State == RankUp
		if e.Where != "" {
			r.Where = e.Where
		}
	case group.Silent:
		r.Where = e.Where
	case group.Failing:
		r.State, r.Ready = RankFailing, false
		b.failing(e.At)
	case group.NotStarted:
		r.State, r.Ready = RankEnded, false
		b.failing(e.At)
		b.goneAt(e.At)
	case group.Exited:
		r.State, r.Ready, r.Proc = RankEnded, false, ""
		if e.Signal != 0 {
			r.Signal = &e.Signal
		} else {
			r.Code = &e.Code
		}
		if e.Signal != 0 || e.Code != 0 {
			b.failing(e.At)
		}
		b.goneAt(e.At)
	}
}

func (b *Board) beat(r *Rank, at time.Time) {
	if at.After(b.beats[r.Rank]) {
		b.beats[r.Rank] = at
	}
}

// allStarted notes when the last rank of an attempt runs.
func (b *Board) allStarted(at time.Time) {
	if b.s.State == Ending || b.s.StartSeconds != nil {
		return
	}
	for _, r := range b.s.Ranks {
		if r.State == RankStarting {
			return
		}
	}
	b.s.State, b.s.StartSeconds = Running, seconds(at.Sub(b.begun))
}

// failing notes when the end of the attempt began.
func (b *Board) failing(at time.Time) {
	if b.failed.IsZero() || at.Before(b.failed) {
		b.failed = at
	}
}

// goneAt notes when the last rank of an attempt ended.
func (b *Board) goneAt(at time.Time) {
	for _, r := range b.s.Ranks {
		if r.State != RankEnded && r.State != RankLost {
			return
		}
	}
	b.failing(at)
	b.s.TeardownSeconds = seconds(at.Sub(b.failed))
	b.begun = at
	switch {
	case b.ending && !b.over:
		b.s.State = Restarting // or the machine ends now
	default:
		b.s.State = Ending
	}
}

// Action takes what the machine decided.
func (b *Board) Action(at time.Time, a group.Action) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch a.Kind {
	case group.Start:
		b.startAttempt(a)
	case group.Ask, group.Kill:
		b.ending = true
		if b.s.State == Running || b.s.State == Gathering {
			b.s.State = Ending
		}
		b.failing(at)
	case group.End:
		b.over, b.s.State = true, Ending
		b.s.Exit = &Exit{Code: int(a.Code), Class: a.Code.String(), Text: a.Text}
	}
}

func (b *Board) startAttempt(a group.Action) {
	if b.s.World > 0 {
		b.s.Restarts++
	}
	b.s.Attempt, b.s.World, b.s.State = a.Attempt, len(a.Table), Gathering
	b.s.StartSeconds, b.failed, b.ending = nil, time.Time{}, false
	b.s.Ranks, b.beats, b.paces = make([]Rank, len(a.Table)), make([]time.Time, len(a.Table)), make([]pace, len(a.Table))
	for i, p := range a.Table {
		host := ""
		if p.Node >= 0 && p.Node < len(b.s.Nodes) {
			host = b.s.Nodes[p.Node].Name
		}
		b.s.Ranks[i] = Rank{Rank: i, Node: p.Node, Local: p.Local, Host: host, State: RankStarting}
	}
}

// Progress takes how far a worker of ours is.
func (b *Board) Progress(at time.Time, attempt, rank int, p *wanrunv1.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rank(attempt, rank)
	if r == nil {
		return
	}
	b.hear(r.Node, at)
	b.beat(r, at)
	r.Where = node.Where(p)
	r.Ready = r.Ready || r.State == RankUp
	r.Phase, r.Done, r.Total = p.GetPhase(), p.GetDone(), p.GetTotal()
	b.paces[rank].update(at, p)
	m := p.GetMemory()
	if n := p.GetDeviceBytes(); n > 0 || m.GetHeld() > 0 {
		r.Arena = &n
	}
	if m == nil {
		return
	}
	r.Reserved, r.Anonymous, r.GPUUnknown = m.Held, m.RssAnonymous, m.GetGpuUnknown()
	r.GPU, r.GPUUsed, r.GPUTotal, r.GPUName = nil, nil, nil, m.GetGpu().GetName()
	if g := m.GetGpu(); g != nil {
		r.GPU, r.GPUUsed, r.GPUTotal = g.Own, g.Used, g.Total
	}
}

// Sample takes what was seen of a rank's process.
func (b *Board) Sample(s node.Sample) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rank(s.Attempt, s.Rank)
	if r == nil {
		return
	}
	b.hear(r.Node, s.At)
	if r.State == RankEnded || r.State == RankLost {
		return // it was seen before its end
	}
	if s.RSS >= 0 {
		r.RSS = &s.RSS
	}
	if s.RSSPeak >= 0 {
		r.RSSPeak = &s.RSSPeak
	}
	if r.CPU == nil || *r.CPU < s.CPU.Seconds() {
		r.CPU = seconds(s.CPU)
	}
	r.Proc = s.State
	if !b.info.Ours {
		// It says nothing by itself; that it was seen is its sign of life.
		r.Where = s.Wchan
		b.beat(r, s.At)
	}
}

// Line counts a line that a rank printed.
func (b *Board) Line(l node.Line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes[l.Rank] += int64(len(l.Text))
	if !l.Partial {
		b.bytes[l.Rank]++ // its end
	}
	b.dropped[l.Rank] += int64(l.Dropped)
}
