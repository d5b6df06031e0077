package comm

import (
	"fmt"
	"time"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// State is how far a collective came on this rank.
type State uint8

// The states of a collective.
const (
	Waiting State = iota // for the other ranks to call it
	Moving               // bytes
	Finished
	Failed
)

// String returns the state's name.
func (s State) String() string { return [...]string{"waiting", "moving", "finished", "failed"}[s&3] }

// Record is one collective in a group's history.
type Record struct {
	Op             Op
	Seq            int64 // of the group's collectives, from 1; of a send or recv, among those with that peer
	Place          Place
	DType          tensor.DType
	Sent, Received int64 // bytes to and from other ranks
	State          State
	Began, Ended   time.Time // zero without Options.Now
}

// String describes the collective: "all-to-all #812 (denoise, block 17, step 4)".
func (r Record) String() string {
	s := fmt.Sprintf("%v #%d", r.Op, r.Seq)
	if at := r.Place.String(); at != "" {
		s += " (" + at + ")"
	}
	return s
}

// Traffic is what a rank's collectives of one kind and place moved to and from
// other ranks. What a rank keeps for itself is not counted.
type Traffic struct {
	Op             Op
	Phase, Purpose string
	Calls          int64
	Sent, Received int64 // bytes
}
