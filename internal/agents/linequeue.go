package agents

import (
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/node"
)

// lineQueue holds the lines of one peer until the handler takes them, so that a handler
// that is slow with lines is not slow with events. The peer's window bounds it.
type lineQueue struct {
	mu     sync.Mutex
	lines  []node.Line
	bytes  int
	closed bool
	wake   chan struct{}
}

func newLineQueue() *lineQueue { return &lineQueue{wake: make(chan struct{}, 1)} }

func costOf(l node.Line) int { return len(l.Text) + lineCost }

// put takes a line in, or reports that the peer has exceeded its window.
func (q *lineQueue) put(l node.Line) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes += costOf(l)
	if q.bytes > lineWindow {
		return false
	}
	q.lines = append(q.lines, l)
	q.poke()
	return true
}

func (q *lineQueue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close lets run return once it has handed over all lines.
func (q *lineQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.poke()
}

func (q *lineQueue) take() (lines []node.Line, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, q.lines = q.lines, nil
	return lines, q.closed
}

// run hands lines to the handler and gives their bytes back to the peer.
func (q *lineQueue) run(to node.Sink, p *Peer, closing <-chan struct{}) {
	for {
		lines, closed := q.take()
		for _, l := range lines {
			select {
			case <-closing:
				return
			default:
			}
			to.Line(l)
			q.mu.Lock()
			q.bytes -= costOf(l)
			q.mu.Unlock()
			p.giveBack(int64(costOf(l)))
		}
		if len(lines) > 0 {
			continue
		}
		if closed {
			return
		}
		<-q.wake
	}
}

// pace slows down a peer that sends more messages than any good one does: what it sends
// then waits on its side.
type pace struct {
	began time.Time
	taken int
}

// Messages a second, and how many may come at once. A good node sends a pulse a second,
// and what else there is in large batches.
const (
	messageRate  = 2000
	messageBurst = 4000
)

func newPace() *pace { return &pace{began: time.Now()} }

// take waits until one more message is within the rate.
func (p *pace) take(stop <-chan struct{}) {
	now := time.Now()
	p.taken++
	// A quiet time is not saved up beyond the burst.
	if allowed := int(now.Sub(p.began).Seconds() * messageRate); p.taken < allowed {
		p.began, p.taken = now, 0
	}
	over := p.taken - messageBurst - int(now.Sub(p.began).Seconds()*messageRate)
	if over <= 0 {
		return
	}
	select {
	case <-stop:
	case <-time.After(time.Duration(over) * time.Second / messageRate):
	}
}
