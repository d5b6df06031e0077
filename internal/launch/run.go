package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
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

// Options are one run.
type Options struct {
	Job     *wanrunv1.Job // the same for every rank
	Ranks   int           // how many workers there are, all on this machine
	Worker  string        // their program's path
	Build   string        // of this program; the workers' must be the same
	TempDir string        // where the socket's folder is made
	Env     []string      // the workers' environment, to which the job's variables are added
	Grace   time.Duration
	Signals <-chan os.Signal
	Now     func() time.Time // called from several goroutines
	Root    fs.FS            // the file system, for the kernel's counters
	Show    Renderer
	Log     *zap.Logger
}

// Result is how a run went.
type Result struct {
	Code    ends.Code
	Error   string // one line; "" when it went well
	Phase   string // in which it ended, if not well
	Failed  *int   // the rank that ended it; nil if it went well, or none of them did
	Started time.Time
	Seconds float64
	Ranks   []RankResult
}

// RankResult is how one rank went.
type RankResult struct {
	Rank   int
	Pid    int    // 0 if it was not started
	Ended  string // "exit code 0", "SIGKILL"
	Report *wanrunv1.Report
	Last   *wanrunv1.Progress // nil if there was none
	LastAt time.Time          // when that came
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
	// drainPatience is how long messages and output of workers that ended are waited for.
	drainPatience = time.Second
)

// Run runs the job to its end. It returns after the workers, all that they started,
// and the socket are gone. The ranks are one: when one fails, none goes on.
func Run(o Options) Result {
	o.Ranks = max(o.Ranks, 1)
	r := &run{Options: o, events: make(chan event, 64), exits: make(chan exit, o.Ranks), over: make(chan struct{}),
		stopper: stopper{grace: o.Grace}, before: readMemoryEvents(o.Root)}
	for rank := range o.Ranks {
		r.workers = append(r.workers, &worker{RankResult: RankResult{Rank: rank}})
	}
	started := o.Now()
	v := r.run()
	result := Result{Code: ends.CodeOf(v.err), Started: started, Seconds: o.Now().Sub(started).Seconds()}
	for _, w := range r.workers {
		result.Ranks = append(result.Ranks, w.RankResult)
	}
	if v.err != nil {
		result.Error, result.Phase = v.err.Error(), r.workers[0].phase()
		if v.failed != nil {
			result.Phase, result.Failed = v.failed.phase(), &v.failed.Rank
		}
		r.tidy()
	}
	return result
}

// run is the state of Run. Only the loop touches it, save for the channels and stopping.
type run struct {
	Options
	events   chan event
	exits    chan exit
	over     chan struct{} // closed when nobody takes events any more
	stopping atomic.Bool   // no new worker gets its job

	server   *control.Server
	workers  []*worker // by rank
	stopper  stopper
	before   memoryEvents
	refused  error          // why the first peer was turned away that was
	signal   syscall.Signal // that the user sent first
	signaled time.Time      // when
}

// event is something that happened to a rank outside the loop; one field is set but
// for rank and at.
type event struct {
	rank int
	at   time.Time

	attached *wanrunv1.Hello
	progress *wanrunv1.Progress
	report   *wanrunv1.Report
	detached bool
	err      error  // of detached
	refused  error  // of no rank
	stream   string // of line
	line     string
}

// exit is the end of a rank's process.
type exit struct {
	rank int
	at   time.Time
}

// post hands an event to the loop, and drops it after the loop's end.
func (r *run) post(e event) {
	e.at = r.Now()
	select {
	case r.events <- e:
	case <-r.over:
	}
}

func (r *run) run() (v verdict) {
	var err error
	r.server, err = control.Serve(r.TempDir, r.Ranks, r.Build, handler{r})
	if err != nil {
		return verdict{err: err}
	}
	defer func() {
		close(r.over)
		if err := r.server.Close(); err != nil {
			v.err = errors.Join(v.err, err)
		}
	}()
	r.start()
	if !r.loop() {
		return verdict{err: r.unkillable()}
	}
	r.drain()
	return r.verdict()
}

