// Package host carries collectives between processes. Ranks of one node share
// memory: each has one sealed, nameless segment of slots, passed over a socket in
// the abstract namespace, so that no file is ever made and none can be left over.
// Ranks of different nodes use TCP. Every pair of ranks has a connection of its
// own, proven on both sides with the job's secret; its end is how the death of
// a rank is noticed. Waiting is done in the kernel: an idle rank uses no CPU.
//
// Bulk data goes through a bounded window of chunks, each acknowledged when it is
// copied out, so that a rank never holds more than its window of what others send.
// TCP carries data in the clear, unencrypted after the proof: the network between
// the nodes of a job is trusted with its contents, not with who takes part.
package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
)

// Config is what a rank is told by its launcher.
type Config struct {
	// Rank is this rank's number in the job of Size ranks.
	Rank, Size int
	// Nodes is the node of each rank; nil puts all on one.
	Nodes []int
	// Root is the host:port at which rank 0 listens. It is needed when there is more
	// than one node, or where there are no shared segments (outside Linux).
	Root string
	// RootListener, on rank 0, is a listener at Root that exists already. Connect
	// closes it.
	RootListener net.Listener
	// Secret is the job's own, of at least 16 bytes, known to its ranks alone.
	Secret []byte
	// ConnectTimeout limits Connect. 0 is a minute.
	ConnectTimeout time.Duration
	// SlotBytes is the longest chunk, a multiple of the page size, and Slots their
	// number in a rank's segment. 0 is the default. All ranks have the same.
	SlotBytes, Slots int
	// Random yields the challenges; nil is the system's.
	Random io.Reader
	// Refused, if set, is told of connections that were turned away.
	Refused func(error)
	// Options are those of the groups.
	Options comm.Options

	corrupt func(slot []byte) // for tests: changes a chunk after its checksum
}

// The defaults: slots that fit a second-level cache together with their copy,
// and enough of them that neither side waits for the other at each chunk.
const (
	defaultSlotBytes = 256 << 10
	defaultSlots     = 16
	maxSegment       = 1 << 30
	minSecret        = 16
	maxSize          = 1 << 12
)

// inlineWindow is how many chunks may be on their way over one TCP connection.
const inlineWindow = 8

func (c *Config) check() error {
	if c.Size < 1 || c.Size > maxSize || c.Rank < 0 || c.Rank >= c.Size {
		return fmt.Errorf("rank %d of %d ranks, at most %d", c.Rank, c.Size, maxSize)
	}
	if len(c.Secret) < minSecret {
		return fmt.Errorf("secret of %d bytes; at least %d are needed", len(c.Secret), minSecret)
	}
	if c.Nodes == nil {
		c.Nodes = make([]int, c.Size)
	}
	if len(c.Nodes) != c.Size {
		return fmt.Errorf("nodes of %d ranks, where there are %d", len(c.Nodes), c.Size)
	}
	if c.SlotBytes == 0 {
		c.SlotBytes = defaultSlotBytes
	}
	if c.Slots == 0 {
		c.Slots = defaultSlots
	}
	if c.SlotBytes < 0 || c.SlotBytes%4096 != 0 || c.Slots < 0 || c.Slots > math.MaxUint16 || c.SlotBytes > maxSegment/c.Slots {
		return fmt.Errorf("%d slots of %d bytes: not pages, or more than %d bytes", c.Slots, c.SlotBytes, maxSegment)
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = time.Minute
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Refused == nil {
		c.Refused = func(error) {}
	}
	if c.Root == "" && c.needsRoot() {
		return errors.New("ranks on different nodes need the address of rank 0")
	}
	return nil
}

// near reports whether this rank and a peer share memory.
func (c *Config) near(peer int) bool { return haveSegments && c.Nodes[peer] == c.Nodes[c.Rank] }

// needsRoot reports whether any two ranks of the job talk over TCP.
func (c *Config) needsRoot() bool {
	for _, node := range c.Nodes {
		if !haveSegments || node != c.Nodes[0] {
			return c.Size > 1
		}
	}
	return false
}
