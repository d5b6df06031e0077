// Package group decides for a group of ranks on one or many nodes: who may join, when
// the ranks start, what ends them, whether they start again, and why it all ended. It
// is pure: events and the time go in, actions come out; nothing here starts a
// process, opens a connection or reads a clock.
package group

import (
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

// Event is something that happened. Kind says which fields are set.
type Event struct {
	At   time.Time // node 0's clock, of the thing itself and not of its message
	Kind EventKind

	Node    int    // the node's number
	Session string // of Join, Lost, Left: which incarnation of the node's agent it is; never the same twice
	Name    string // of Join: what people call the node; never an identity
	Ranks   int    // of Join: how many ranks the node brings
	Skew    string // of Join: what differs from node 0 (build, flags, program); "" if nothing does

	Attempt int // of the rank's events
	Rank    int // in the world
	Pid     int
	Code    int    // of Exited (not signaled), Failing, Detached, NotStarted; of Join: why the node cannot run the program, 0 if it can
	Signal  int    // of Exited, 0 if it was not a signal; of Signaled
	Memory  Memory // of Exited by SIGKILL: whether the kernel ran out of memory
	Asked   bool   // of Exited: a SIGTERM or SIGKILL of ours ended it, or had reached it before; of NotStarted: it was not tried
	Stuck   bool   // of Silent: it is held from outside, stopped or by the kernel, and does not just wait
	Text    string // one line of what is known; see the kinds
	Where   string // of Beat, Failing, Silent: phase and step, or what the kernel says that it waits for
}

// EventKind names an event.
type EventKind string

// The events. Those of ranks carry Attempt, Node and Rank. Each rank of a Start is answered
// by one Started or NotStarted, and each Started by one Exited; each Ready by one Detached.
const (
	Join       EventKind = "join"        // a node's agent is there, and nothing of the job runs on the node; Text: why it cannot run the program
	Lost       EventKind = "lost"        // its connection broke, or it was silent too long; At is when it was last heard
	Left       EventKind = "left"        // it has nothing running any more and says goodbye
	Started    EventKind = "started"     // a rank's process runs
	NotStarted EventKind = "not-started" // it could not be started, or was not tried since another could not, or because of a Kill
	Ready      EventKind = "ready"       // a rank of ours said hello
	Beat       EventKind = "beat"        // a rank of ours goes on, which for the hang timeout it does if Where is another
	Failing    EventKind = "failing"     // a rank says that it fails; Text: why
	Finished   EventKind = "finished"    // a rank of ours reported that its work is done
	Detached   EventKind = "detached"    // the stream of a rank of ours ended; Text: why, if that was before its report; Code: 0 if it was closed, ends.PeerLost if it broke
	Exited     EventKind = "exited"      // a rank's process ended; Text: what is known of a SIGKILL ("out of memory, ..."), why a rank of ours was refused, or the last words of another program
	Silent     EventKind = "silent"      // a rank made no progress for the hang timeout; Text: the evidence
	Dumped     EventKind = "dumped"      // a node has written its stacks
	Signaled   EventKind = "signaled"    // the launcher got a signal
	Stop       EventKind = "stop"        // somebody asked by `wanrun stop`
	Drain      EventKind = "drain"       // the ranks shall save and end, for there is not much time left; Text: why
	Tick       EventKind = "tick"        // the deadline of Machine.Deadline came
)

// Memory says what the kernel's counters say about a SIGKILL.
type Memory string

// What they can say.
const (
	MemoryUnknown Memory = ""       // nothing can be read
	OutOfMemory   Memory = "oom"    // a counter of kills went up
	EnoughMemory  Memory = "no-oom" // none did
)

// Action is something to do. Kind says which fields are set.
type Action struct {
	Kind ActionKind

	Node    int    // of Send actions: which; AllNodes for all that are joined
	Session string // of Refuse, which goes to this agent alone
	Attempt int
	Signal  int       // of Pass
	Code    ends.Code // of Ask, End
	Text    string    // of Ask, Refuse, Say, End: one line
	Table   []Place   // of Start: the ranks of all nodes, by rank
	Info    bool      // of Say: of no concern to who wants silence when all is well
}

// AllNodes is every node that is joined.
const AllNodes = -1

// ActionKind names an action.
type ActionKind string

// The actions. Start, Ask, Pass, Kill and Dump go to nodes.
const (
	Start  ActionKind = "start"  // start the attempt's ranks; goes to AllNodes
	Ask    ActionKind = "ask"    // tell workers of ours to end; other programs get SIGTERM
	Pass   ActionKind = "pass"   // send the signal to every rank and all that it started
	Kill   ActionKind = "kill"   // SIGKILL to every rank and all that it started
	Dump   ActionKind = "dump"   // write the stacks of all ranks
	Refuse ActionKind = "refuse" // turn an agent away
	Say    ActionKind = "say"    // tell the user
	End    ActionKind = "end"    // it is over; Machine.Outcome says how
)

// Place is where a rank lives.
type Place struct {
	Rank, Node, Local int
}

// Outcome is how the job ended.
type Outcome struct {
	Code     ends.Code // ends.Done, the cause's class, or in generic mode the first failing rank's own code
	Attempts []Attempt // the last one's is the job's
}

// Attempt is one life of the group.
type Attempt struct {
	Number         int
	Started, Ended time.Time
	Cause          *Cause      // nil if it went well
	Ranks          []RankState // by rank; empty when the nodes never met
}

// Cause is why an attempt ended.
type Cause struct {
	At   time.Time
	Kind CauseKind
	Rank int // -1 if it was no rank
	Node int // -1 if unknown
	Code ends.Code
	Text string // one line: "rank 1 of 4 on gpu-02 exited with code 3"
}

// CauseKind is the sort of a cause.
type CauseKind string

// The causes.
const (
	CauseExit       CauseKind = "exit"        // a code other than 0
	CauseSignal     CauseKind = "signal"      // a signal that was not ours
	CauseMemory     CauseKind = "oom"         // the kernel ran out of memory
	CauseReported   CauseKind = "reported"    // a worker of ours said why
	CauseNotStarted CauseKind = "not-started" // the program could not be started
	CauseHang       CauseKind = "hang"        // no progress
	CauseTimeout    CauseKind = "timeout"     // the time limit of the job
	CauseNode       CauseKind = "node"        // a node was lost
	CauseMissing    CauseKind = "missing"     // a node never came
	CauseWorld      CauseKind = "world"       // the nodes bring too few or too many ranks
	CauseUser       CauseKind = "user"        // a signal or `wanrun stop`
	CauseUnkillable CauseKind = "unkillable"  // the kernel holds a process
)

// RankState is what is known of a rank at the end.
type RankState struct {
	Place
	Pid    int
	Ended  time.Time // zero if it never started or never ended
	Code   int
	Signal int
	Role   Role
	Text   string // what it said when it failed
	Where  string // where it was last
}

// Role is what part a rank had in the end of its attempt.
type Role string

// The roles.
const (
	Well        Role = "done"        // ended with 0
	TheCause    Role = "cause"       // the first to fail
	Consequence Role = "consequence" // failed by itself after the cause
	Later       Role = "later"       // failed by itself too, long after the cause
	Ended       Role = "ended"       // ended by us
	WithNode    Role = "with-node"   // went with its node; how is not known
	Never       Role = "never"       // was not started
	Remains     Role = "remains"     // did not die
)

// Ranks writes rank numbers, which are in order, as people do: "rank 3", "ranks 0,2-7".
func Ranks(numbers []int) string {
	if len(numbers) == 1 {
		return "rank " + ranges(numbers)
	}
	return "ranks " + ranges(numbers)
}
