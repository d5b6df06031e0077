package agents

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

var _ node.Agent = (*Peer)(nil)

// Peer is another node, as node 0 sees it, in one incarnation of its agent.
type Peer struct {
	number  int
	session string
	name    string
	conn    *provenConn
	clock   *clock

	mu      sync.Mutex
	orders  []*wanrunv1.ToAgent // wait to be sent
	taken   int64               // bytes of lines to give back to the node's window
	refused string              // why it is turned away; "" if it is not
	owns    map[int]map[int]bool
	broken  string // what made us give it up, "" if nothing did
	wake    chan struct{}
}

// maxOrders bounds what waits for a node that does not read: far more than a job has.
const maxOrders = 10_000

func newPeer(number int, session, name string, conn *provenConn) *Peer {
	return &Peer{number: number, session: session, name: name, conn: conn, clock: &clock{},
		owns: map[int]map[int]bool{}, wake: make(chan struct{}, 1)}
}

// Node is the number that it has proved to have been started with.
func (p *Peer) Node() int { return p.number }

// Session is unique among all peers of the listener.
func (p *Peer) Session() string { return p.session }

// Name is what people call the node.
func (p *Peer) Name() string { return p.name }

// Addr is where the node's connection comes from.
func (p *Peer) Addr() netip.AddrPort { return addrPort(p.conn.RemoteAddr()) }

// Reached is the address of this machine that the node reached.
func (p *Peer) Reached() netip.AddrPort { return addrPort(p.conn.LocalAddr()) }

// Offset is how far the node's clock is ahead of this one's, and how long a message to it
// and back took when that was measured.
func (p *Peer) Offset() (ahead, roundTrip time.Duration) { return p.clock.offset() }

// Do sends a command to the node.
func (p *Peer) Do(c node.Command) {
	order := orderOf(c)
	if c.Start != nil {
		p.own(c.Start)
	}
	p.post(order)
}

// Finish is Do of the command Finish, with how the job ended: the node's process ends the
// same way.
func (p *Peer) Finish(code ends.Code, text string) {
	p.post(&wanrunv1.AgentOrder{Kind: &wanrunv1.AgentOrder_Finish{
		Finish: &wanrunv1.AgentFinish{Code: int32(code), Text: clean(text, maxText)}}})
}

// Refuse turns the node away. Its agent ends with the reason; no event of it follows.
func (p *Peer) Refuse(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused != "" {
		return
	}
	p.refused = clean(reason, maxRefusal)
	p.orders = []*wanrunv1.ToAgent{{Kind: &wanrunv1.ToAgent_Refusal{Refusal: &wanrunv1.AgentRefusal{Reason: p.refused}}}}
	p.poke()
}

func (p *Peer) post(order *wanrunv1.AgentOrder) {
	m := &wanrunv1.ToAgent{Kind: &wanrunv1.ToAgent_Order{Order: order}}
	if size := proto.Size(m); size > maxMessage {
		p.giveUp(fmt.Sprintf("a command of %d bytes cannot be sent, want at most %d", size, maxMessage))
		return
	}
	p.mu.Lock()
	full := len(p.orders) >= maxOrders
	if p.refused == "" && !full {
		p.orders = append(p.orders, m)
		p.poke()
	}
	p.mu.Unlock()
	if full {
		p.giveUp(fmt.Sprintf("it has left %d commands unread", maxOrders))
	}
}

// poke wakes the sender.
func (p *Peer) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// giveUp breaks the connection, for the reason that the event Lost then gives.
func (p *Peer) giveUp(why string) {
	p.mu.Lock()
	if p.broken == "" {
		p.broken = why
	}
	p.mu.Unlock()
	_ = p.conn.Close() // whatever it says, the reader notices
}

// next returns what to send now, or nil.
func (p *Peer) next() *wanrunv1.ToAgent {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.orders) > 0 {
		m := p.orders[0]
		p.orders = slices.Delete(p.orders, 0, 1)
		return m
	}
	if p.taken >= lineWindow/4 {
		m := &wanrunv1.ToAgent{Kind: &wanrunv1.ToAgent_Taken{Taken: &wanrunv1.AgentTaken{Bytes: p.taken}}}
		p.taken = 0
		return m
	}
	return nil
}

func (p *Peer) giveBack(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken += n
	if p.taken >= lineWindow/4 {
		p.poke()
	}
}

// own notes which ranks of an attempt the node may speak for.
func (p *Peer) own(s *node.Start) {
	ranks := map[int]bool{}
	for _, place := range s.World {
		if place.Node == p.number {
			ranks[place.Rank] = true
		}
	}
	p.mu.Lock()
	p.owns[s.Attempt] = ranks
	p.mu.Unlock()
}

// maySpeak is an error if the rank is not this node's in that attempt.
func (p *Peer) maySpeak(attempt, rank int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.owns[attempt][rank] {
		return fmt.Errorf("it speaks for rank %d of attempt %d, which is not its own", rank, attempt)
	}
	return nil
}

// verdict says whether the peer was turned away, and what broke it.
func (p *Peer) verdict() (refused bool, broken string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused != "", p.broken
}

// shift moves an event's time to node 0's clock, to no later than its arrival and no
// earlier than since.
func (p *Peer) shift(at, since, arrived time.Time) time.Time {
	if at.IsZero() {
		return arrived
	}
	ahead, _ := p.clock.offset()
	at = at.Add(-ahead)
	if at.After(arrived) {
		return arrived
	}
	if at.Before(since) {
		return since
	}
	return at
}

func (p *Peer) event(kind group.EventKind, at time.Time) group.Event {
	return group.Event{At: at, Kind: kind, Node: p.number, Session: p.session, Name: p.name}
}
