// Package comm is what ranks say to each other: the collectives of a group and
// the ways in which a group ends.
//
// A Group is a rank's membership in a set of ranks. Every rank of the group calls
// the same collectives in the same order. Before bytes move, the ranks compare
// what they are about to do, so that ranks that disagree learn so at once
// (ErrMismatch) and a rank that does not come is named (ErrTimeout). Whatever goes
// wrong on one rank ends all groups of the job on every rank, with the same cause.
//
// Buffers are tensors: host transports move the bytes of a HostMemory, a device
// transport moves device memory in stream order, and the planning transport moves
// nothing. Reductions on host transports add in rank order, in F32 for the 16-bit
// types, and round once: their results are bit-equal on every rank and transport.
package comm
