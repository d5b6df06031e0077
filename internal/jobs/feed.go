package jobs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/wanrun/wanrun/internal/node"
)

const (
	keptLines = 200 // of each rank
	// keptBytes is the most that is kept of all ranks together, which share it evenly, and
	// of one.
	keptBytes     = 4 << 20
	keptRankBytes = 256 << 10
	// followBytes is how far a follower may be behind.
	followBytes = 1 << 20
	lineBytes   = 112 // of a node.Line without its text
)

// feed keeps the last lines of each rank and hands on new ones.
type feed struct {
	mu        sync.Mutex
	seq       uint64
	kept      map[int]*tail // by rank
	followers map[*follower]bool
	closed    bool
}

// tail is the last lines of a rank.
type tail struct {
	lines []numbered
	bytes int
}

type numbered struct {
	seq uint64
	node.Line
}

// follower is one who reads. Its lines wait here, and those that find no room are
// counted.
type follower struct {
	feed    *feed
	wake    chan struct{}
	lines   []node.Line // of feed.mu, as all below
	bytes   int
	dropped int // since the last line that found room
	over    bool
}

func newFeed() *feed {
	return &feed{kept: map[int]*tail{}, followers: map[*follower]bool{}}
}

func sizeOf(l node.Line) int { return lineBytes + len(l.Text) }

func (f *feed) add(l node.Line) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.seq++
	t := f.kept[l.Rank]
	if t == nil {
		t = &tail{}
		f.kept[l.Rank] = t
		for _, other := range f.kept { // each has less room now
			other.trim(f.share())
		}
	}
	t.push(numbered{f.seq, l}, f.share())
	for w := range f.followers {
		w.push(l)
	}
}

// share is the bytes that are kept of each rank.
func (f *feed) share() int { return min(keptRankBytes, keptBytes/max(len(f.kept), 1)) }

func (t *tail) push(l numbered, most int) {
	if len(t.lines) == keptLines {
		t.drop()
	}
	t.lines = append(t.lines, l)
	t.bytes += sizeOf(l.Line)
	t.trim(most)
}

func (t *tail) trim(most int) {
	for t.bytes > most {
		t.drop()
	}
}

// drop removes the oldest line.
func (t *tail) drop() {
	t.bytes -= sizeOf(t.lines[0].Line)
	t.lines[0] = numbered{} // its text is not to stay
	t.lines = t.lines[1:]
}

func (w *follower) push(l node.Line) {
	if size := sizeOf(l); w.bytes+size <= followBytes {
		l.Dropped += w.dropped
		w.dropped = 0
		w.lines = append(w.lines, l)
		w.bytes += size
	} else {
		w.dropped += 1 + l.Dropped
	}
	w.signal()
}

func (w *follower) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// subscribe returns a reader of what is kept, in the order in which it came, and with
// follow of what comes. No line is lost or twice between the two.
func (f *feed) subscribe(follow bool) (*follower, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.followers) >= maxFollowers {
		return nil, errors.New("too many read this job's log; end one of them")
	}
	var kept []numbered
	for _, t := range f.kept {
		kept = append(kept, t.lines...)
	}
	slices.SortFunc(kept, func(a, b numbered) int { return cmp.Compare(a.seq, b.seq) })
	w := &follower{feed: f, wake: make(chan struct{}, 1), over: !follow || f.closed}
	for _, l := range kept { // not of the follower's own room, for it is bounded already
		w.lines = append(w.lines, l.Line)
	}
	f.followers[w] = true
	w.signal()
	return w, nil
}

func (f *feed) leave(w *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, w)
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for w := range f.followers {
		w.over = true
		w.signal()
	}
}

// next waits for lines. over is that none will follow.
func (w *follower) next(ctx context.Context) (lines []node.Line, over bool, err error) {
	for {
		w.feed.mu.Lock()
		lines, over = w.lines, w.over
		w.lines, w.bytes = nil, 0
		w.feed.mu.Unlock()
		if len(lines) > 0 || over {
			return lines, over, nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// lost is how many lines found no room at the end.
func (w *follower) lost() int {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.dropped
}
