package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/generate"
	"github.com/wanrun/wanrun/internal/runfolder"
	"github.com/wanrun/wanrun/internal/sampler"
	"github.com/wanrun/wanrun/pkg/comm"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// saving keeps the first rank's state in the run folder.
type saving struct {
	job      *wanrunv1.Job
	build    string
	run      *generate.Run
	draining func() bool
	notice   func(string)

	folder *runfolder.Folder // nil before the first save
	facts  map[string]string // nil until they are wanted: they touch the weights
	next   int               // that of the last save, -1 before the first
	failed bool              // a save did
}

// save keeps the state if it is its turn. What cannot be saved does not end a run, unless
// saving is all that is left to do.
func (s *saving) save(g generate.Saved) error {
	next, must := g.Solver.Next, s.draining()
	every := int(s.job.GetSaveEvery())
	if s.job.GetRunDir() == "" || next == s.next || !must && next != g.Solver.Steps && (every <= 0 || next%every != 0) {
		return nil
	}
	err := s.write(g)
	switch {
	case err == nil:
		s.next = next
	case must:
		return ends.As(ends.OutputLost, err)
	case !s.failed:
		s.failed = true
		s.notice(fmt.Sprintf("after step %d: %v; a run that is lost from here on has to begin anew", next, err))
	}
	return nil
}

func (s *saving) write(g generate.Saved) error {
	if s.folder == nil {
		folder, err := runfolder.Create(s.job.GetRunDir())
		if err != nil {
			return err
		}
		s.folder = folder
	}
	state := runfolder.State{Header: runfolder.Header{Build: s.build, Args: s.job.GetResumeArgs(), Facts: s.now(), Next: g.Solver.Next,
		Steps: g.Solver.Steps, Kind: g.Solver.Kind, Shift: strconv.FormatFloat(g.Solver.Shift, 'g', -1, 64), Apart: g.Apart, Ranks: ranksText(s.job)}}
	if g.Solver.Next > 0 {
		state.Add(runfolder.Latent, g.Latent)
		state.Add(runfolder.X0, g.Solver.X0)
		state.Add(runfolder.PrevX0, g.Solver.PrevX0)
		state.Add(runfolder.Sample, g.Solver.Sample)
	}
	return s.folder.Write(state)
}

// now are the facts of this run.
func (s *saving) now() map[string]string {
	if s.facts == nil {
		s.facts = s.run.Facts()
		s.facts["device"] = s.job.GetDevice()
	}
	return s.facts
}

func ranksText(m *wanrunv1.Job) string {
	return fmt.Sprintf("cfg %d, ring %d, ulysses %d", max(m.GetCfg(), 1), max(m.GetRing(), 1), max(m.GetUlysses(), 1))
}

