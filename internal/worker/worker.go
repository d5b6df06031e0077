// Package worker is one rank: it attaches to the launcher, runs the job that it
// is given and reports. Here the pieces are wired together: checkpoint, backend,
// memory, models, output.
package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/generate"
	"github.com/wanrun/wanrun/internal/media"
	"github.com/wanrun/wanrun/internal/version"
	"github.com/wanrun/wanrun/internal/watch"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Config is what a worker gets from its environment.
type Config struct {
	Socket, Token string
	Rank, Size    int
	// Nodes is the node of each rank; nil puts all on one. The job says it.
	Nodes []int
	Build string
	Log   *zap.Logger

	// NVML is the library's file, "" for the driver's own. Visible is CUDA_VISIBLE_DEVICES,
	// nil where it is not set, and LocalRank which of those devices is this rank's.
	NVML      string
	Visible   *string
	LocalRank int
}

// Run attaches, runs the job and reports; the error has been reported already, if
// anyone was there to hear it.
func Run(ctx context.Context, c Config) error {
	session, job, err := control.Attach(ctx, c.Socket, &wanrunv1.Hello{
		Rank: int32(c.Rank), Pid: int32(os.Getpid()), Build: c.Build, Token: c.Token}, func(file string) {
		if err := watch.Goroutines(file); err != nil {
			c.Log.Warn("stacks", zap.Error(err))
		}
	})
	if err != nil {
		return err
	}
	for _, node := range job.GetWorld().GetNodes() {
		c.Nodes = append(c.Nodes, int(node))
	}
	w := &worker{config: c, job: job, session: session, log: c.Log, start: time.Now()}
	work, cancel := context.WithCancelCause(session.Context())
	defer cancel(nil)
	w.monitor = watchMemory(gpuConfig{c.NVML, c.Visible, c.LocalRank}, job.GetDevice(), session.Progress, c.Log, cancel, w.start)
	w.drain = &drainer{cancel: cancel, cause: session.DrainCause}
	stopWatching := w.drain.watch(session.Drain())
	err = w.generate(work)
	stopWatching()
	w.monitor.close()
	if err != nil && work.Err() != nil {
		err = context.Cause(work) // whatever failed then failed because of it
	}
	if reportErr := session.Report(w.report(err)); reportErr != nil {
		c.Log.Warn("the report was not delivered", zap.Error(reportErr))
	}
	return errors.Join(err, session.Close())
}

type worker struct {
	config  Config
	job     *wanrunv1.Job
	session *control.Session
	log     *zap.Logger
	start   time.Time
	monitor *monitor
	drain   *drainer
	saving  *saving // nil but on the first rank, once the inputs are good

	phase     string
	phases    []generate.PhaseResult
	planned   *generate.Result // of this rank
	result    *generate.Result
	reserved  *tensor.Space
	backend   tensor.Backend
	writer    media.FrameWriter // nil but on the first rank
	notices   []string
	branches  string // how those of guidance run; "" if on ranks of their own
	size      int64  // of the output
	phaseFrom time.Time
}

// generate makes the video. A panic below is a bug of ours: it becomes an error,
// so that the launcher hears which phase it was in, with the stack in the log.
func (w *worker) generate(ctx context.Context) (err error) {
	work := ctx
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("panic", zap.Any("value", p), zap.ByteString("stack", debug.Stack()))
			err = ends.Errorf(ends.Bug, "panic in %s: %v", w.phase, p)
		}
	}()
	w.begin(generate.PhaseTokenize)
	ckpt, err := w.openCheckpoint()
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	defer func() { err = errors.Join(err, ckpt.Close()) }()
	job, err := w.typedJob()
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	if err := ckpt.CheckTask(w.job.GetTask()); err != nil {
		return ends.As(ends.BadInput, err)
	}
	run, err := generate.Prepare(ctx, job, ckpt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	w.notices = append(w.notices, run.Notices...)
	w.log.Debug("inputs are good", zap.Int("width", run.Width()), zap.Int("height", run.Height()))

	if w.config.Rank == 0 {
		if err := w.openOutput(run); err != nil {
			return ends.As(ends.OutputLost, err)
		}
		defer w.writer.Abort()
		w.saving = &saving{job: w.job, build: w.config.Build, run: run, draining: w.drain.asked, next: -1,
			notice: func(text string) { w.notices = append(w.notices, text) }}
		defer func() { err = errors.Join(err, w.saving.close()) }()
	}
	world, ctx, leave, err := w.join(ctx)
	if err != nil {
		return classify(err)
	}
	err = w.execute(ctx, run, job, world)
	err = w.drain.resolve(work, classify(leave(err)), w.session.Drain())
	return w.keep(err)
}

