package group

import (
	"fmt"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
)

const (
	// hangCode is that of hangs and time limits.
	hangCode = ends.Hang
	// consequenceWindow is how long after the cause a rank's own failure is likely due to it.
	consequenceWindow = 5 * time.Second
	// lossNotice is how much earlier a rank may fail of a node's loss than the loss is
	// noticed: its peers' connections break at once.
	lossNotice = time.Second
	// signalReach is the time within which a scheduler's signal reaches a rank and us.
	signalReach = time.Second
	maxSignal   = 64
)

// charge is what a rank did wrong; nil if nothing, or if it was ended for another's
// fault. victim says that it only lost a peer, which is asked last: a death is often
// noticed by the dead rank's peers before it is by us.
func (m *Machine) charge(r *rank) (c *Cause, victim bool) {
	if r.failed.IsZero() || r.obeyed {
		return nil, false // also if it ended by itself when it was about to be killed
	}
	c = &Cause{At: r.failed, Rank: r.Rank, Node: r.Node}
	if m.config.Mode == Ours || r.report != nil || r.late != nil || r.notStarted != nil {
		m.chargeOurs(r, c)
	} else {
		m.chargeAny(r, c)
	}
	if c.Kind == "" {
		return nil, false
	}
	return c, m.config.Mode == Ours && c.Code == ends.PeerLost
}

// chargeAny charges any program by the end of its process.
func (m *Machine) chargeAny(r *rank, c *Cause) {
	switch {
	case r.life != ended || r.asked:
	case r.Signal != 0:
		m.chargeSignal(r, c)
	default:
		c.Kind, c.Code = CauseExit, ends.Code(r.Code)
		c.Text = fmt.Sprintf("%s exited with code %d%s", m.who(r), r.Code, where(r))
		if r.words != "" {
			c.Text += ": " + r.words
		}
	}
}

// chargeOurs charges a worker of ours by what it said, and if it said nothing by the end
// of its process.
func (m *Machine) chargeOurs(r *rank, c *Cause) {
	set := func(kind CauseKind, code ends.Code, format string, args ...any) {
		c.Kind, c.Code, c.Text = kind, code, fmt.Sprintf(format, args...)
	}
	switch {
	case r.report != nil:
		text := r.report.text
		if text == "" {
			text = "it gave no reason"
		}
		if r.Where != "" {
			text += " (in " + r.Where + ")"
		}
		set(CauseReported, r.report.code, "%s%s", m.prefix(r), text)
	case r.late != nil:
		set(CauseHang, r.late.code, "%s", r.late.text)
		if r.late.code == ends.CannotStart {
			c.Kind = CauseNotStarted
		}
	case r.notStarted != nil:
		set(CauseNotStarted, r.notStarted.code, "%s%s", m.onNode(r.Node), r.notStarted.text)
	case r.asked && r.lost != nil:
		set(CauseReported, ends.PeerLost, "%s%s; its process did not end and was killed", r.lost.text, where(r))
	case r.life != ended || r.asked:
	case r.Signal != 0:
		m.chargeSignal(r, c)
	case !r.ready && r.words != "":
		set(CauseNotStarted, ends.CannotStart, "%s was refused: %s", m.who(r), r.words)
	case !r.ready && !m.current.asked.IsZero() && ends.Code(r.Code) == ends.CannotStart:
		// It came when the attempt was ending.
	case r.lost != nil && r.lost.code == ends.PeerLost:
		set(CauseReported, ends.PeerLost, "%s%s; its process ended with exit code %d", r.lost.text, where(r), r.Code)
	case r.finished && r.Code != 0:
		set(CauseExit, ends.Bug, "%s reported success and then ended with exit code %d", m.who(r), r.Code)
	case r.finished:
	default:
		set(CauseExit, classOf(r.Code), "%s ended with exit code %d and without a report%s; what it said last is above", m.who(r), r.Code, where(r))
	}
}

// chargeSignal charges a rank that a signal ended which was not ours.
func (m *Machine) chargeSignal(r *rank, c *Cause) {
	sig := syscall.Signal(r.Signal)
	c.Kind, c.Code = CauseSignal, 128+ends.Code(sig)
	c.Text = fmt.Sprintf("%s was killed by %s%s", m.who(r), signalName(sig), where(r))
	switch {
	case sig == syscall.SIGKILL && r.memory == OutOfMemory:
		c.Kind, c.Code = CauseMemory, ends.HostMemory
		words := r.words
		if words == "" {
			words = "out of memory"
		}
		c.Text = fmt.Sprintf("%s was killed by the kernel%s: %s", m.who(r), where(r), words)
	case r.words != "":
		c.Text += ": " + r.words
	case sig == syscall.SIGKILL && r.memory == EnoughMemory:
		c.Text += ": not the kernel's out-of-memory killer (oom_kill unchanged); someone or something sent it"
	case sig == syscall.SIGKILL:
		c.Text += ": whether it was the kernel's out-of-memory killer is not known here"
	case m.config.Mode == Ours:
		c.Text += "; what it said last is above"
	}
}

// classOf is the class of a worker of ours that ended by itself and did not say why.
// Codes outside the taxonomy, such as the 2 of a Go program's crash, are bugs of ours.
func classOf(code int) ends.Code {
	c := ends.Code(code)
	if c == ends.Done || c.String() == fmt.Sprintf("exit_%d", code) {
		return ends.Bug
	}
	return c
}

