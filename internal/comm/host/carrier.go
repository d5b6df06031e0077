package host

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/pkg/comm"
)

// Limits of the last words: how long a goodbye is waited for, in order and after a
// failure, and how long telling a peer of a failure may take.
const (
	goodbyeTimeout = time.Second
	failedTimeout  = 100 * time.Millisecond
	abortTimeout   = 200 * time.Millisecond
)

// carrier is a rank's links and its segment.
type carrier struct {
	cfg     Config
	world   *engine.World
	seg     *segment // nil if no rank is near
	readers sync.WaitGroup
	tellers sync.WaitGroup
	pool    sync.Pool
	changed chan struct{} // holds a token after a link was added

	mu      sync.Mutex
	links   []*link
	free    []uint32 // slots
	unread  []int    // of each slot: ranks that have not acknowledged it
	credit  []int    // of each peer: inline chunks that may be sent
	starved bool     // an offer found no room
	failed  *comm.Failure
	ending  bool // no link is added any more
}

func newCarrier(cfg Config) (*carrier, error) {
	c := &carrier{
		cfg: cfg, world: engine.NewWorld(cfg.Rank, cfg.Size, cfg.Options), changed: make(chan struct{}, 1),
		links: make([]*link, cfg.Size), unread: make([]int, cfg.Slots), credit: make([]int, cfg.Size),
	}
	c.world.SetCarrier(c)
	for i := range cfg.Slots {
		c.free = append(c.free, uint32(i))
	}
	near := false
	for peer := range cfg.Size {
		c.credit[peer] = inlineWindow
		near = near || peer != cfg.Rank && cfg.near(peer)
	}
	if !near {
		return c, nil
	}
	var err error
	c.seg, err = newSegment(cfg.Slots * cfg.SlotBytes)
	return c, err
}

// add begins a link. After a failure the peer is told of it at once.
func (c *carrier) add(l *link) error {
	c.mu.Lock()
	if c.ending || c.links[l.peer] != nil {
		c.mu.Unlock()
		return fmt.Errorf("rank %d connects twice, or too late", l.peer)
	}
	c.links[l.peer] = l
	failed := c.failed
	c.readers.Add(1)
	c.mu.Unlock()
	if failed != nil {
		c.tell(l, failed)
	}
	go func() {
		defer c.readers.Done()
		l.read()
	}()
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return nil
}

func (c *carrier) link(peer int) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[peer]
}

// Send writes m to the peer's connection.
func (c *carrier) Send(to int, m engine.Message) error {
	return c.link(to).write(func(b []byte) []byte { return appendMessage(b, m) }, nil)
}

// Offer copies a prefix of data into one slot for all near peers, and sends it to
// each far one.
func (c *carrier) Offer(group uint64, data []byte, to []int) (int, error) {
	data = data[:min(len(data), c.cfg.SlotBytes)]
	slot, ok := c.room(to)
	if !ok {
		return 0, nil
	}
	f := chunkFrame{group: group, slot: slot, length: uint32(len(data)), summed: c.cfg.Options.Checksum}
	if f.summed {
		f.sum = crc32.Checksum(data, castagnoli)
	}
	if slot != inlineSlot {
		stored := c.seg.bytes[int(slot)*c.cfg.SlotBytes:][:len(data)]
		copy(stored, data)
		if c.cfg.corrupt != nil {
			c.cfg.corrupt(stored)
		}
	}
	for _, peer := range to {
		l, err := c.link(peer), error(nil)
		if l.seg != nil {
			err = l.write(func(b []byte) []byte { return appendChunk(b, frameSlot, f) }, nil)
		} else {
			far := f
			far.slot = inlineSlot
			err = l.write(func(b []byte) []byte { return appendChunk(b, frameInline, far) }, data)
		}
		if err != nil {
			c.world.Lost(peer, err)
			return 0, err
		}
	}
	return len(data), nil
}

// room takes a slot if a peer is near, and a credit of each that is far, or nothing.
func (c *carrier) room(to []int) (slot uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	near, blocked := 0, false
	for _, peer := range to {
		if c.links[peer].seg != nil {
			near++
		} else if c.credit[peer] == 0 {
			blocked = true
		}
	}
	if blocked || near > 0 && len(c.free) == 0 {
		c.starved = true
		return 0, false
	}
	for _, peer := range to {
		if c.links[peer].seg == nil {
			c.credit[peer]--
		}
	}
	if near == 0 {
		return inlineSlot, true
	}
	slot = c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	c.unread[slot] = near
	return slot, true
}

