// Package node is one node's part of a job: it starts the node's ranks, watches them,
// collects what they print, and ends them without leaving anything behind.
package node

import (
	"fmt"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Agent is a node as the launcher sees it: the one that it is itself, or one that it
// reaches over the network.
type Agent interface {
	// Do hands a command over and does not wait. Commands are done in order.
	Do(Command)
}

// Command is what a node is told. One field is set.
type Command struct {
	Start  *Start
	Ask    *Ask
	Signal int  // to every rank and all that it started; SIGKILL sweeps what is left, too
	Dump   bool // write the stacks of all ranks
	Finish bool // nothing follows: hand on what is left of the output, and leave
}

// Ask tells workers of ours over their control channel to end; other programs get
// SIGTERM.
type Ask struct {
	Code   int // of ends
	Reason string
}

// Start starts the node's ranks of an attempt. What program they run the node knows from
// its own command line, which is the same as node 0's.
type Start struct {
	Attempt    int
	World      []group.Place // all ranks
	MasterAddr string        // a numeric address that every node reaches
	MasterPort int           // was free at the moment of the start
	Secret     []byte        // between the ranks of this attempt
	Job        *wanrunv1.Job // for workers of ours; nil for other programs
	Restarts   int           // at most
}

// Sink takes what happens on a node. Calls for one rank come in order; calls for
// different ranks come at the same time. None of them waits for a user.
type Sink interface {
	Event(group.Event)
	Line(Line)
	Progress(attempt, rank int, p *wanrunv1.Progress)
	Report(attempt, rank int, r *wanrunv1.Report)
	Sample(Sample)
}

// Line is a line that a rank printed.
type Line struct {
	At            time.Time
	Attempt, Rank int
	Stream        string // "stdout" or "stderr"
	Text          string // without its end
	Partial       bool   // its end had not come after some time; more of it follows
	Dropped       int    // lines lost before this one, because nobody took them
}

// Where writes a worker's progress as events have it: "denoise (3 of 12)".
func Where(p *wanrunv1.Progress) string {
	if p.GetTotal() > 1 {
		return fmt.Sprintf("%s (%d of %d)", p.GetPhase(), p.GetDone(), p.GetTotal())
	}
	return p.GetPhase()
}

// Sample is what was seen of a rank's process, each second.
type Sample struct {
	At            time.Time
	Attempt, Rank int
	RSS, RSSPeak  int64         // bytes, of the process; -1 if unknown
	CPU           time.Duration // used so far by the process and what it started
	State         string        // of /proc: R, S, D, T, Z
	Wchan         string        // what the kernel waits for, "" if unknown
}