func (w *worker) execute(ctx context.Context, run *generate.Run, job generate.Job, world comm.Group) (err error) {
	threads := int(w.job.GetThreads())
	if threads == 0 {
		threads = max(1, cpu.Threads()/w.config.localSize())
	}
	backend := cpu.New(threads)
	defer backend.Close()
	w.backend = backend
	host := generate.Host{Now: time.Now, RSSPeak: rssPeak, Progress: w.progress, Share: share, Wide: wide(threads, w.config.localSize())}

	if err := w.goOn(ctx, run, &host, world); err != nil {
		return err
	}
	plans, err := w.plan(ctx, run, host, world)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	w.planned = plans[w.config.Rank]
	w.monitor.planIs(plannedBytes(w.planned, backend.Name()))
	w.end()
	w.reserved, err = tensor.Reserve(backend, w.planned.Peak())
	if err != nil {
		return ends.As(ends.HostMemory, fmt.Errorf("reserve %d MiB: %w", w.planned.Peak().Total()>>20, err))
	}
	defer func() { err = errors.Join(err, w.reserved.Close()) }()
	if limit := w.job.GetMemLimit(); limit > 0 {
		w.reserved.Limit(limit)
	}

	w.result, err = run.Execute(ctx, backend, w.reserved, world, w.sink(), host)
	w.phases = append(w.phases, w.result.Phases...)
	if err != nil || w.writer == nil {
		return err
	}
	w.begin(generate.PhaseWrite)
	if err := w.finish(job); err != nil {
		return ends.As(ends.OutputLost, err)
	}
	w.end()
	return nil
}

// plan plans all ranks, and chooses how the branches of guidance run if that was left to
// the memory that there is.
func (w *worker) plan(ctx context.Context, run *generate.Run, host generate.Host, world comm.Group) (plans []*generate.Result, err error) {
	if w.job.GetCfgBranches() == branchesAuto && run.Resumed() == 0 {
		var why string
		plans, why, err = run.PlanBranches(ctx, w.backend, host, world, available(os.DirFS("/"), w.config.localSize()))
		if why != "" && (world != nil || run.BranchesApart()) { // one rank that has room needs no remark
			w.notices = append(w.notices, "branches of guidance "+why)
		}
	} else {
		plans, err = run.Plan(ctx, w.backend, host)
	}
	if w.job.GetCfg() <= 1 {
		w.branches = map[bool]string{false: branchesTogether, true: branchesApart}[run.BranchesApart()]
	}
	return plans, err
}

// sink is where this rank's frames go: only the first has any.
func (w *worker) sink() generate.Sink {
	if w.writer == nil {
		return generate.Discard{}
	}
	return w.writer
}

// classify gives an error of a phase its class.
func classify(err error) error {
	switch {
	case errors.Is(err, comm.ErrTimeout):
		return ends.As(ends.Hang, err)
	case errors.Is(err, comm.ErrMismatch):
		return ends.As(ends.Bug, err)
	case errors.Is(err, comm.ErrAborted):
		return ends.As(ends.PeerLost, err)
	case errors.Is(err, tensor.ErrNoMemory):
		return ends.As(ends.HostMemory, err)
	case errors.Is(err, media.ErrOutput):
		return ends.As(ends.OutputLost, err)
	case errors.Is(err, checkpoint.ErrCheckpoint):
		return ends.As(ends.BadInput, err)
	default:
		return err
	}
}

func (w *worker) openCheckpoint() (*checkpoint.Checkpoint, error) {
	if dir := w.job.GetCkptDir(); dir != "" {
		return checkpoint.OpenDir(dir)
	}
	return checkpoint.OpenFS("demo model", examples.DemoCheckpoint())
}

// openOutput makes the target before anything is computed.
func (w *worker) openOutput(run *generate.Run) error {
	var err error
	w.writer, err = media.Create(w.job.GetOutput(), media.Options{
		W: run.Width(), H: run.Height(), FPS: int(w.job.GetFps()), NumFrames: run.Frames(),
		Encoder: w.job.GetEncoder(), FFmpeg: w.job.GetFfmpeg(), Metadata: []byte(w.job.GetSettingsJson()),
		Tool: "wanrun " + version.Version, Threads: int(w.job.GetThreads())})
	if err != nil {
		return err
	}
	if sheet := w.job.GetContactSheet(); sheet != "" {
		w.writer = &sheetWriter{FrameWriter: w.writer, path: sheet, w: run.Width(), h: run.Height()}
	}
	return nil
}