// cause says why the attempt ended; nil if it went well. The first cause wins, by the
// time of the thing itself: what the user stopped was stopped by the user, whatever
// broke on the way, and of the ranks it is the one that failed first.
func (m *Machine) cause() *Cause {
	a := m.current
	if m.allWell() {
		return nil
	}
	first := m.firstFailure()
	for _, c := range m.decided() {
		if first != nil && c.Kind == CauseUser && m.user.drain {
			continue // it was to go on until it has saved
		}
		if first == nil || c.At.Before(first.At) || (c.Kind == CauseUser && m.sameSignal(first)) {
			first = c
		}
	}
	switch {
	case !a.success.IsZero() && (first == nil || !first.At.Before(a.success)):
		if a.stage == leave {
			return &Cause{At: m.now, Kind: CauseUnkillable, Rank: -1, Node: -1, Code: ends.Hang, Text: "rank 0 is done, but others were killed and are not gone: the kernel holds them"}
		}
		return nil
	case first == nil: // every rank that did not finish was ended by us, and there was no reason to
		return &Cause{At: m.now, Kind: CauseReported, Rank: -1, Node: -1, Code: ends.Bug, Text: "the attempt was ended without a cause"}
	default:
		return first
	}
}

// allWell says that every rank ended as it should, and that this was not because it was
// told to end: of another program's 0 it is not known what it means then.
func (m *Machine) allWell() bool {
	a := m.current
	var last time.Time
	for _, r := range a.ranks {
		if !m.well(r) {
			return false
		}
		if r.Ended.After(last) {
			last = r.Ended
		}
	}
	if m.config.Mode == Ours {
		return true // also when a signal came too late
	}
	for _, c := range m.decided() {
		if m.user != nil && m.user.drain && c.Kind == CauseUser {
			continue // they drained well
		}
		if c.At.Before(last) {
			return false
		}
	}
	return true
}

// decided are the causes that are no rank's or node's failure, in order of time.
func (m *Machine) decided() []*Cause {
	a := m.current
	var all []*Cause
	if m.user != nil {
		all = append(all, m.userCause())
	}
	if a.hang != nil {
		all = append(all, m.hangCause())
	}
	if !a.timeout.IsZero() {
		all = append(all, m.timeoutCause(a.timeout))
	}
	for i := range all { // there are three at most
		for j := range all[:i] {
			if all[i].At.Before(all[j].At) {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
	return all
}

// sameSignal says that a rank's death is the user's wish: a scheduler signals all
// processes of a step, and a rank may die of it before it is known here.
func (m *Machine) sameSignal(c *Cause) bool {
	return m.user != nil && m.user.signal != 0 && c.Kind == CauseSignal &&
		c.Code == 128+ends.Code(m.user.signal) && m.user.at.Sub(c.At) <= signalReach
}

// firstFailure is the first failure of a rank or node; nil if there is none.
func (m *Machine) firstFailure() *Cause {
	var first, firstVictim *Cause
	for _, r := range m.current.ranks {
		c, victim := m.charge(r)
		switch {
		case c == nil:
		case victim:
			firstVictim = earlier(firstVictim, c)
		default:
			first = earlier(first, c)
		}
	}
	for _, l := range m.current.losses {
		c := &Cause{At: l.at, Kind: CauseNode, Rank: -1, Node: l.node, Code: ends.PeerLost, Text: m.lossText(l.node, l.text)}
		if m.config.Mode != Ours && first != nil && first.Node != l.node && (first.Kind == CauseExit || first.Kind == CauseSignal) &&
			c.At.Sub(first.At) <= lossNotice {
			first = c // that rank's peers were on this node
		}
		first = earlier(first, c)
	}
	if first == nil {
		return firstVictim
	}
	return first
}

// earlier is the one of two causes that goes first; a if they came at once.
func earlier(a, b *Cause) *Cause {
	if a == nil || b.At.Before(a.At) {
		return b
	}
	return a
}

func (m *Machine) userCause() *Cause {
	text := m.user.text
	if m.current != nil && m.config.Mode == Ours {
		text += where(m.current.ranks[0])
	}
	return &Cause{At: m.user.at, Kind: CauseUser, Rank: -1, Node: -1, Code: m.user.code, Text: text}
}

func (m *Machine) timeoutCause(at time.Time) *Cause {
	return &Cause{At: at, Kind: CauseTimeout, Rank: -1, Node: -1, Code: hangCode, Text: fmt.Sprintf("the job's time limit of %v is over", m.config.Timeout)}
}

// role is the part that a rank had in the end of its attempt.
func (m *Machine) role(r *rank, c *Cause) Role {
	switch {
	case r.live():
		return Remains
	case c != nil && c.Rank == r.Rank:
		return TheCause
	case m.well(r) && !r.asked:
		return Well
	case r.life == withNode:
		return WithNode
	case r.Ended.IsZero():
		return Never
	case r.failed.IsZero() || r.obeyed || r.asked && r.report == nil && r.lost == nil:
		return Ended
	case c != nil && r.failed.Sub(c.At) > consequenceWindow:
		return Later
	default:
		return Consequence
	}
}
