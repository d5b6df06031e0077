package main

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/node/local"
)

// follower is a node that does what node 0 says.
type follower struct {
	j      *job
	s      session
	cancel func(error)

	mu     sync.Mutex
	agent  *local.Agent
	signal syscall.Signal // the first that stops us; 0: none
	why    string         // it did, for node 0
	failed error
}

// start starts the node's agent for one meeting.
func (f *follower) start(sink node.Sink, say func(string)) node.Agent {
	sink = leaving{sink, f}
	agent, err := local.New(f.j.localOptions(f.s.files, say), sink)
	stayOff(f.j.division)
	if err != nil {
		f.mu.Lock()
		f.failed = ends.As(ends.CannotStart, err)
		f.mu.Unlock()
		f.cancel(err)
		return unable{sink, err}
	}
	f.mu.Lock()
	f.agent = agent
	f.mu.Unlock()
	return agent
}

// pass does what a signal to this node's launcher means: the ranks end, and node 0 hears
// that this node is gone. SIGUSR1 and SIGUSR2 go to the ranks, unless SIGUSR1 shall drain or
// stop: that is node 0's to do for all nodes, and Slurm signals all of them.
func (f *follower) pass(signals <-chan os.Signal) {
	drains := f.j.rules().DrainOnTERM
	for sig := range signals {
		number, ok := sig.(syscall.Signal)
		if !ok {
			continue
		}
		f.mu.Lock()
		agent := f.agent
		f.mu.Unlock()
		switch {
		case number == syscall.SIGTERM && drains:
			drains = false // node 0 got it too, and has the ranks drain
		case number != syscall.SIGUSR1 && number != syscall.SIGUSR2:
			f.leave(number, "stopped by "+unix.SignalName(number))
		case number == syscall.SIGUSR1 && group.OnUSR1(f.j.launch.OnUSR1) != group.Forward:
		case agent != nil:
			agent.Do(node.Command{Signal: int(number)})
		}
	}
}

// leave ends this node's part, as by a signal.
func (f *follower) leave(number syscall.Signal, why string) {
	f.mu.Lock()
	if f.signal == 0 {
		f.signal, f.why = number, why
	}
	f.mu.Unlock()
	f.cancel(errors.New(why))
}

// leaving is the sink of a node that may leave of its own accord: what its ranks then die of
// is no failure of theirs.
type leaving struct {
	node.Sink
	f *follower
}

func (l leaving) Event(e group.Event) {
	l.f.mu.Lock()
	why := l.f.why
	l.f.mu.Unlock()
	if why != "" {
		if e.Kind != group.Left {
			return
		}
		e.Text = why
	}
	l.Sink.Event(e)
}

// end gives the error its class.
func (f *follower) end(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.failed != nil:
		return f.failed
	case err != nil && f.signal != 0:
		return ends.Errorf(128+ends.Code(f.signal), "stopped by %s", unix.SignalName(f.signal))
	default:
		return err
	}
}

// unable is a node whose agent could not start.
type unable struct {
	sink node.Sink
	err  error
}

func (u unable) Do(c node.Command) {
	if c.Finish {
		u.sink.Event(group.Event{Kind: group.Left})
	}
}