// finish completes the output, and the dump if one was asked for.
func (w *worker) finish(job generate.Job) error {
	if err := w.writer.Close(); err != nil {
		return err
	}
	info, err := os.Stat(w.writer.Path())
	if err != nil {
		return fmt.Errorf("the output is not on disk: %w", err)
	}
	w.size = info.Size()
	if job.Dump != nil {
		return writeDump(w.job.GetDump(), job.Dump)
	}
	return nil
}

// begin and end bracket the phases outside generate.Execute.
func (w *worker) begin(phase string) {
	w.phase, w.phaseFrom = phase, time.Now()
	w.progress(generate.Progress{Phase: phase, Total: 1})
}

func (w *worker) end() {
	w.progress(generate.Progress{Phase: w.phase, Done: 1, Total: 1})
	w.phases = append(w.phases, generate.PhaseResult{Name: w.phase, Seconds: time.Since(w.phaseFrom).Seconds(), RSSPeak: rssPeak()})
}

func (w *worker) progress(p generate.Progress) {
	w.phase = p.Phase
	w.drain.enter(p.Phase)
	m := &wanrunv1.Progress{Phase: p.Phase, Done: int32(p.Done), Total: int32(p.Total),
		ElapsedSeconds: time.Since(w.start).Seconds()}
	if w.reserved != nil {
		m.DeviceBytes = generate.Bytes(w.reserved.Used()).Total()
	}
	w.monitor.say(m)
}

// report sums the run up, however it ended.
func (w *worker) report(err error) *wanrunv1.Report {
	code := ends.CodeOf(err)
	r := &wanrunv1.Report{ExitCode: int32(code), ExitClass: code.String(), Seconds: time.Since(w.start).Seconds(),
		RssPeakBytes: rssPeak(), Seed: w.job.GetSeed(), Notices: w.notices, CfgBranches: w.branches}
	if err != nil {
		r.Error, r.Phase = err.Error(), w.phase
		if who := w.monitor.holders(); who != "" && code == ends.DeviceMemory {
			r.Error += "; " + who
		}
	}
	if w.backend != nil {
		r.Backend = w.backend.Name()
	}
	for _, p := range w.phases {
		m := &wanrunv1.Phase{Name: p.Name, Seconds: p.Seconds, RssPeakBytes: p.RSSPeak, UsedBytes: purposes(p.Peak), UsedHostBytes: p.HostWeights}
		m.RssAnonymousPeak, m.GpuOwnPeak, m.GpuUsedPeak = w.monitor.peaksOf(p.Name)
		if w.planned != nil {
			i := slices.IndexFunc(w.planned.Phases, func(q generate.PhaseResult) bool { return q.Name == p.Name })
			if i >= 0 {
				planned := w.planned.Phases[i].Peak
				m.PredictedBytes, m.PredictedHostBytes = purposes(planned), w.planned.Phases[i].HostWeights
				if err == nil && (planned != p.Peak || m.PredictedHostBytes != p.HostWeights) {
					r.Notices = append(r.Notices, fmt.Sprintf("%s was planned with %d bytes and used %d: please report this",
						p.Name, planned.Total()+m.PredictedHostBytes, p.Peak.Total()+p.HostWeights))
				}
			}
		}
		r.Phases = append(r.Phases, m)
	}
	if w.planned != nil {
		r.PredictedBytes, r.PredictedHostBytes = w.planned.Peak().Total(), w.planned.HostWeights()
	}
	if w.result != nil {
		r.Width, r.Height, r.Frames = int32(w.result.Width), int32(w.result.Height), int32(w.result.Frames)
		r.UsedBytes, r.UsedHostBytes = w.result.Peak().Total(), w.result.HostWeights()
	}
	if err == nil && w.writer != nil {
		r.Output, r.OutputBytes, r.Encoder = w.writer.Path(), w.size, w.writer.Encoder()
	}
	return r
}

func purposes(b generate.Bytes) map[string]int64 {
	m := map[string]int64{}
	for p, n := range b {
		if n > 0 {
			m[tensor.Purpose(p).String()] = n
		}
	}
	return m
}

// maxPictureFile bounds a picture's file before it is read.
const maxPictureFile = 256 << 20

func readPicture(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("picture %q does not exist", path)
	case err != nil:
		return nil, fmt.Errorf("picture: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("picture %q is not a file", path)
	case info.Size() > maxPictureFile:
		return nil, fmt.Errorf("picture %q has %d MiB; at most %d are read", path, info.Size()>>20, maxPictureFile>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("picture: %w", err)
	}
	return data, nil
}
