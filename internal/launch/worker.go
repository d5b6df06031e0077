package launch

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/settings"
)

// worker is a rank's process and what is known of it.
type worker struct {
	RankResult
	process  *process // nil if it was not started
	attached bool
	detached bool
	ended    bool      // the process is gone, or never was
	lost     error     // why its stream broke, unless we killed it
	due      time.Time // when it must have gone on: said hello, ended; zero: whenever it likes
	fault    error     // what we hold against it: it was not started, or overdue
	shot     bool      // we sent SIGKILL
	failed   time.Time // the first sign that it fails; zero: none
}

// overdue notes what a worker did not do in time, for which it is ended.
func (w *worker) overdue() {
	switch {
	case w.lost != nil:
		w.fault = ends.Errorf(ends.PeerLost, "%s%s; its process did not end and was killed", oneLine(w.lost.Error()), w.where())
	case !w.attached:
		w.fault = ends.Errorf(ends.CannotStart, "rank %d (process %d) did not say hello within %v and was killed", w.Rank, w.Pid, attachPatience)
	default:
		w.fault = ends.Errorf(ends.Hang, "rank %d (process %d) did not end after its report and was killed", w.Rank, w.Pid)
	}
	if w.failed.IsZero() {
		w.failed = w.due
	}
}

// finished says that the rank reported that its work is done.
func (w *worker) finished() bool { return w.Report != nil && w.Report.GetExitCode() == 0 }

// status is how the process ended; it has.
func (w *worker) status() syscall.WaitStatus {
	status, _ := w.process.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status
}

// wentWell says that the process ended as it should. Its report may still be on the way.
func (w *worker) wentWell() bool {
	status := w.status()
	return status.Exited() && status.ExitStatus() == 0
}

// noteEnd writes down how the process ended.
func (w *worker) noteEnd() {
	if w.process == nil {
		return
	}
	status := w.status()
	w.Ended = fmt.Sprintf("exit code %d", status.ExitStatus())
	if status.Signaled() {
		w.Ended = unix.SignalName(status.Signal())
	}
}

// phase is where the worker was last.
func (w *worker) phase() string {
	switch {
	case w.Report.GetPhase() != "":
		return settings.Shorten(w.Report.GetPhase(), maxPhase)
	case w.Last != nil:
		return settings.Shorten(w.Last.GetPhase(), maxPhase)
	default:
		return ""
	}
}

// where says where the worker was last: " in denoise (3 of 12)".
func (w *worker) where() string {
	phase := w.phase()
	if phase == "" {
		return ""
	}
	if p := w.Last; p.GetTotal() > 1 && settings.Shorten(p.GetPhase(), maxPhase) == phase {
		return fmt.Sprintf(" in %s (%d of %d)", phase, p.GetDone(), p.GetTotal())
	}
	return " in " + phase
}

// reportedPhase names the phase that a report's error belongs to.
func (w *worker) reportedPhase() string {
	if phase := w.phase(); phase != "" {
		return " (in " + phase + ")"
	}
	return ""
}
