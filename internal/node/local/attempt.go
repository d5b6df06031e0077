package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/watch"
)

// attempt is one life of the node's ranks.
type attempt struct {
	agent  *Agent
	start  *node.Start
	server *control.Server // of workers of ours
	ranks  []*rank         // by local number
	ends   sync.WaitGroup  // of the goroutines that wait for the ranks

	mu       sync.Mutex
	attached int
	refused  error // why the first peer was turned away that was
	stopping bool  // no worker is given the job any more
}

// rank is one of the node's.
type rank struct {
	group.Place
	process  *guard.Process
	pipes    []*os.File // our ends of its output
	output   sync.WaitGroup
	streams  []io.WriteCloser // its files; empty: none
	detached chan struct{}    // closed when its stream has ended, if it had one

	mu       sync.Mutex
	attached bool
	sent     map[syscall.Signal]bool // while it was alive
	ended    bool
}

// start starts the node's ranks. If one cannot be, those after it are not tried.
func (a *Agent) start(s *node.Start) {
	at := &attempt{agent: a, start: s}
	a.current = at
	for _, p := range s.World {
		if p.Node == a.Node {
			at.ranks = append(at.ranks, &rank{Place: p, detached: make(chan struct{}), sent: map[syscall.Signal]bool{}})
		}
	}
	failed := false
	if a.Build != "" {
		var err error
		if at.server, err = control.Serve(a.folder, len(s.World), a.Build, handler{at}); err != nil {
			failed = true
			a.refuse(at.ranks[0], err)
		}
	}
	for i, r := range at.ranks {
		if failed || a.killWaits() {
			if !failed || i > 0 || at.server != nil || a.Build == "" {
				a.event(r, group.Event{Kind: group.NotStarted, Asked: true})
			}
			continue
		}
		if err := at.startRank(r); err != nil {
			failed = true
			a.refuse(r, err)
		}
	}
}

func (a *Agent) refuse(r *rank, err error) {
	a.event(r, group.Event{Kind: group.NotStarted, Code: int(ends.CodeOf(err)), Text: err.Error()})
}

func (a *Agent) event(r *rank, e group.Event) {
	if e.At.IsZero() {
		e.At = a.Now()
	}
	e.Node, e.Rank, e.Attempt = a.Node, r.Rank, a.current.start.Attempt
	a.sink.Event(e)
}

// event of an attempt that may not be the latest any more.
func (at *attempt) event(r *rank, e group.Event) {
	if e.At.IsZero() {
		e.At = at.agent.Now()
	}
	e.Node, e.Rank, e.Attempt = at.agent.Node, r.Rank, at.start.Attempt
	at.agent.sink.Event(e)
}

var streams = []string{output.Stdout, output.Stderr}

func (at *attempt) startRank(r *rank) error {
	a := at.agent
	for _, stream := range streams {
		if a.Files == nil {
			break
		}
		w, err := a.Files.Stream(at.start.Attempt, r.Rank, stream)
		if err != nil {
			return ends.As(ends.OutputLost, err)
		}
		r.streams = append(r.streams, w)
	}
	spec := guard.Spec{Path: a.Path, Args: a.Args, Dir: a.Dir, Env: at.env(r), Files: make([]*os.File, 3)}
	if r.Rank == 0 {
		spec.Files[0] = a.Stdin
	}
	if r.Local < len(a.CPUs) {
		spec.CPUs = a.CPUs[r.Local]
	}
	if r.Local < len(a.Mem) {
		spec.MemNodes = a.Mem[r.Local]
	}
	for i := 1; i <= 2; i++ {
		ours, theirs, err := os.Pipe()
		if err != nil {
			r.closePipes()
			return ends.As(ends.CannotStart, err)
		}
		r.pipes = append(r.pipes, ours)
		defer theirs.Close()
		spec.Files[i] = theirs
	}
	begun := a.Now() // it may end before the guard has answered
	p, err := a.guard.Start(spec)
	if err != nil {
		r.closePipes()
		return startError(a.Path, err)
	}
	r.process = p
	for _, warning := range p.Warnings() {
		a.Say(fmt.Sprintf("rank %d: %s", r.Rank, warning))
	}
	a.event(r, group.Event{At: begun, Kind: group.Started, Pid: p.Pid()})
	a.sampler.Add(watch.Target{Attempt: at.start.Attempt, Rank: r.Rank, Pid: p.Pid(), Ours: a.Build != ""}, a.Now())
	for i := range streams {
		r.output.Go(func() { at.read(r, i) })
	}
	at.ends.Go(func() { at.wait(r) })
	return nil
}

// startError gives the error of a start its class.
func startError(path string, err error) error {
	code := ends.CannotStart
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = ends.NotFound // the program's interpreter or loader, if not itself
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.EISDIR):
		code = ends.NotExecutable
	}
	return ends.As(code, fmt.Errorf("start %q: %w", path, err))
}

