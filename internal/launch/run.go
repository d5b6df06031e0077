package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/media"
	"github.com/wanrun/wanrun/internal/settings"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Options are one run. One rank runs; what is per rank is written so that more can.
type Options struct {
	Job     *wanrunv1.Job
	Worker  string   // its program's path
	Build   string   // of this program; the worker's must be the same
	TempDir string   // where the socket's folder is made
	Env     []string // the worker's environment, to which the job's variables are added
	Grace   time.Duration
	Signals <-chan os.Signal
	Now     func() time.Time
	Root    fs.FS // the file system, for the kernel's counters
	Show    Renderer
	Log     *zap.Logger
}

// Result is how a run went.
type Result struct {
	Code    ends.Code
	Error   string // one line; "" when it went well
	Phase   string // in which it ended, if not well
	Started time.Time
	Seconds float64
	Ranks   []RankResult
}

// RankResult is how one rank went.
type RankResult struct {
	Rank   int
	Pid    int
	Ended  string // "exit code 0", "SIGKILL"
	Report *wanrunv1.Report
	Last   *wanrunv1.Progress // nil if there was none
}

// Report is the first rank's, which has the output; nil if it sent none.
func (r Result) Report() *wanrunv1.Report {
	if len(r.Ranks) == 0 {
		return nil
	}
	return r.Ranks[0].Report
}

const (
	// attachPatience is how long a worker may take to say hello: its program may
	// come over a slow network.
	attachPatience = 2 * time.Minute
	// lonelyPatience is what a worker has to end after its stream broke.
	lonelyPatience = 3 * time.Second
	// drainPatience is how long messages and output of a worker that ended are waited for.
	drainPatience = time.Second
)

// Run runs the job to its end. It returns after the worker, all that it started,
// and the socket are gone.
func Run(o Options) Result {
	r := &run{Options: o, events: make(chan event, 64), over: make(chan struct{}),
		stopper: stopper{grace: o.Grace}, rank: RankResult{}, before: readMemoryEvents(o.Root)}
	started := o.Now()
	err := r.run()
	result := Result{Code: ends.CodeOf(err), Started: started, Seconds: o.Now().Sub(started).Seconds(), Ranks: []RankResult{r.rank}}
	if err != nil {
		result.Error, result.Phase = err.Error(), r.phase()
		r.tidy()
	}
	return result
}

// run is the state of Run. Only the loop touches it, save for events, over and stopping.
type run struct {
	Options
	events   chan event
	over     chan struct{} // closed when nobody takes events any more
	stopping atomic.Bool   // no new worker gets its job

	server   *control.Server
	process  *process
	stopper  stopper
	rank     RankResult
	before   memoryEvents
	attached bool
	detached bool
	lost     error          // why the stream broke
	refused  error          // why a peer was turned away
	signal   syscall.Signal // that the user sent first
}

// event is something that happened outside the loop; one field is set.
type event struct {
	attached *wanrunv1.Hello
	progress *wanrunv1.Progress
	report   *wanrunv1.Report
	detached bool
	err      error // of detached
	refused  error
	stream   string // of line
	line     string
}

// post hands an event to the loop, and drops it after the loop's end.
func (r *run) post(e event) {
	select {
	case r.events <- e:
	case <-r.over:
	}
}

func (r *run) run() (err error) {
	r.server, err = control.Serve(r.TempDir, 1, r.Build, handler{r})
	if err != nil {
		return err
	}
	defer func() {
		close(r.over)
		err = errors.Join(err, r.server.Close())
	}()
	r.process, err = startProcess(r.Worker, r.workerEnv(), func(stream, text string) { r.post(event{stream: stream, line: text}) })
	if err != nil {
		return startError(r.Worker, err)
	}
	r.rank.Pid = r.process.pid()
	r.stopper.expect(r.Now(), attachPatience)
	if !r.loop() {
		return ends.Errorf(ends.Hang, "rank 0 (process %d) does not end although it was killed: the kernel holds it", r.rank.Pid)
	}
	r.drain()
	return r.verdict()
}

