// Package agents lets the nodes of a job meet at node 0 and keeps them together: gRPC
// over connections that both sides have proved themselves on.
//
// Node 0 listens, every other node dials, in any order of start. A connection is TLS
// 1.3 with certificates that both sides made for it alone. What makes them trusted is the
// job's secret: each side shows an HMAC, keyed by the secret, over the TLS exporter value,
// both certificates, both nonces, the job's id and the node's number. Whoever has no
// secret can neither join nor pretend to be node 0, and what is overheard on one
// connection is worth nothing on another. gRPC never sees a connection that has not been
// proved.
//
// After that, one stream carries everything: orders to the node, and events, reports,
// progress, samples and lines from it. Both send a pulse each second; a side that hears
// nothing for three counts the other as lost, and a broken connection is a loss at
// once. The pulses carry clock readings, from which node 0 knows every node's offset:
// times that it hands on are in its own clock.
//
// Lines have a budget. They wait in bounded buffers on the node that printed them, at
// most lineWindow bytes of them are on the way, and what does not fit is dropped and
// counted. So they never hold up an event.
//
// A peer that has proved itself may still be wrong: messages are bounded, their
// fields are checked, and a node speaks for its own ranks alone.
package agents

import "time"

// protocolVersion changes with every change of meaning in agents.proto.
const protocolVersion = 1

// Bounds of what one message, and one text in it, may be.
const (
	maxMessage  = 4 << 20   // a job with a prompt of 1 MB fits
	maxText     = 16 << 10  // of an event
	maxLine     = 256 << 10 // output is cut into pieces long before
	maxName     = 256       // of nodes, job ids, builds
	maxRanks    = 1 << 16   // in a world
	maxNodes    = 1 << 16
	maxFlags    = 512
	maxAttempts = 1 << 20
	maxRefusal  = 1024
)

// lineWindow is how many bytes of lines may be on the way from one node, lineCost what
// a line counts for beyond its text.
const (
	lineWindow = 1 << 20
	lineCost   = 64
)

// timing is how long things take; tests have shorter ones.
type timing struct {
	pulse    time.Duration // between two pulses
	lost     time.Duration // without any message, after which the other side is lost
	patience time.Duration // for each part of a peer's introduction
	connect  time.Duration // for one address to answer
	retry    time.Duration // at most, between two rounds of trying to meet
	tell     time.Duration // between two lines that say what is waited for
	windDown time.Duration // for the node's ranks to be gone once node 0 is lost

	complaints int // that are told a second
}

// usual: 3 missed pulses and what a loaded machine adds, together below 5 s.
var usual = timing{pulse: time.Second, lost: 3500 * time.Millisecond, patience: 10 * time.Second,
	connect: 2 * time.Second, retry: time.Second, tell: 10 * time.Second, windDown: 15 * time.Second, complaints: 5}
