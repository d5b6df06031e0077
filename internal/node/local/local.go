// Package local is the agent of this machine: it starts the node's ranks through the
// guard, hands their output on line by line, watches them, and ends them.
package local

import (
	"context"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/jobs/owner"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/slurm"
	"github.com/wanrun/wanrun/internal/watch"
)

// Options are what the agent starts, and with what.
type Options struct {
	Node int

	// Path, Args and Dir are the program. Args begins with its name; Dir "" is here.
	Path, Dir string
	Args      []string
	Env       []string // of every rank; what is a rank's own is added
	// Build is that of workers of ours, which attach to a control socket and are given a
	// job; "" is any program.
	Build string

	// LocalRank and LocalWorld are those of a rank that was started as such beside others;
	// LocalWorld 0: all ranks of the machine are this agent's.
	LocalRank, LocalWorld int

	RunID   string   // the job's, for the ranks' environment
	CPUs    [][]int  // by local rank; nil: all that this process may use
	Mem     [][]int  // NUMA nodes by local rank; nil: any
	Visible []string // CUDA_VISIBLE_DEVICES by local rank; nil: what the environment says
	Threads int      // OMP_NUM_THREADS, unless the environment has it; 0: by CPUs
	Stdin   *os.File // rank 0's; nil: /dev/null

	Files    *output.Files // where each rank's output is kept; nil: nowhere
	TempDir  string        // where sockets and error files are, in folders of our own
	StackDir string        // where stacks are written if Files is nil

	HangTimeout time.Duration // of programs that do not say how far they are
	Remedy      string        // what helps against a kill for memory
	SlurmJob    string        // "" outside Slurm
	Slurm       slurm.Command

	Exe   string // this program, to be the guard
	Guard guard.Options
	Root  fs.FS            // os.DirFS("/")
	Now   func() time.Time // called from several goroutines
	Say   func(string)     // what a user should know
}

const (
	// closePatience is how long the kernel may take to let killed processes go.
	closePatience = 10 * time.Second
	// drainPatience is how long the output of ranks that ended is read, when something
	// that they started keeps it open.
	drainPatience = time.Second
)

// Agent is the node. Its commands are done by one goroutine, one after the other.
type Agent struct {
	Options
	sink    node.Sink
	guard   *guard.Guard
	sampler *watch.Sampler
	folder  string // of sockets and error files
	claim   *owner.Claim
	cancel  context.CancelFunc
	watched chan struct{}
	kernel  *watch.KernelLog

	mu      sync.Mutex
	queue   []node.Command
	wake    chan struct{}
	current *attempt // the latest; nil before the first

	done chan struct{}
	left []guard.Remains
	err  error // of the end
}

// New starts the guard and returns the agent. A Finish command ends it.
func New(o Options, sink node.Sink) (*Agent, error) {
	a := &Agent{Options: o, sink: sink, wake: make(chan struct{}, 1), done: make(chan struct{}), watched: make(chan struct{})}
	var err error
	if a.folder, err = os.MkdirTemp(o.TempDir, "wanrun-"); err != nil { // mode 0700
		return nil, err
	}
	o.Guard.Scratch = a.folder // if we are killed, the guard tidies up
	if a.claim, err = owner.Take(a.folder, o.RunID); err != nil {
		a.Say(err.Error()) // wanrun clean will not know whose the folder was
	}
	if a.guard, err = guard.Start(o.Exe, o.Guard); err != nil {
		os.RemoveAll(a.folder)
		return nil, err
	}
	if _, warning := a.guard.Cgroup(); warning != "" {
		a.Say(warning)
	}
	a.kernel, _ = watch.OpenKernelLog("/dev/kmsg") // without it the counters have to do
	a.sampler = watch.NewSampler(watch.Options{Root: o.Root, HangTimeout: o.HangTimeout, Kernel: a.kernel, Remedy: o.Remedy,
		SlurmJob: o.SlurmJob, Slurm: o.Slurm,
		Sample: func(s watch.Sample) { sink.Sample(node.Sample(s)) },
		Silent: func(s watch.Silence) {
			sink.Event(group.Event{At: s.At, Kind: group.Silent, Node: o.Node, Attempt: s.Attempt, Rank: s.Rank, Text: s.Text, Where: s.Where, Stuck: s.Stuck})
		}})
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() {
		defer close(a.watched)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		a.sampler.Run(ctx, ticker.C)
	}()
	go a.run()
	return a, nil
}

// Do hands a command over.
func (a *Agent) Do(c node.Command) {
	a.mu.Lock()
	a.queue = append(a.queue, c)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Wait returns after a Finish: everything is gone but what it returns, which the kernel
// holds.
func (a *Agent) Wait() ([]guard.Remains, error) {
	<-a.done
	return a.left, a.err
}

// GuardPid is the guard's process.
func (a *Agent) GuardPid() int { return a.guard.Pid() }

func (a *Agent) next() (c node.Command, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return c, false
	}
	c = a.queue[0]
	a.queue = a.queue[1:]
	return c, true
}

// killWaits says that a SIGKILL is among the commands that are not done yet.
func (a *Agent) killWaits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.queue {
		if c.Signal == int(syscall.SIGKILL) || c.Finish {
			return true
		}
	}
	return false
}

func (a *Agent) run() {
	for range a.wake {
		for {
			c, ok := a.next()
			if !ok {
				break
			}
			if c.Finish {
				a.finish()
				return
			}
			a.do(c)
		}
	}
}

func (a *Agent) do(c node.Command) {
	switch {
	case c.Start != nil:
		a.end()
		a.start(c.Start)
	case a.current == nil:
	case c.Ask != nil:
		a.current.ask(c.Ask)
	case c.Signal != 0:
		a.current.signal(syscall.Signal(c.Signal))
	case c.Dump:
		go a.dump(a.current)
	}
}

// end sees the latest attempt to its end: its ranks are gone when there is to be another.
func (a *Agent) end() {
	if a.current != nil {
		a.current.signal(syscall.SIGKILL)
		a.current.close()
		a.current = nil
	}
}

func (a *Agent) finish() {
	a.end()
	var err error
	a.left, err = a.guard.Close(closePatience)
	if err != nil {
		a.err = err
	}
	a.cancel()
	<-a.watched
	if a.kernel != nil {
		_ = a.kernel.Close() // it was only read
	}
	if a.claim != nil {
		_ = a.claim.Release() // the file goes, too
	}
	if err := os.RemoveAll(a.folder); err != nil && a.err == nil {
		a.err = err
	}
	a.sink.Event(group.Event{At: a.Now(), Kind: group.Left, Node: a.Node})
	close(a.done)
}
