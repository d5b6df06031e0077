package launch

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/settings"
)

// maxError bounds the line that says why a run ended.
const maxError = 8000

// verdict is how a run ended.
type verdict struct {
	err    error   // nil if it went well
	failed *worker // whose failure it was; nil if nobody's
}

// verdict says how the run ended, from the workers' reports, how their processes
// ended, and what was asked of them. The first cause wins: what the user stopped was
// stopped by the user, whatever broke on the way, and of the ranks it is the one that
// failed first. Ranks that only lost a peer are asked last: a death is often
// noticed by the dead rank's peers before it is by us.
func (r *run) verdict() verdict {
	var first verdict
	done := true
	for _, w := range r.workers {
		w.noteEnd()
		done = done && w.process != nil && w.finished() && w.wentWell()
		err := r.charge(w)
		if err == nil {
			continue
		}
		if first.failed == nil || earlier(w, err, first.failed, first.err) {
			first = verdict{err, w}
		}
	}
	switch {
	case done:
		return verdict{} // also when a signal came too late
	case r.signal != 0 && (first.failed == nil || !first.failed.failed.Before(r.signaled)):
		return verdict{err: ends.Errorf(128+ends.Code(r.signal), "stopped by %s%s", unix.SignalName(r.signal), r.workers[0].where())}
	case first.failed == nil: // every rank that did not finish was killed by us, and there was no reason to
		return verdict{err: ends.Errorf(ends.Bug, "the run was ended without a cause")}
	default:
		return first
	}
}

// earlier says whether a's error goes before b's.
func earlier(a *worker, errA error, b *worker, errB error) bool {
	victimA, victimB := ends.CodeOf(errA) == ends.PeerLost, ends.CodeOf(errB) == ends.PeerLost
	if victimA != victimB {
		return victimB
	}
	return a.failed.Before(b.failed)
}

// charge is what a rank did wrong; nil if it finished, or was ended for another's fault.
func (r *run) charge(w *worker) error {
	report := w.Report
	switch {
	case w.failed.IsZero():
		return nil // also if it ended by itself when it was about to be killed
	case report.GetExitCode() != 0:
		code := ends.Code(report.GetExitCode())
		if code < 0 || code > 255 {
			code = ends.Bug
		}
		return ends.Errorf(code, "%s%s%s", r.prefix(w), oneLine(report.GetError()), w.reportedPhase())
	case w.fault != nil:
		return w.fault
	case w.process == nil: // another could not be started
		return nil
	}
	status := w.status()
	switch {
	case status.Signaled() && w.shot && w.lost != nil:
		return ends.Errorf(ends.PeerLost, "%s%s; its process did not end and was killed", oneLine(w.lost.Error()), w.where())
	case status.Signaled() && w.shot:
		return nil
	case status.Signaled():
		return r.killed(w, status.Signal())
	case !w.attached && r.refused != nil:
		return ends.Errorf(ends.CannotStart, "rank %d was refused: %s", w.Rank, oneLine(r.refused.Error()))
	case !w.attached && r.stopper.failed && ends.Code(status.ExitStatus()) == ends.CannotStart:
		return nil // it came when the run was ending
	case w.lost != nil && !errors.Is(w.lost, control.ErrNoReport):
		return ends.Errorf(ends.PeerLost, "%s%s; its process ended with exit code %d", oneLine(w.lost.Error()), w.where(), status.ExitStatus())
	case w.finished() && status.ExitStatus() != 0:
		return ends.Errorf(ends.Bug, "rank %d reported success and then ended with exit code %d", w.Rank, status.ExitStatus())
	case w.finished():
		return nil
	default:
		return silent(w, ends.Code(status.ExitStatus()))
	}
}

// prefix names the rank before its own words, where there are several.
func (r *run) prefix(w *worker) string {
	if len(r.workers) == 1 {
		return ""
	}
	return fmt.Sprintf("rank %d: ", w.Rank)
}

// killed is the charge against a worker that a signal ended which was not ours.
func (r *run) killed(w *worker, sig syscall.Signal) error {
	name := unix.SignalName(sig)
	if sig != syscall.SIGKILL {
		return ends.Errorf(128+ends.Code(sig), "rank %d was killed by %s%s; what it said last is above", w.Rank, name, w.where())
	}
	byOOM, words := killer(r.before, readMemoryEvents(r.Root))
	code := 128 + ends.Code(sig)
	if byOOM {
		code = ends.HostMemory
	}
	if w.Last.GetRssBytes() > 0 {
		words += fmt.Sprintf("; it last used %s", formatBytes(w.Last.GetRssBytes()))
	}
	return ends.Errorf(code, "rank %d was killed by %s%s: %s", w.Rank, name, w.where(), words)
}

// silent is the charge against a worker that ended by itself and did not say why. Codes
// outside the taxonomy, such as the 2 of a Go program's crash, are bugs of ours.
func silent(w *worker, code ends.Code) error {
	class := code
	if code == ends.Done || strings.HasPrefix(code.String(), "exit_") {
		class = ends.Bug
	}
	return ends.Errorf(class, "rank %d ended with exit code %d and without a report%s; what it said last is above", w.Rank, code, w.where())
}

// oneLine makes a worker's text safe to print as one line. Joined errors are lines.
func oneLine(s string) string {
	if s == "" {
		return "it gave no reason"
	}
	return settings.Shorten(strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "), maxError)
}
