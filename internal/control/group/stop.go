package group

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/ends"
)

// stage is how far the ranks have been brought towards their end.
type stage int

const (
	nothing stage = iota
	dumping       // the nodes write the stacks of all ranks
	asking        // the ranks were asked to end
	termed        // workers of ours that did not got SIGTERM
	killing       // all got SIGKILL
	leave         // they cannot be ended: the job goes without them
)

const (
	// dumpPatience is how long the stacks are waited for.
	dumpPatience = 2 * time.Second
	// termPatience is how long workers have after SIGTERM, killPatience after SIGKILL,
	// which takes long only if the kernel holds the process.
	termPatience = 2 * time.Second
	killPatience = 10 * time.Second
)

// signaled does what a signal to the launcher means.
func (m *Machine) signaled(e Event) {
	sig := syscall.Signal(e.Signal)
	switch {
	case sig == syscall.SIGTERM && m.config.DrainOnTERM && m.user == nil:
		m.wantDrain(e.At, "SIGTERM")
	case stops(sig), sig == syscall.SIGUSR1 && m.config.OnUSR1 == Stopping:
		m.wantStop(wish{at: e.At, signal: sig, code: 128 + ends.Code(sig), text: "stopped by " + unix.SignalName(sig)})
	case sig == syscall.SIGUSR1 && m.config.OnUSR1 == Draining:
		m.wantDrain(e.At, "SIGUSR1")
	case sig == syscall.SIGUSR1 || sig == syscall.SIGUSR2:
		if m.state == running && m.current.running() && m.current.stage < killing {
			m.act(Action{Kind: Pass, Node: AllNodes, Attempt: m.current.number, Signal: e.Signal})
		}
	}
}

// wantStop is the user's wish that the job ends: the first asks the ranks, the second
// does not wait any longer, the third leaves what is still there.
func (m *Machine) wantStop(w wish) {
	if m.state == over {
		return
	}
	m.stops++
	if m.user == nil || m.user.drain {
		m.user = &w
	}
	if m.state == gathering {
		m.conclude(m.userCause())
		return
	}
	a := m.current
	switch {
	case !a.running():
		// It ends already.
	case m.stops == 1 && (a.stage == nothing || a.draining()):
		m.say(fmt.Sprintf("%s: the job ends within %v; once more ends it at once", m.user.short(), m.config.Grace))
		a.forUser = true
		if w.signal == syscall.SIGQUIT {
			m.dump()
		} else {
			m.ask(w.code, w.text, m.config.Grace)
		}
	case m.stops == 1:
		// The ranks end for another reason, and have the time that they were given.
	case m.stops == 2 && a.stage < killing:
		m.kill()
	case m.stops > 2:
		m.leave()
	}
}

// wantDrain asks the ranks to save what they have and to end, which may take a while.
func (m *Machine) wantDrain(at time.Time, why string) {
	if m.state == over || m.user != nil {
		return
	}
	text := "drained"
	if why != "" {
		text += ": " + why
	}
	m.user = &wish{at: at, code: ends.Retry, text: text, drain: true}
	if m.state == gathering {
		m.conclude(m.userCause())
		return
	}
	if a := m.current; a.running() && a.stage == nothing {
		m.say(text + ": the ranks save what they have, and end")
		a.forUser = true
		m.ask(ends.Retry, text, m.config.DrainGrace)
		if m.config.DrainGrace <= 0 {
			a.due = time.Time{}
		}
	}
}

// short is the wish without its verb: "SIGTERM".
func (w *wish) short() string {
	if w.signal != 0 {
		return unix.SignalName(w.signal)
	}
	return w.text
}

// draining says that the ranks save, and are not pressed.
func (a *attempt) draining() bool { return a.stage == asking && a.askCode == ends.Retry }

// fail ends the ranks beside one that failed: they are asked, and soon killed. What is
// being stopped already goes on as it does, but a drain that breaks is one no more.
func (m *Machine) fail(why string) {
	a := m.current
	if !a.running() || (a.stage != nothing && !a.draining()) {
		return
	}
	if a.draining() && !a.due.IsZero() && a.due.Before(m.now.Add(m.config.FailGrace)) {
		return
	}
	a.forUser = false
	m.ask(ends.PeerLost, why, m.config.FailGrace)
}

