// Package engine is what the transports have in common: it checks calls, compares
// them between ranks, moves streams of bytes by the shape of each collective,
// reduces in rank order, keeps deadlines and history, and ends all groups together.
//
// A transport is a Carrier, which passes small messages and chunks of bulk data
// to peers, in order. A World is one rank's end of it.
//
// A collective has two parts. First every rank announces it to each rank it
// involves and waits for theirs: a peer that announces something else is a
// mismatch, one that announces nothing is late. Then bytes flow as one stream
// from each rank to each other; all receivers are known to be there, so nothing
// needs buffers beyond a carrier's window.
package engine
