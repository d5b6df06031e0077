package engine

import (
	"errors"
	"fmt"
	"sync"

	"github.com/wanrun/wanrun/pkg/comm"
)

// World is one rank's end of a job: what has arrived from its peers, and why the
// job's groups ended. Carriers call its exported methods.
type World struct {
	rank, size int
	opts       comm.Options
	carrier    Carrier
	countOnly  bool
	done       chan struct{} // closed by the first failure
	calls      sync.WaitGroup

	mu      sync.Mutex
	closing bool
	closed  bool
	active  int // calls begun and not ended
	failure *comm.Failure
	inboxes map[uint64]*inbox
	seen    []string // where each rank was last, "" if not yet heard of
	left    []bool   // ranks that said goodbye
	traffic map[trafficKey]*comm.Traffic
}

// maxGroups and maxAhead bound what a peer can make this rank keep: groups that
// this rank does not know yet, and calls and chunks that it has not come to.
const (
	maxGroups = 1 << 12
	maxCalls  = 4
	maxChunks = 1 << 12
)

// inbox is what has arrived for one group, by the sender's rank in the world.
type inbox struct {
	calls   [][]Announcement
	chunks  [][]Chunk
	unacked int           // chunks on the way
	wake    chan struct{} // holds a token after each change
}

// NewWorld returns the end of rank in a job of size. SetCarrier completes it.
func NewWorld(rank, size int, opts comm.Options) *World {
	if opts.Timeout <= 0 {
		opts.Timeout = comm.DefaultTimeout
	}
	if opts.History <= 0 {
		opts.History = comm.DefaultHistory
	}
	return &World{
		rank: rank, size: size, opts: opts, done: make(chan struct{}), inboxes: map[uint64]*inbox{},
		seen: make([]string, size), left: make([]bool, size), traffic: map[trafficKey]*comm.Traffic{},
	}
}

// SetCarrier sets the transport, before its first use.
func (w *World) SetCarrier(c Carrier) { w.carrier = c }

// CountOnly makes collectives compare and count, and move nothing.
func (w *World) CountOnly() { w.countOnly = true }

// Options returns the settings, with defaults filled in.
func (w *World) Options() comm.Options { return w.opts }

// Done is closed by the first failure.
func (w *World) Done() <-chan struct{} { return w.done }

// Failure returns the first failure, nil if none.
func (w *World) Failure() *comm.Failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure
}

// Failpoint calls the hook of tests.
func (w *World) Failpoint(name string) {
	if w.opts.Failpoint != nil {
		w.opts.Failpoint(name)
	}
}

// inbox returns the group's, made if it is new. The caller holds mu.
func (w *World) inbox(group uint64) *inbox {
	b := w.inboxes[group]
	if b == nil {
		b = &inbox{calls: make([][]Announcement, w.size), chunks: make([][]Chunk, w.size), wake: make(chan struct{}, 1)}
		w.inboxes[group] = b
	}
	return b
}

func (b *inbox) changed() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Handle takes a message from a peer. It never waits.
func (w *World) Handle(from int, m Message) {
	switch m.Kind {
	case KindAbort:
		w.Fail(m.Failure)
	case KindAnnounce:
		if err := w.announced(from, m); err != nil {
			w.protocol(from, err)
		}
	case KindEnter:
		w.mu.Lock()
		w.seen[from] = m.Where.String()
		w.mu.Unlock()
	case KindBye:
		w.mu.Lock()
		w.left[from] = true
		w.wakeAll()
		w.mu.Unlock()
	default:
		w.protocol(from, fmt.Errorf("message of kind %d", m.Kind))
	}
}

func (w *World) announced(from int, m Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inboxes[m.Group] == nil && len(w.inboxes) >= maxGroups {
		return fmt.Errorf("more than %d groups", maxGroups)
	}
	b := w.inbox(m.Group)
	if len(b.calls[from]) >= maxCalls {
		return fmt.Errorf("more than %d collectives ahead", maxCalls)
	}
	b.calls[from] = append(b.calls[from], m.Announce)
	w.seen[from] = m.Announce.record().String()
	b.changed()
	return nil
}

// Deliver takes a chunk from a peer. It never waits.
func (w *World) Deliver(from int, group uint64, c Chunk) {
	w.mu.Lock()
	b := w.inboxes[group]
	ok := b != nil && len(b.chunks[from]) < maxChunks
	if ok {
		b.chunks[from] = append(b.chunks[from], c)
		b.changed()
	}
	w.mu.Unlock()
	if !ok {
		w.protocol(from, errors.New("bulk data that nobody waits for"))
	}
}

// Acked takes a peer's acknowledgement of one chunk.
func (w *World) Acked(group uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.inboxes[group]; b != nil {
		b.unacked--
		b.changed()
	}
}

// Retry tells calls to whom Offer had returned 0 that there may be room.
func (w *World) Retry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeAll()
}

func (w *World) wakeAll() {
	for _, b := range w.inboxes {
		b.changed()
	}
}

// Lost takes the end of the connection to a peer. After the peer's goodbye it is
// in order.
func (w *World) Lost(peer int, cause error) {
	w.mu.Lock()
	inOrder, where := w.left[peer] || w.closed, w.seen[peer]
	w.mu.Unlock()
	if inOrder {
		return
	}
	text := fmt.Sprintf("rank %d is gone", peer)
	if where != "" {
		text += ", last seen in " + where
	}
	if cause != nil {
		text += fmt.Sprintf(" (%v)", cause)
	}
	w.Fail(&comm.Failure{Kind: comm.ErrPeerLost, Rank: peer, By: w.rank, Text: text, Cause: cause})
}

// protocol ends the job over a message that no rank of this version sends.
func (w *World) protocol(from int, err error) {
	text := fmt.Sprintf("rank %d sent rank %d what it must not: %v", from, w.rank, err)
	w.Fail(&comm.Failure{Kind: comm.ErrMismatch, Rank: from, By: w.rank, Text: text, Cause: err})
}

// Fail ends the groups with f, here and on every peer, unless they have ended.
func (w *World) Fail(f *comm.Failure) {
	w.mu.Lock()
	if w.failure != nil || w.closed {
		w.mu.Unlock()
		return
	}
	w.failure = f
	close(w.done)
	if !w.closing { // a close that comes now waits until the peers are told
		w.calls.Add(1)
		defer w.calls.Done()
	}
	w.mu.Unlock()
	w.carrier.Abort(f)
}

// Close ends this rank's end in order. A collective under way fails everywhere.
func (w *World) Close() error {
	w.mu.Lock()
	again, active := w.closing, w.active > 0
	w.closing = true
	w.mu.Unlock()
	if again {
		return errors.New("group closed twice")
	}
	if active {
		text := fmt.Sprintf("rank %d closed its groups during a collective", w.rank)
		w.Fail(&comm.Failure{Kind: comm.ErrAborted, Rank: w.rank, By: w.rank, Text: text})
	}
	w.calls.Wait()
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	return w.carrier.Close()
}

// begin counts a call in, unless the groups are closed.
func (w *World) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return errors.New("group is closed")
	}
	w.active++
	w.calls.Add(1)
	return nil
}

func (w *World) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active--
	w.calls.Done()
}

// Kill ends this rank's end as the death of its process would: without a
// word. For tests.
func (w *World) Kill() {
	w.mu.Lock()
	if w.failure == nil {
		w.failure = &comm.Failure{Kind: comm.ErrAborted, Rank: w.rank, By: w.rank, Text: "killed"}
		close(w.done)
	}
	w.mu.Unlock()
	w.carrier.Kill()
}
