package agents

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// gate bounds the connections that have not proved themselves yet. When it is full, the
// oldest one of the address that has most of them goes: whoever holds connections open
// without a word pushes out their own.
type gate struct {
	most int

	mu      sync.Mutex
	closed  bool
	waiting []waiting // oldest first
}

type waiting struct {
	conn net.Conn
	from netip.Addr
}

// enter takes a connection in, or reports that the gate is closed.
func (g *gate) enter(conn net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	if len(g.waiting) >= g.most {
		counts := map[netip.Addr]int{}
		for _, w := range g.waiting {
			counts[w.from]++
		}
		oldest := 0
		for i, w := range g.waiting {
			if counts[w.from] > counts[g.waiting[oldest].from] {
				oldest = i
			}
		}
		g.remove(oldest)
	}
	g.waiting = append(g.waiting, waiting{conn, addrPort(conn.RemoteAddr()).Addr()})
	return true
}

// leave lets go of a connection that has proved itself, or failed to.
func (g *gate) leave(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, w := range g.waiting {
		if w.conn == conn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return
		}
	}
}

func (g *gate) remove(i int) {
	_ = g.waiting[i].conn.Close() // its handshake fails
	g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for len(g.waiting) > 0 {
		g.remove(0)
	}
}

// complaints lets a few errors a second through and counts the rest.
type complaints struct {
	tell func(error)
	most int // a second

	mu     sync.Mutex
	since  time.Time
	told   int
	untold int
}

// pass returns whether to tell now, and how many were left out before.
func (c *complaints) pass(now time.Time) (ok bool, untold int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= time.Second {
		c.since, c.told = now, 0
	}
	if c.told >= c.most {
		c.untold++
		return false, 0
	}
	c.told++
	untold, c.untold = c.untold, 0
	return true, untold
}
