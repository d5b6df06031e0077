package group

import (
	"slices"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

// Mode says what kind of program the ranks are.
type Mode string

// The modes.
const (
	Ours Mode = "ours" // workers of ours: they say hello, report, and end when they are asked
	Any  Mode = "any"  // any program: what is known of it is how its process ends
)

// Success says what makes an attempt a success.
type Success string

// The kinds of success.
const (
	AllRanks  Success = "all"   // every rank ends well
	FirstRank Success = "rank0" // rank 0 ends well; then the others are ended
)

// OnUSR1 says what SIGUSR1 to the launcher does; it is what schedulers send ahead of a
// time limit.
type OnUSR1 string

// What it can do.
const (
	Forward  OnUSR1 = "forward" // every rank gets it
	Draining OnUSR1 = "drain"   // as the event Drain
	Stopping OnUSR1 = "stop"    // the job ends, as by SIGTERM
)

// Config are the rules of a job. Times are as they stand: zero is no time, or no limit
// where that is said. Defaults has the usual ones.
type Config struct {
	Nodes     int      // how many there must be, at least 1
	Names     []string // what people call the nodes, by number, as far as known beforehand
	World     int      // how many ranks there must be; 0: as many as the nodes bring
	Mode      Mode
	AllowSkew bool // nodes whose build, flags or program differ may join

	MaxRestarts int
	RetryOn     []Reason      // what an attempt must have ended of for another one
	Backoff     time.Duration // before the second restart; it doubles with each; the first comes at once

	JoinTimeout    time.Duration // for the nodes to meet; 0: no limit
	StartTimeout   time.Duration // for a rank to start, and for one of ours to say hello; 0: no limit
	HangTimeout    time.Duration // for a rank of ours to go on; 0: no limit
	Timeout        time.Duration // for the job, from its first start; 0: no limit
	StragglerAfter time.Duration // after the first rank's good end, to say who still runs; 0: never

	Grace      time.Duration // for ranks that are asked to end, before they are made to
	FailGrace  time.Duration // the same for the ranks beside one that failed
	DrainGrace time.Duration // the same for ranks that drain; 0: no limit

	Success Success
	OnUSR1  OnUSR1
	// DrainOnTERM takes the first SIGTERM to the launcher for the event Drain, where it is a
	// scheduler's warning.
	DrainOnTERM bool
}

// maxBackoff bounds the time between two attempts.
const maxBackoff = time.Minute

// Defaults are the usual rules for a mode, of one node.
func Defaults(mode Mode) Config {
	c := Config{Nodes: 1, Mode: mode, RetryOn: DefaultReasons(), Backoff: time.Second, JoinTimeout: 5 * time.Minute,
		StartTimeout: 2 * time.Minute, // a program may come over a slow network
		Grace:        10 * time.Second, FailGrace: 10 * time.Second, Success: AllRanks, OnUSR1: Forward}
	if mode == Ours {
		// All shall be gone within 300 ms: their work is lost, and the devices are
		// wanted. Our workers leave nothing behind that takes longer to clean up.
		c.FailGrace = 150 * time.Millisecond
	}
	return c
}

// Reason is something that an attempt ended of, for Config.RetryOn.
type Reason struct {
	Kind ReasonKind
	Code ends.Code // of ReasonCode
}

// ReasonKind names a reason.
type ReasonKind string

// The reasons.
const (
	ReasonSignal ReasonKind = "signal" // a rank died of a signal
	ReasonMemory ReasonKind = "oom"    // the kernel ended a rank for want of memory
	ReasonNode   ReasonKind = "node"   // a node was lost, or ranks of ours lost each other
	ReasonHang   ReasonKind = "hang"   // a rank hung
	ReasonAny    ReasonKind = "any"    // whatever it was, but for usage errors
	ReasonCode   ReasonKind = "code"   // a rank ended with the exit code
)

// DefaultReasons are the losses that another attempt may not meet: of a node, and
// deaths by signals. An exit code is the program's own word and is taken for it.
func DefaultReasons() []Reason { return []Reason{{Kind: ReasonNode}, {Kind: ReasonSignal}} }

// retries says whether an attempt that ended of c may be followed by another. What the
// user wanted, wrong usage and the job's time limit never are: they would come again.
func (m *Machine) retries(c *Cause) bool {
	if c.Code == ends.Usage {
		return false
	}
	switch c.Kind {
	case CauseUser, CauseTimeout, CauseMissing, CauseWorld, CauseUnkillable:
		return false
	}
	return slices.ContainsFunc(m.config.RetryOn, func(r Reason) bool {
		switch r.Kind {
		case ReasonAny:
			return true
		case ReasonSignal:
			return c.Kind == CauseSignal
		case ReasonMemory:
			return c.Kind == CauseMemory
		case ReasonNode:
			return c.Kind == CauseNode || (c.Kind == CauseReported && c.Code == ends.PeerLost)
		case ReasonHang:
			return c.Kind == CauseHang
		case ReasonCode:
			return c.Code == r.Code && (c.Kind == CauseExit || c.Kind == CauseReported)
		default:
			return false
		}
	})
}

// backoff is the time before a restart, the first of which is number 1.
func (c Config) backoff(number int) time.Duration {
	if number <= 1 || c.Backoff <= 0 {
		return 0
	}
	d := c.Backoff
	for range number - 2 {
		if d >= maxBackoff {
			break
		}
		d *= 2
	}
	return min(d, maxBackoff)
}

// stops says whether a signal to the launcher means that the job shall end.
func stops(sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	default:
		return false
	}
}
