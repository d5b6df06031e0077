package engine

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Announcement is what a rank tells another about a collective that it begins.
type Announcement struct {
	Op     comm.Op
	Seq    int64
	DType  tensor.DType // Invalid if it moves nothing: fits any
	Reduce comm.Reduction
	Peer   int32 // root of a broadcast, distance of a shift; 0 otherwise
	Place  comm.Place
	// To and From are the bytes that the sender of this message will send to and
	// receive from the rank that gets it.
	To, From int64
}

// String describes the call with its sizes; peer is who got the announcement.
func (a Announcement) describe(peer int) string {
	s := a.record().String()
	switch a.Op {
	case comm.OpBroadcast:
		s += fmt.Sprintf(" from member %d", a.Peer)
	case comm.OpShift:
		s += fmt.Sprintf(" by %d", a.Peer)
	case comm.OpReduceScatter, comm.OpAllReduce:
		s += " of the " + a.Reduce.String()
	}
	if a.DType != tensor.Invalid {
		s += " in " + a.DType.String()
	}
	return s + fmt.Sprintf(", %d bytes to and %d bytes from rank %d", a.To, a.From, peer)
}

func (a Announcement) record() comm.Record {
	return comm.Record{Op: a.Op, Seq: a.Seq, Place: a.Place}
}

// fits reports whether a peer's announcement is the other end of the same call.
func (a Announcement) fits(theirs Announcement) bool {
	op := theirs.Op
	switch op { // the ends of a pair
	case comm.OpSend:
		op = comm.OpRecv
	case comm.OpRecv:
		op = comm.OpSend
	}
	return a.Op == op && a.Seq == theirs.Seq && a.Reduce == theirs.Reduce && a.Peer == theirs.Peer &&
		a.Place == theirs.Place && a.To == theirs.From && a.From == theirs.To &&
		(a.DType == theirs.DType || a.DType == tensor.Invalid || theirs.DType == tensor.Invalid)
}

// Kind says what a Message is.
type Kind uint8

// The messages between ranks.
const (
	KindAnnounce Kind = iota + 1
	KindEnter         // Where: the rank is at a place
	KindAbort         // Failure
	KindBye           // the rank closes its groups
)

// Message is a small message from one rank to another.
type Message struct {
	Kind     Kind
	Group    uint64
	Announce Announcement
	Where    comm.Place
	Failure  *comm.Failure
}

// Chunk is a piece of bulk data that arrived.
type Chunk interface {
	// Len is its bytes.
	Len() int
	// CopyTo copies it to dst, which is as long, and acknowledges it to its sender.
	// Errors: ErrRevoked, or its checksum is wrong.
	CopyTo(dst []byte) error
}

// Carrier is a transport as the engine uses it. Its methods are safe for
// concurrent use and call no World of the same rank before they return, except
// that a peer's reaction may.
type Carrier interface {
	// Send passes m to a peer, behind what was sent before.
	Send(to int, m Message) error
	// Offer passes a prefix of data to each of the ranks to, as a chunk of a group,
	// and returns its length: 0 when there is no room now, and World.Retry is called
	// when there may be. Each of to acknowledges by World.Acked.
	Offer(group uint64, data []byte, to []int) (int, error)
	// Borrows reports whether data of an Offer must not change until all of its
	// chunks are acknowledged.
	Borrows() bool
	// Revoke takes back chunks of a group that no peer copies now and waits for
	// those that one does. It is called after a failure.
	Revoke(group uint64)
	// Abort tells every peer why the job's groups end. It does not wait.
	Abort(f *comm.Failure)
	// Close says goodbye and ends the transport; no callbacks come after it.
	Close() error
	// Kill ends the transport as the death of the process would. For tests.
	Kill()
}
