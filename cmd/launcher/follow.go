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
	failed error
}

// start starts the node's agent for one meeting.
func (f *follower) start(sink node.Sink, say func(string)) node.Agent {
	agent, err := local.New(f.j.localOptions(f.s.files, say), sink)
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
// that this node is gone. SIGUSR1 and SIGUSR2 go to the ranks.
func (f *follower) pass(signals <-chan os.Signal) {
	for sig := range signals {
		number, ok := sig.(syscall.Signal)
		if !ok {
			continue
		}
		f.mu.Lock()
		agent := f.agent
		stops := number != syscall.SIGUSR1 && number != syscall.SIGUSR2
		if stops && f.signal == 0 {
			f.signal = number
		}
		f.mu.Unlock()
		switch {
		case stops:
			f.cancel(errors.New("stopped by " + unix.SignalName(number)))
		case agent != nil:
			agent.Do(node.Command{Signal: int(number)})
		}
	}
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
