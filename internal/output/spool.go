package output

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// maxWaiting bounds what waits of one rank for a reader that is slow.
	maxWaiting = 8 << 20
	// maxWaitingAll bounds what waits of all: many ranks share it evenly.
	maxWaitingAll = 256 << 20
	// batch is what is written at once, when as much waits.
	batch = 64 << 10
	// chunkCost is what a piece that waits costs beside its bytes.
	chunkCost = 64
)

// ours is the spool's rank of the launcher's own lines.
const ours = -1

// clearLine takes away the line that the terminal's cursor is in.
const clearLine = "\r\x1b[K"

// spool writes what it is given from a goroutine of its own, so that a stopped terminal or
// a full pipe holds up nobody. Each rank has a bound of what may wait; beyond it its
// lines are dropped, which is said as soon as its next one can be taken.
type spool struct {
	to    []io.Writer // the console's stdout and stderr; a piece says which
	limit int         // bytes of one rank that may wait
	lost  func(rank, lines int) []byte

	mu      sync.Mutex
	wake    *sync.Cond
	waiting []piece
	bytes   map[int]int // that wait, by rank
	dropped map[int]int // lines, by rank
	status  string      // the line below all others, "" for none
	drawn   string      // the one that is on the screen
	closed  bool
	broken  []bool // the writer fails; nothing more is written to it
	done    chan struct{}
}

// piece is one or several lines of a rank that wait.
type piece struct {
	rank, to int
	text     []byte
}

// newSpool starts a spool for size ranks. The last of to is where the status is drawn.
// lost makes the line that says how many of a rank's lines were dropped.
func newSpool(size int, lost func(rank, lines int) []byte, to ...io.Writer) *spool {
	s := &spool{to: to, lost: lost, limit: min(maxWaiting, maxWaitingAll/max(size, 1)),
		bytes: map[int]int{}, dropped: map[int]int{}, broken: make([]bool, len(to)), done: make(chan struct{})}
	s.wake = sync.NewCond(&s.mu)
	go s.run()
	return s
}

// put takes lines of a rank for s.to[to], and never waits. lines says how many text is.
func (s *spool) put(rank, to int, text []byte, lines int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken[to] || s.closed {
		return
	}
	if s.bytes[rank]+len(text)+chunkCost > s.limit {
		s.dropped[rank] += lines
		return
	}
	if n := s.dropped[rank]; n > 0 {
		delete(s.dropped, rank)
		s.add(rank, to, s.lost(rank, n))
	}
	s.add(rank, to, text)
	s.wake.Signal()
}

func (s *spool) add(rank, to int, text []byte) {
	if last := len(s.waiting) - 1; last >= 0 && s.waiting[last].rank == rank && s.waiting[last].to == to &&
		len(s.waiting[last].text) < batch/2 {
		s.waiting[last].text = append(s.waiting[last].text, text...)
		s.bytes[rank] += len(text)
		return
	}
	// The text is copied: the piece grows.
	s.waiting = append(s.waiting, piece{rank, to, append([]byte(nil), text...)})
	s.bytes[rank] += len(text) + chunkCost
}

// setStatus draws a line that stays below all others. Only the newest counts.
func (s *spool) setStatus(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.status = line
		s.wake.Signal()
	}
}

func (s *spool) run() {
	defer close(s.done)
	for s.turn() {
	}
}

// turn writes what waits, at most a batch of it. It says whether there may be more.
func (s *spool) turn() bool {
	s.mu.Lock()
	for len(s.waiting) == 0 && s.status == s.drawn && !s.closed {
		s.wake.Wait()
	}
	if s.closed && len(s.waiting) == 0 && !s.sayDropped() && s.status == s.drawn {
		s.mu.Unlock()
		return false
	}
	var text []byte
	var taken []piece
	to := len(s.to) - 1
	if len(s.waiting) > 0 {
		to = s.waiting[0].to
	}
	for len(s.waiting) > 0 && s.waiting[0].to == to && len(text) < batch {
		text = append(text, s.waiting[0].text...)
		taken = append(taken, piece{rank: s.waiting[0].rank, text: s.waiting[0].text})
		s.waiting[0] = piece{}
		s.waiting = s.waiting[1:]
	}
	status, drawn := s.status, s.drawn
	s.mu.Unlock()

	s.write(to, text, status, drawn)

	s.mu.Lock()
	s.drawn = status
	for _, p := range taken {
		s.bytes[p.rank] -= len(p.text) + chunkCost
	}
	if len(s.waiting) == 0 {
		s.sayDropped()
	}
	s.mu.Unlock()
	return true
}

// sayDropped puts in what was dropped of ranks that were not heard of again. It says
// whether there was any.
func (s *spool) sayDropped() bool {
	any := false
	for rank, n := range s.dropped {
		delete(s.dropped, rank)
		s.add(rank, len(s.to)-1, s.lost(rank, n))
		any = true
	}
	return any
}

// write writes text with the status below it. A reader that is gone is no reason to stop
// the job; it gets nothing more.
func (s *spool) write(to int, text []byte, status, drawn string) {
	last := len(s.to) - 1
	send := func(to int, b []byte) {
		if len(b) == 0 || s.isBroken(to) {
			return
		}
		if _, err := s.to[to].Write(b); err != nil {
			s.mu.Lock()
			s.broken[to] = true
			s.mu.Unlock()
		}
	}
	if drawn == "" && status == "" {
		send(to, text)
		return
	}
	if to != last { // the same screen by another way
		send(last, []byte(clearLine))
		send(to, text)
		send(last, []byte(status))
		return
	}
	all := append([]byte(clearLine), text...)
	send(last, append(all, status...))
}

func (s *spool) isBroken(to int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken[to]
}

// close writes what waits, but waits no longer than timeout for that. It says whether
// all was written.
func (s *spool) close(timeout time.Duration) bool {
	s.mu.Lock()
	s.closed, s.status = true, ""
	s.wake.Signal()
	s.mu.Unlock()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-s.done:
		return true
	case <-t.C:
		return false
	}
}

// lostLine says that lines were dropped.
func lostLine(prefix string, lines int) []byte {
	return fmt.Appendf(nil, "%s[%d lines were not shown: nothing read them]\n", prefix, lines)
}