// load returns what the run goes on from: nil is the beginning. The user's wish to resume
// must be met; a group that was started again begins anew if it has to.
func (s *saving) load() (*generate.Saved, error) {
	if s.job.GetRunDir() == "" || !s.job.GetResume() && s.job.GetWorld().GetAttempt() == 0 {
		return nil, nil
	}
	saved, err := s.read()
	switch {
	case s.job.GetResume():
		return saved, ends.As(ends.BadInput, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil // the attempt before had not got so far
	case err != nil:
		s.notice(err.Error() + "; the run begins anew")
		return nil, nil
	default:
		return saved, nil
	}
}

func (s *saving) read() (*generate.Saved, error) {
	state, err := runfolder.Read(s.job.GetRunDir())
	if err != nil {
		return nil, err
	}
	if d := state.Differences(s.build, s.now()); d != "" {
		return nil, fmt.Errorf("the run in %q cannot go on here: %s", s.job.GetRunDir(), d)
	}
	shift, err := strconv.ParseFloat(state.Shift, 64)
	if err != nil {
		return nil, fmt.Errorf("the run in %q has shift %q", s.job.GetRunDir(), state.Shift)
	}
	if now := ranksText(s.job); state.Ranks != now && !state.Complete() {
		s.notice(fmt.Sprintf("the run goes on with %s and began with %s: the last bits of the video may be others than without a break", now, state.Ranks))
	}
	s.next = state.Next
	return &generate.Saved{Latent: state.Get(runfolder.Latent), Apart: state.Apart, Solver: sampler.State{Kind: state.Kind, Steps: state.Steps, Shift: shift,
		Next: state.Next, X0: state.Get(runfolder.X0), PrevX0: state.Get(runfolder.PrevX0), Sample: state.Get(runfolder.Sample)}}, nil
}

// drained keeps a run that was asked to end before it had a state: it begins anew, with
// the same settings.
func (s *saving) drained() error {
	if s.job.GetRunDir() == "" || s.next >= 0 {
		return nil
	}
	err := s.write(generate.Saved{Solver: sampler.State{Kind: s.job.GetSolver(), Steps: int(s.job.GetSteps()), Shift: s.job.GetShift()}})
	return ends.As(ends.OutputLost, err)
}

// done removes the state of a run whose output is on disk.
func (s *saving) done() {
	if s.job.GetRunDir() == "" || s.job.GetKeepRunDir() {
		return
	}
	if err := runfolder.Remove(s.job.GetRunDir()); err != nil {
		s.notice(err.Error())
	}
}

func (s *saving) close() error {
	if s.folder == nil {
		return nil
	}
	return s.folder.Close()
}

// drainer ends the work when the launcher asks for it: between two steps while it
// denoises, not at all while the output is being finished, and otherwise at once, for
// nothing is lost then that was not saved or is quickly made again.
type drainer struct {
	cancel context.CancelCauseFunc
	cause  func() error // nil: it was not asked

	mu    sync.Mutex
	later bool // the phase sees to it itself
}

// enter notes the phase.
func (d *drainer) enter(phase string) {
	d.mu.Lock()
	d.later = phase == generate.PhaseDenoise || phase == generate.PhaseWrite
	d.mu.Unlock()
	d.look()
}

// look cancels the work if it is to end now.
func (d *drainer) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.cause(); err != nil && !d.later {
		d.cancel(err)
	}
}

func (d *drainer) asked() bool { return d.cause() != nil }

// watch looks once the launcher has asked, until stop is called.
func (d *drainer) watch(asked <-chan struct{}) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-asked:
			d.look()
		case <-over:
		}
	}()
	return func() { close(over); <-ended }
}

// drainNews is how long a rank that lost its peers waits for the news that all are to end.
const drainNews = 300 * time.Millisecond

// resolve tells what a rank ended of when it was asked to: not of what followed from that.
func (d *drainer) resolve(work context.Context, err error, asked <-chan struct{}) error {
	if err == nil || ends.CodeOf(err) == ends.OutputLost {
		return err
	}
	drained := errors.Is(err, generate.ErrDrained) || errors.Is(err, comm.ErrAborted)
	if drained && work.Err() == nil {
		select {
		case <-asked:
			return d.cause()
		case <-work.Done():
		case <-time.After(drainNews):
		}
	}
	if cause := d.cause(); cause != nil && context.Cause(work) == cause {
		return cause
	}
	return err
}

// goOn has the run go on from where it was saved, and be saved and drained from there.
func (w *worker) goOn(ctx context.Context, run *generate.Run, host *generate.Host, world comm.Group) error {
	host.Draining = w.drain.asked
	var saved *generate.Saved
	if w.saving != nil {
		host.Save = w.saving.save
		var err error
		if saved, err = w.saving.load(); err != nil {
			return err
		}
	}
	if err := run.Continue(ctx, world, saved); err != nil {
		return err
	}
	if from := run.Resumed(); from > 0 && w.saving != nil {
		w.notices = append(w.notices, fmt.Sprintf("the run went on after step %d of %d", from, w.job.GetSteps()))
	}
	return nil
}

// keep sees to the run folder once it is clear how the work ended.
func (w *worker) keep(err error) error {
	switch {
	case w.saving == nil:
		return err
	case err == nil:
		w.saving.done()
	case ends.CodeOf(err) == ends.Retry:
		if saveErr := w.saving.drained(); saveErr != nil {
			return saveErr
		}
	}
	return err
}
