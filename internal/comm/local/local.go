// Package local carries collectives between goroutines of one process: a chunk is
// the sender's memory itself, which the receiver copies from.
package local

import (
	"errors"
	"sync"

	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/pkg/comm"
)

// New returns the groups of size ranks that live in this process, one a rank.
// opts may be nil.
func New(size int, opts func(rank int) comm.Options) []comm.Group {
	worlds := Worlds(size, opts)
	groups := make([]comm.Group, size)
	for rank, w := range worlds {
		groups[rank] = engine.NewGroup(w)
	}
	return groups
}

// Worlds returns the ranks' ends that New makes groups of.
func Worlds(size int, opts func(rank int) comm.Options) []*engine.World {
	worlds := make([]*engine.World, size)
	for rank := range worlds {
		var o comm.Options
		if opts != nil {
			o = opts(rank)
		}
		worlds[rank] = engine.NewWorld(rank, size, o)
	}
	carriers := make([]*carrier, size)
	for rank, w := range worlds {
		carriers[rank] = &carrier{rank: rank, worlds: worlds, carriers: carriers}
		w.SetCarrier(carriers[rank])
	}
	return worlds
}

// errClosed is a peer that is not there any more.
var errClosed = errors.New("connection closed")

type carrier struct {
	rank     int
	worlds   []*engine.World
	carriers []*carrier

	mu     sync.Mutex
	closed bool
	lent   map[uint64][]*loan
}

func (c *carrier) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// Send calls the peer's handler.
func (c *carrier) Send(to int, m engine.Message) error {
	if c.isClosed() || c.carriers[to].isClosed() {
		return errClosed
	}
	c.worlds[to].Handle(c.rank, m)
	return nil
}

// loan is data that peers may copy until it is taken back.
type loan struct {
	from    *engine.World
	group   uint64
	data    []byte
	mu      sync.RWMutex // held for reading while a peer copies
	revoked bool
	left    int // acknowledgements to come; under the carrier's mutex
	owner   *carrier
}

func (l *loan) Len() int { return len(l.data) }

func (l *loan) CopyTo(dst []byte) error {
	l.mu.RLock()
	if l.revoked {
		l.mu.RUnlock()
		return engine.ErrRevoked
	}
	copy(dst, l.data)
	l.mu.RUnlock()
	l.owner.acked(l)
	l.from.Acked(l.group)
	return nil
}

func (c *carrier) acked(l *loan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.left--; l.left > 0 {
		return
	}
	for i, other := range c.lent[l.group] {
		if other == l {
			c.lent[l.group] = append(c.lent[l.group][:i], c.lent[l.group][i+1:]...)
			break
		}
	}
}

// Offer lends all of data.
func (c *carrier) Offer(group uint64, data []byte, to []int) (int, error) {
	l := &loan{from: c.worlds[c.rank], group: group, data: data, left: len(to), owner: c}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return 0, errClosed
	}
	if c.lent == nil {
		c.lent = map[uint64][]*loan{}
	}
	c.lent[group] = append(c.lent[group], l)
	c.mu.Unlock()
	for _, peer := range to {
		c.worlds[peer].Deliver(c.rank, group, l)
	}
	return len(data), nil
}

// Borrows is true: data is not copied.
func (c *carrier) Borrows() bool { return true }

// Revoke takes back the group's loans.
func (c *carrier) Revoke(group uint64) {
	c.mu.Lock()
	loans := c.lent[group]
	delete(c.lent, group)
	c.mu.Unlock()
	for _, l := range loans {
		l.mu.Lock()
		l.revoked = true
		l.mu.Unlock()
	}
}

// Abort tells every peer.
func (c *carrier) Abort(f *comm.Failure) {
	for peer, w := range c.worlds {
		if peer != c.rank && !c.isClosed() && !c.carriers[peer].isClosed() {
			w.Fail(f)
		}
	}
}

// Close says goodbye.
func (c *carrier) Close() error {
	for peer, w := range c.worlds {
		if peer != c.rank && !c.isClosed() && !c.carriers[peer].isClosed() {
			w.Handle(c.rank, engine.Message{Kind: engine.KindBye})
		}
	}
	c.shut()
	return nil
}

func (c *carrier) shut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.closed
	c.closed = true
	return !was
}

// Kill lets every peer see a broken connection.
func (c *carrier) Kill() {
	if !c.shut() {
		return
	}
	for peer, w := range c.worlds {
		if peer != c.rank && !c.carriers[peer].isClosed() {
			w.Lost(c.rank, nil)
		}
	}
}