// timeUp ends the attempt, and the job with it: its time is up.
func (m *Machine) timeUp() {
	a := m.current
	a.timeout = m.started.Add(m.config.Timeout)
	a.forUser = true
	m.say(m.timeoutCause(a.timeout).Text + ": stacks are written, and the job ends")
	m.dump()
}

// dump has the nodes write the stacks of all ranks; then the ranks are asked to end.
func (m *Machine) dump() {
	a := m.current
	m.act(Action{Kind: Dump, Node: AllNodes, Attempt: a.number})
	m.enter(dumping, dumpPatience)
}

func (m *Machine) dumpedBy(node int) {
	if m.state != running || m.current.stage != dumping || node < 0 || node >= len(m.nodes) {
		return
	}
	a := m.current
	a.dumped[node] = true
	for _, r := range a.ranks {
		if r.live() && !a.dumped[r.Node] {
			return
		}
	}
	a.due = m.now // all have; goOn goes on
}

// ask tells the ranks to end. Those that end because another failed are told the class
// ends.PeerLost, so that none of them is taken for the cause.
func (m *Machine) ask(code ends.Code, text string, grace time.Duration) {
	a := m.current
	a.asked, a.askCode = m.now, code
	m.act(Action{Kind: Ask, Node: AllNodes, Attempt: a.number, Code: code, Text: text})
	m.enter(asking, grace)
}

// kill does not ask.
func (m *Machine) kill() {
	a := m.current
	a.killed = true
	m.act(Action{Kind: Kill, Node: AllNodes, Attempt: a.number})
	m.enter(killing, killPatience)
}

// leave gives up the ranks that still run.
func (m *Machine) leave() {
	a := m.current
	a.stage, a.due = leave, time.Time{}
	for _, r := range a.ranks {
		if r.live() {
			m.say(m.remainsText(r))
		}
	}
}

func (m *Machine) enter(s stage, patience time.Duration) {
	m.current.stage, m.current.due = s, m.now.Add(patience)
}

// nextStage goes on when the time of a stage is over.
func (m *Machine) nextStage() {
	a := m.current
	switch a.stage {
	case dumping:
		m.afterDump()
	case asking:
		if m.config.Mode == Ours && a.forUser {
			m.act(Action{Kind: Pass, Node: AllNodes, Attempt: a.number, Signal: int(syscall.SIGTERM)})
			m.enter(termed, termPatience)
			return
		}
		m.sayKilled()
		m.kill()
	case termed:
		m.sayKilled()
		m.kill()
	case killing:
		m.leave()
	}
}

// afterDump asks the ranks to end, for whatever the stacks were written.
func (m *Machine) afterDump() {
	a := m.current
	switch {
	case m.user != nil && a.hang == nil && a.timeout.IsZero():
		m.ask(m.user.code, m.user.text, m.config.Grace)
	case !a.timeout.IsZero():
		m.ask(ends.Hang, "the time limit of the job", m.config.Grace)
	default:
		m.ask(ends.PeerLost, "a rank hangs, and the others end with it", m.config.FailGrace)
	}
}

// sayKilled names the ranks that had time to end and did not.
func (m *Machine) sayKilled() {
	const maxLines = 16
	a := m.current
	grace := m.now.Sub(a.asked)
	numLines := 0
	for _, r := range a.ranks {
		if !r.live() {
			continue
		}
		if numLines++; numLines > maxLines {
			continue
		}
		text := fmt.Sprintf("%s%s did not end within %v and is killed", m.who(r), process(r), grace.Round(time.Millisecond))
		if m.config.Mode == Ours && !a.forUser {
			m.inform(text) // they had next to no time
		} else {
			m.say(text)
		}
	}
	if numLines > maxLines {
		m.say(fmt.Sprintf("and %d more", numLines-maxLines))
	}
}