// acked takes back what a peer has copied.
func (c *carrier) acked(l *link, f chunkFrame) error {
	c.mu.Lock()
	ok := true
	switch {
	case l.seg == nil && f.slot == inlineSlot && c.credit[l.peer] < inlineWindow:
		c.credit[l.peer]++
	case l.seg != nil && int64(f.slot) < int64(len(c.unread)) && c.unread[f.slot] > 0:
		if c.unread[f.slot]--; c.unread[f.slot] == 0 {
			c.free = append(c.free, f.slot)
		}
	default:
		ok = false
	}
	retry := c.starved
	c.starved = false
	c.mu.Unlock()
	if !ok {
		return fmt.Errorf("acknowledgement of slot %d, which was not sent: %w", f.slot, errFrame)
	}
	c.world.Acked(f.group)
	if retry {
		c.world.Retry()
	}
	return nil
}

// Borrows is false: what Offer took lies in a slot or a socket.
func (c *carrier) Borrows() bool { return false }

// Revoke has nothing to take back.
func (c *carrier) Revoke(uint64) {}

// Abort tells every peer and frees whoever is stuck in a write.
func (c *carrier) Abort(f *comm.Failure) {
	c.mu.Lock()
	c.failed = f
	links := append([]*link(nil), c.links...)
	c.mu.Unlock()
	for _, l := range links {
		if l != nil {
			c.tell(l, f)
		}
	}
}

// tell sends the failure to one peer without waiting.
func (c *carrier) tell(l *link, f *comm.Failure) {
	c.mu.Lock()
	ending := c.ending
	if !ending { // which Close waits for
		c.tellers.Add(1)
	}
	c.mu.Unlock()
	if ending {
		return
	}
	l.within(abortTimeout)
	go func() {
		defer c.tellers.Done()
		m := engine.Message{Kind: engine.KindAbort, Failure: f}
		_ = l.write(func(b []byte) []byte { return appendMessage(b, m) }, nil) // who is gone needs no telling
	}()
}

// Close says goodbye to every peer, waits a moment for their answers, and frees
// everything.
func (c *carrier) Close() error {
	c.mu.Lock()
	c.ending = true
	links := append([]*link(nil), c.links...)
	timeout := goodbyeTimeout
	if c.failed != nil {
		timeout = failedTimeout
	}
	c.mu.Unlock()
	c.tellers.Wait()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for _, l := range links {
		if l != nil {
			l.within(timeout)
			_ = l.write(func(b []byte) []byte { return ended(begun(b, frameBye)) }, nil) // who is gone needs no goodbye
		}
	}
	for _, l := range links {
		if l == nil {
			continue
		}
		l.mu.Lock()
		done := l.goodbye || l.broken != nil
		l.mu.Unlock()
		if done {
			continue
		}
		select {
		case <-l.over:
			continue
		case <-limit.C:
		}
		break
	}
	return c.release(links)
}

// Kill closes the connections without a word, as the kernel does for a process
// that dies.
func (c *carrier) Kill() {
	c.mu.Lock()
	c.ending = true
	links := append([]*link(nil), c.links...)
	c.mu.Unlock()
	for _, l := range links {
		if l != nil {
			_ = l.conn.Close() // the peers notice
		}
	}
}

// release closes connections and segments.
func (c *carrier) release(links []*link) error {
	for _, l := range links {
		if l != nil {
			_ = l.conn.Close() // it may be closed
		}
	}
	c.readers.Wait()
	var errs []error
	for _, l := range links {
		if l != nil && l.seg != nil {
			errs = append(errs, l.seg.close())
		}
	}
	if c.seg != nil {
		errs = append(errs, c.seg.close())
	}
	return errors.Join(errs...)
}

// buffer returns room for an inline chunk; reuse gives it back.
func (c *carrier) buffer() []byte {
	if b, ok := c.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, c.cfg.SlotBytes)
}

func (c *carrier) reuse(b []byte) {
	b = b[:cap(b)]
	c.pool.Put(&b)
}