// start starts the workers. If one cannot be, those before it are ended.
func (r *run) start() {
	for _, w := range r.workers {
		w.ended = true
	}
	for _, w := range r.workers {
		p, err := startProcess(r.Worker, r.workerEnv(w.Rank), func(stream, text string) {
			r.post(event{rank: w.Rank, stream: stream, line: text})
		})
		if err != nil {
			w.fault = startError(r.Worker, err)
			w.failed = r.Now()
			r.act(r.stopper.kill(r.Now()))
			return
		}
		w.process, w.Pid, w.ended = p, p.pid(), false
		w.due = r.Now().Add(attachPatience)
		go func() {
			<-p.ended
			r.exits <- exit{w.Rank, r.Now()} // has room for all
		}()
	}
}

func (r *run) unkillable() error {
	var left []string
	for _, w := range r.workers {
		if !w.ended {
			left = append(left, fmt.Sprintf("rank %d (process %d)", w.Rank, w.Pid))
		}
	}
	return ends.Errorf(ends.Hang, "%s: killed, but not gone: the kernel holds it", strings.Join(left, ", "))
}

// tidy removes what a worker that was killed could not. The first rank writes the output.
func (r *run) tidy() {
	if w := r.workers[0]; w.process == nil || w.Report != nil || r.Job.GetOutput() == "" {
		return
	}
	if err := media.RemoveLeftover(r.Job.GetOutput()); err != nil {
		r.Log.Warn("a temporary file is left: " + settings.Escape(err.Error()))
	}
}

func (r *run) workerEnv(rank int) []string {
	env := r.Env[:len(r.Env):len(r.Env)]
	for _, v := range []struct{ name, value string }{
		{"CONTROL", r.server.Socket()}, {"TOKEN", r.server.Token()},
		{"RANK", fmt.Sprint(rank)}, {"WORLD_SIZE", fmt.Sprint(r.Ranks)},
		{"LOCAL_RANK", fmt.Sprint(rank)}, {"LOCAL_WORLD_SIZE", fmt.Sprint(r.Ranks)}, // all are on this machine
	} {
		env = append(env, "WANRUN_"+v.name+"="+v.value)
	}
	return env
}

// loop takes what happens until the workers have ended; false if one never does.
func (r *run) loop() bool {
	for r.running() {
		var timer <-chan time.Time
		if deadline := r.deadline(); !deadline.IsZero() {
			timer = time.After(max(0, deadline.Sub(r.Now())))
		}
		select {
		case e := <-r.exits:
			r.exited(e)
		case e := <-r.events:
			r.take(e)
		case sig := <-r.Signals:
			r.interrupted(sig)
		case <-timer:
			if r.tick(); r.stopper.stage == leave {
				return false
			}
		}
	}
	return true
}

func (r *run) running() bool {
	for _, w := range r.workers {
		if !w.ended {
			return true
		}
	}
	return false
}

// deadline is the next time at which something is due, zero if nothing is.
func (r *run) deadline() time.Time {
	next := r.stopper.deadline
	if r.stopper.stage != nothing {
		return next
	}
	for _, w := range r.workers {
		if !w.ended && !w.due.IsZero() && (next.IsZero() || w.due.Before(next)) {
			next = w.due
		}
	}
	return next
}

// tick does what is due.
func (r *run) tick() {
	now := r.Now()
	if r.stopper.stage != nothing {
		r.act(r.stopper.tick(now))
		return
	}
	for _, w := range r.workers {
		if !w.ended && !w.due.IsZero() && !now.Before(w.due) {
			w.overdue()
			r.act(r.stopper.fail(now))
		}
	}
}

// drain takes what the workers said before they ended.
func (r *run) drain() {
	var readers sync.WaitGroup
	for _, w := range r.workers {
		if w.process != nil {
			readers.Go(func() { w.process.drain(drainPatience) })
		}
	}
	output := make(chan struct{})
	go func() {
		readers.Wait()
		close(output)
	}()
	deadline, patient := time.After(2*drainPatience), true
	for output != nil || (patient && r.talking()) {
		select {
		case e := <-r.events:
			r.take(e)
		case <-output:
			output = nil
		case <-deadline:
			patient = false // with their streams; reading their output has an end
		}
	}
	r.takeWaiting()
}

// talking says that the end of a worker's stream is still to come.
func (r *run) talking() bool {
	for _, w := range r.workers {
		if w.attached && !w.detached {
			return true
		}
	}
	return false
}

