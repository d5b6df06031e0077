package vram

import "fmt"

// EventKind is what an Event tells of.
type EventKind string

// The kinds of events.
const (
	XID       EventKind = "XID"
	DoubleBit EventKind = "ECC"
)

// Event is an error that the driver told of.
type Event struct {
	Kind   EventKind
	Number uint64 // of an XID
	UUID   string // of the GPU, "" if that was not told
}

// What helps after an error.
type remedy struct {
	meaning string
	advice  string
	fatal   bool // what the process computes on the GPU is lost or wrong
}

// xids are the errors that a run meets. Others are named by their numbers.
// Source: NVIDIA, "XID Errors", docs.nvidia.com/deploy/xid-errors.
var xids = map[uint64]remedy{
	8:   {"the GPU did not finish in time", "start again; if it comes again, test the GPU", true},
	13:  {"a kernel did what is not allowed", "most likely a bug of a program; please report it", true},
	31:  {"a kernel touched memory that it does not have", "most likely a bug of a program; please report it", true},
	32:  {"the driver was given broken commands", "start again; if it comes again, look at the PCIe link", true},
	43:  {"the GPU stopped a program's work", "look at what that program says; other programs go on", true},
	45:  {"work was cleaned up after an error or a kill", "look at the error before it", false},
	48:  {"memory error that could not be corrected", "reset the GPU before the next run; if it comes again, replace it", true},
	61:  {"an internal controller of the GPU stopped", "reset the GPU", true},
	62:  {"an internal controller of the GPU stopped", "reset the GPU", true},
	63:  {"a faulty row of memory will be replaced by a spare one", "reset the GPU when it is free", false},
	64:  {"a faulty row of memory could not be replaced", "reset the GPU; if it comes again, replace it", true},
	69:  {"a graphics engine failed", "start again; if it comes again, test the GPU", true},
	74:  {"an NVLink failed", "start again; if it comes again, look at the links and bridges", true},
	79:  {"the GPU has fallen off the bus", "restart the node; if it comes again, look at power, cooling and seating, or replace the GPU", true},
	92:  {"many memory errors, which were corrected", "go on; test the GPU when it is free", false},
	94:  {"memory error that hit this program alone", "start again; reset the GPU when it is free", true},
	95:  {"memory error that was not contained", "reset the GPU before the next run", true},
	119: {"the GPU's system processor does not answer", "reset the GPU or restart the node", true},
	120: {"the GPU's system processor failed", "reset the GPU or restart the node", true},
	140: {"memory error whose place is not known", "reset the GPU before the next run", true},
}

// Fatal is that the process cannot trust the GPU any more.
func (e Event) Fatal() bool {
	if e.Kind == DoubleBit {
		return true
	}
	return xids[e.Number].fatal
}

// String says what happened and what to do, in one line.
func (e Event) String() string {
	on := ""
	if e.UUID != "" {
		on = " on " + e.UUID
	}
	if e.Kind == DoubleBit {
		return "memory error that could not be corrected" + on + ": " + xids[48].advice
	}
	if r, known := xids[e.Number]; known {
		return fmt.Sprintf("XID %d%s: %s: %s", e.Number, on, r.meaning, r.advice)
	}
	return fmt.Sprintf("XID %d%s: look it up in NVIDIA's list of XID errors", e.Number, on)
}
