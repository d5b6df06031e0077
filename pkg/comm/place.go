package comm

import (
	"fmt"
	"strings"
)

// MaxLabel bounds Phase and Purpose in bytes; longer labels are cut.
const MaxLabel = 64

// Place says where in a run a rank is. It is compared between ranks, named in
// errors and is what traffic is reported by. The zero Place is "not said".
type Place struct {
	Phase   string // a phase of the run, such as "denoise"
	Purpose string // what the bytes are, such as "qkv" or "weights"
	Step    int    // counted from 1; 0 is none
	Block   int    // counted from 1; 0 is none
}

// String lists what is known: "denoise, block 17, step 4, qkv".
func (p Place) String() string {
	var parts []string
	if p.Phase != "" {
		parts = append(parts, p.Phase)
	}
	if p.Block != 0 {
		parts = append(parts, fmt.Sprintf("block %d", p.Block))
	}
	if p.Step != 0 {
		parts = append(parts, fmt.Sprintf("step %d", p.Step))
	}
	if p.Purpose != "" {
		parts = append(parts, p.Purpose)
	}
	return strings.Join(parts, ", ")
}

// Cut returns p with its labels cut to MaxLabel.
func (p Place) Cut() Place {
	p.Phase, p.Purpose = cut(p.Phase), cut(p.Purpose)
	return p
}

func cut(s string) string { return s[:min(len(s), MaxLabel)] }