func (r *run) take(e event) {
	w := r.workers[e.rank]
	switch {
	case e.attached != nil:
		w.attached, w.due = true, time.Time{}
		r.seal()
	case e.progress != nil:
		w.Last, w.LastAt = e.progress, e.at
		r.Show.Progress(e.rank, e.progress)
	case e.report != nil:
		w.Report = e.report
		w.due = r.Now().Add(r.Grace + lonelyPatience)
		if e.report.GetExitCode() != 0 {
			r.broke(w, e.at)
		}
	case e.detached:
		w.detached = true
		if e.err != nil && !w.shot {
			w.lost = e.err
			w.due = r.Now().Add(lonelyPatience)
			r.broke(w, e.at)
		}
	case e.refused != nil:
		if r.refused == nil && !errors.Is(e.refused, errStopping) {
			r.refused = e.refused
		}
		r.Log.Debug("refused a peer", zap.Error(e.refused))
	case e.stream != "":
		r.Show.Line(e.rank, e.stream, e.line)
	}
}

// seal removes the socket when nobody else is to come.
func (r *run) seal() {
	for _, w := range r.workers {
		if !w.attached {
			return
		}
	}
	if err := r.server.Seal(); err != nil {
		r.Log.Warn("control socket", zap.Error(err))
	}
}

func (r *run) exited(e exit) {
	r.takeWaiting() // what it said before
	w := r.workers[e.rank]
	w.ended = true
	if !w.shot && !(w.attached && w.wentWell()) {
		r.broke(w, e.at)
	}
}

func (r *run) takeWaiting() {
	for {
		select {
		case e := <-r.events:
			r.take(e)
		default:
			return
		}
	}
}

// broke notes that a rank failed, and ends the others: they could only wait for it.
// One that is alone has the time to end by itself.
func (r *run) broke(w *worker, at time.Time) {
	if w.failed.IsZero() || at.Before(w.failed) {
		w.failed = at
	}
	if len(r.workers) > 1 && r.running() {
		r.act(r.stopper.fail(r.Now()))
	}
}

func (r *run) interrupted(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if r.signal == 0 {
		r.signal, r.signaled = number, r.Now()
		r.Log.Info(fmt.Sprintf("%s: the run ends within %v; once more ends it at once", unix.SignalName(number), r.Grace))
	}
	r.act(r.stopper.stop(r.Now()))
}

func (r *run) act(a action) {
	switch a {
	case ask:
		r.stopping.Store(true)
		code, reason := r.abort()
		r.server.Abort(code, reason)
	case term:
		for _, w := range r.workers {
			if !w.ended {
				w.process.signal(syscall.SIGTERM)
			}
		}
	case kill:
		r.stopping.Store(true)
		for _, w := range r.workers {
			if !w.ended {
				w.shot = w.process.signal(syscall.SIGKILL) || w.shot
			}
		}
	}
}

// abort is what the workers are told when they are asked to end. Those that end because
// another failed are of class ends.PeerLost, so that none of them is taken for the cause.
func (r *run) abort() (ends.Code, string) {
	if r.signal != 0 {
		return 128 + ends.Code(r.signal), "stopped by " + unix.SignalName(r.signal)
	}
	for _, w := range r.workers {
		if !w.failed.IsZero() {
			return ends.PeerLost, fmt.Sprintf("rank %d failed, and the others end with it", w.Rank)
		}
	}
	return ends.PeerLost, "a rank failed, and the others end with it"
}

var errStopping = errors.New("the run is being stopped")

// handler hands the server's calls to the loop.
type handler struct{ r *run }

func (h handler) Attached(hello *wanrunv1.Hello) (*wanrunv1.Job, error) {
	if h.r.stopping.Load() {
		return nil, errStopping
	}
	h.r.post(event{rank: int(hello.GetRank()), attached: hello})
	return h.r.Job, nil
}
func (h handler) Progress(rank int, p *wanrunv1.Progress) { h.r.post(event{rank: rank, progress: p}) }
func (h handler) Report(rank int, m *wanrunv1.Report)     { h.r.post(event{rank: rank, report: m}) }
func (h handler) Detached(rank int, err error) {
	h.r.post(event{rank: rank, detached: true, err: err})
}
func (h handler) Refused(err error) { h.r.post(event{refused: err}) }
