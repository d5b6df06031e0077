package agents

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/placement"
)

// Options say who this node is, where the nodes meet and what they have in common.
type Options struct {
	Node  int    // this node's number: 0 listens, the others dial
	Nodes int    // of the job
	Ranks int    // that this node brings; of Dial
	Name  string // for people, never an identity
	// Code and Text say why this node cannot run the program; 0 and "" if it can. Of Dial.
	Code int
	Text string
	// JobID separates jobs. Listen needs one; "" in Dial is any job that has the same
	// secret.
	JobID string

	Rendezvous placement.Rendezvous
	// Iface is the name of an interface or a CIDR whose addresses alone are used; "": of
	// node 0 those that the rendezvous names, of the others what the route has.
	Iface string
	// Resolve finds addresses of the rendezvous' host; nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)

	// Secret is what the job's nodes share, at least MinSecret bytes. It may be nil on
	// loopback, and with a rendezvous file, which then carries a secret of its own.
	Secret []byte
	TLS    TLS

	// What must be the same on all nodes; a difference is named in group.Join's Skew.
	Build   string
	Program string            // digest of what the ranks run, "" if they have none
	Flags   map[string]string // by name; only digests of the values are sent

	JoinTimeout time.Duration // of Dial: until node 0 has answered
	// Rejoin is how long nodes that lost node 0 may try to come back; 0: they end. Node 0
	// tells the others.
	Rejoin time.Duration

	Now func() time.Time  // this node's clock; nil: the system's
	Say func(line string) // what a user should know meanwhile; nil: nothing

	timing     timing // zero: usual
	interfaces func() ([]iface, error)
}

// Handler is what node 0 does with the other nodes. Its sink gets the events of all of
// them, each beginning with group.Join and ending with group.Left or group.Lost, which carry
// the peer's session; of one that was turned away by Peer.Refuse nothing follows. Calls for
// one node come in order, but an event may overtake lines. Left comes after all lines.
type Handler interface {
	node.Sink
	// Joined hands over a node, right before its event group.Join.
	Joined(*Peer)
	// Refused tells of a peer that was turned away before it was one. At most a few a second
	// are told; the error counts those that were left out.
	Refused(error)
}

// prepare checks the options and fills in what was left out.
func (o Options) prepare() (Options, error) {
	if o.timing == (timing{}) {
		o.timing = usual
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.interfaces == nil {
		o.interfaces = systemInterfaces
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	switch {
	case o.Nodes < 1 || o.Nodes > maxNodes:
		return o, ends.Errorf(ends.Usage, "%d nodes, want 1 to %d", o.Nodes, maxNodes)
	case o.Node < 0 || o.Node >= o.Nodes:
		return o, ends.Errorf(ends.Usage, "node %d of %d", o.Node, o.Nodes)
	case len(o.Flags) > maxFlags:
		return o, ends.Errorf(ends.Usage, "%d flags, want at most %d", len(o.Flags), maxFlags)
	case o.Rendezvous.File == "" && (o.Rendezvous.Host == "" || len(o.Rendezvous.Ports) == 0):
		return o, ends.Errorf(ends.Usage, "no rendezvous: want HOST:PORT or file:PATH")
	}
	for name, text := range map[string]string{"node name": o.Name, "job id": o.JobID, "build": o.Build, "program digest": o.Program} {
		if len(text) > maxName || !utf8.ValidString(text) {
			return o, ends.Errorf(ends.Usage, "%s %.40q is %d bytes long, want valid UTF-8 of at most %d", name, text, len(text), maxName)
		}
	}
	if o.Secret != nil {
		if err := checkSecret(o.Secret); err != nil {
			return o, ends.As(ends.Usage, err)
		}
	}
	return o, nil
}

func (o Options) sayf(format string, args ...any) { o.Say(fmt.Sprintf(format, args...)) }