// read hands on what a rank prints.
func (at *attempt) read(r *rank, i int) {
	a := at.agent
	from := output.Source{Attempt: at.start.Attempt, Rank: r.Rank, Stream: streams[i], Now: a.Now}
	if i < len(r.streams) {
		from.Raw = r.streams[i]
		defer r.streams[i].Close() // its errors are told by Files
	}
	// Files tells of errors of writing, too.
	_ = output.Read(r.pipes[i], from, func(l node.Line) {
		a.sampler.Active(l.Attempt, l.Rank)
		a.sink.Line(l)
	})
}

// wait sees a rank to its end and tells it, after all that the rank itself had to tell.
func (at *attempt) wait(r *rank) {
	a := at.agent
	x := <-r.process.Exited()
	for _, pipe := range r.pipes {
		// What it started is dead, but may not have let go yet. A pipe that knows no
		// deadlines fails, and then the end will come.
		_ = pipe.SetReadDeadline(time.Now().Add(drainPatience))
	}
	r.output.Wait()
	r.closePipes()
	r.mu.Lock()
	r.ended = true
	attached := r.attached
	// A signal that was only passed on is nobody's wish that the rank dies.
	sig := syscall.Signal(x.Signal)
	asked := (sig == syscall.SIGTERM || sig == syscall.SIGKILL) && r.sent[sig]
	r.mu.Unlock()
	if attached {
		select {
		case <-r.detached:
		case <-time.After(drainPatience):
		}
	}
	e := group.Event{At: x.At, Kind: group.Exited, Pid: r.process.Pid(), Code: x.Code, Signal: x.Signal, Asked: asked}
	at.explain(r, x, &e)
	a.sampler.Remove(at.start.Attempt, r.Rank)
	at.event(r, e)
}

// explain says what is known of an end beyond its code.
func (at *attempt) explain(r *rank, x guard.Exit, e *group.Event) {
	a := at.agent
	switch {
	case e.Asked:
	case x.Signal == int(syscall.SIGKILL):
		const patience = 2 * time.Second // for Slurm to answer
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		death := a.sampler.Killed(ctx, watch.End{Attempt: at.start.Attempt, Rank: r.Rank, At: x.At, MaxRSS: x.MaxRSS})
		e.Memory, e.Text = death.Memory, death.Text
	case x.Signal != 0:
		e.Text = a.sampler.Core(at.start.Attempt, r.Rank, x.Signal, x.CoreDumped)
	case x.Code != 0 && a.Build != "":
		at.mu.Lock()
		if !r.attached && at.refused != nil {
			e.Text = at.refused.Error()
		}
		at.mu.Unlock()
	case x.Code != 0:
		e.Text = at.errorFile(r)
	}
}

func (r *rank) closePipes() {
	for _, pipe := range r.pipes {
		pipe.Close()
	}
}

// maxErrorFile bounds what a rank may write about its error.
const maxErrorFile = 64 << 10

// ask brings the ranks to their end: workers of ours over their control channel, others
// by SIGTERM.
func (at *attempt) ask(ask *node.Ask) {
	if at.server == nil {
		at.signal(syscall.SIGTERM)
		at.signal(syscall.SIGCONT) // one that is stopped would not hear it
		return
	}
	at.mu.Lock()
	at.stopping = true
	at.mu.Unlock()
	at.server.Abort(ends.Code(ask.Code), ask.Reason)
}

// signal sends to every rank and all that it started.
func (at *attempt) signal(sig syscall.Signal) {
	if sig == syscall.SIGKILL {
		at.mu.Lock()
		at.stopping = true
		at.mu.Unlock()
	}
	var live []*rank
	var processes []*guard.Process
	for _, r := range at.ranks {
		if r.process == nil {
			continue
		}
		r.mu.Lock()
		if !r.ended {
			r.sent[sig] = true // before it can end of it; taken back if it was dead
			live, processes = append(live, r), append(processes, r.process)
		}
		r.mu.Unlock()
	}
	if len(processes) == 0 {
		return
	}
	for i, alive := range at.agent.guard.Signal(sig, processes...) {
		if !alive {
			live[i].mu.Lock()
			delete(live[i].sent, sig)
			live[i].mu.Unlock()
		}
	}
}

// close waits for the ranks, which are dead or dying, and removes the socket.
func (at *attempt) close() {
	ended := make(chan struct{})
	go func() {
		at.ends.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closePatience): // the kernel holds one; the guard's Close says which
	}
	if at.server != nil {
		if err := at.server.Close(); err != nil {
			at.agent.Say(err.Error())
		}
	}
}

// errorPath is where a rank may say why it fails.
func (at *attempt) errorPath(r *rank) string {
	return filepath.Join(at.agent.folder, fmt.Sprintf("error_%d_%d.json", at.start.Attempt, r.Rank))
}