// tidy removes what a worker that was killed could not.
func (r *run) tidy() {
	if r.process == nil || r.rank.Report != nil || r.Job.GetOutput() == "" {
		return
	}
	if err := media.RemoveLeftover(r.Job.GetOutput()); err != nil {
		r.Log.Warn("a temporary file is left: " + settings.Escape(err.Error()))
	}
}

func (r *run) workerEnv() []string {
	const rank, size = 0, 1
	return append(r.Env[:len(r.Env):len(r.Env)],
		"WANRUN_CONTROL="+r.server.Socket(), "WANRUN_TOKEN="+r.server.Token(),
		"WANRUN_RANK="+strconv.Itoa(rank), "WANRUN_WORLD_SIZE="+strconv.Itoa(size))
}

// loop takes what happens until the worker has ended; false if it never does.
func (r *run) loop() bool {
	for {
		var timer <-chan time.Time
		if !r.stopper.deadline.IsZero() {
			timer = time.After(max(0, r.stopper.deadline.Sub(r.Now())))
		}
		select {
		case <-r.process.ended:
			return true
		case e := <-r.events:
			r.take(e)
		case sig := <-r.Signals:
			r.interrupted(sig)
		case <-timer:
			if r.act(r.stopper.tick(r.Now())); r.stopper.stage == leave {
				return false
			}
		}
	}
}

// drain takes what the worker said before it ended.
func (r *run) drain() {
	output := make(chan struct{})
	go func() {
		r.process.drain(drainPatience)
		close(output)
	}()
	deadline, patient := time.After(2*drainPatience), true
	for output != nil || (patient && r.attached && !r.detached) {
		select {
		case e := <-r.events:
			r.take(e)
		case <-output:
			output = nil
		case <-deadline:
			patient = false // with its stream; reading its output has an end
		}
	}
	for {
		select {
		case e := <-r.events:
			r.take(e)
		default:
			return
		}
	}
}

func (r *run) take(e event) {
	switch {
	case e.attached != nil:
		r.attached = true
		r.stopper.calm()
		if err := r.server.Seal(); err != nil { // nobody else is to come
			r.Log.Warn("control socket", zap.Error(err))
		}
	case e.progress != nil:
		r.rank.Last = e.progress
		r.Show.Progress(0, e.progress)
	case e.report != nil:
		r.rank.Report = e.report
		r.stopper.expect(r.Now(), r.Grace+lonelyPatience)
	case e.detached:
		r.detached = true
		if e.err != nil {
			r.lost = e.err
			r.stopper.expect(r.Now(), lonelyPatience)
		}
	case e.refused != nil:
		r.refused = e.refused
		r.Log.Debug("refused a peer", zap.Error(e.refused))
	case e.stream != "":
		r.Show.Line(0, e.stream, e.line)
	}
}

func (r *run) interrupted(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if r.signal == 0 {
		r.signal = number
		r.Log.Info(fmt.Sprintf("%s: the run ends within %v; once more ends it at once", unix.SignalName(number), r.Grace))
	}
	r.act(r.stopper.stop(r.Now()))
}

func (r *run) act(a action) {
	switch a {
	case ask:
		r.stopping.Store(true)
		r.server.Abort(128+ends.Code(r.signal), "stopped by "+unix.SignalName(r.signal))
	case term:
		r.process.signal(syscall.SIGTERM)
	case kill:
		r.process.signal(syscall.SIGKILL)
	}
}

// handler hands the server's calls to the loop.
type handler struct{ r *run }

func (h handler) Attached(hello *wanrunv1.Hello) (*wanrunv1.Job, error) {
	if h.r.stopping.Load() {
		return nil, errors.New("the run is being stopped")
	}
	h.r.post(event{attached: hello})
	return h.r.Job, nil
}
func (h handler) Progress(_ int, p *wanrunv1.Progress) { h.r.post(event{progress: p}) }
func (h handler) Report(_ int, m *wanrunv1.Report)     { h.r.post(event{report: m}) }
func (h handler) Detached(_ int, err error)            { h.r.post(event{detached: true, err: err}) }
func (h handler) Refused(err error)                    { h.r.post(event{refused: err}) }
