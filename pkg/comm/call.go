package comm

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Op is a kind of collective.
type Op uint8

// The collectives. The values are part of what ranks exchange.
const (
	OpBarrier Op = iota + 1
	OpAllToAll
	OpAllGather
	OpReduceScatter
	OpAllReduce
	OpBroadcast
	OpShift
	OpSend
	OpRecv
	NumOps int = iota + 1
)

var opNames = [NumOps]string{"none", "barrier", "all-to-all", "all-gather", "reduce-scatter", "all-reduce", "broadcast", "shift", "send", "recv"}

// String returns the collective's name.
func (o Op) String() string {
	if int(o) >= len(opNames) {
		return fmt.Sprintf("op(%d)", uint8(o))
	}
	return opNames[o]
}

// Reduction is how elements of different ranks become one.
type Reduction uint8

// The reductions.
const (
	Sum Reduction = iota
	Max
)

// String returns the reduction's name.
func (r Reduction) String() string {
	if r == Max {
		return "max"
	}
	return "sum"
}

// Call is one collective with its arguments, for Start. The methods of Group say
// what the fields mean for each Op; those that an Op does not use are zero.
type Call struct {
	Op       Op
	Place    Place
	Dst, Src tensor.Tensor
	// DstCounts and SrcCounts are the elements from and to each rank of the group;
	// nil stands for equal parts.
	DstCounts, SrcCounts []int64
	// Peer is the root of a broadcast, the other rank of a send or recv, or the
	// distance of a shift.
	Peer   int
	Reduce Reduction
}
