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

// phase is where the worker was last.
func (r *run) phase() string {
	switch {
	case r.rank.Report != nil && r.rank.Report.GetPhase() != "":
		return settings.Shorten(r.rank.Report.GetPhase(), maxPhase)
	case r.rank.Last != nil:
		return settings.Shorten(r.rank.Last.GetPhase(), maxPhase)
	default:
		return ""
	}
}

// verdict says how the run ended, from the worker's report, how its process
// ended, and what was asked of it. The first cause wins: what the user stopped was
// stopped by the user, whatever broke on the way.
func (r *run) verdict() error {
	state := r.process.cmd.ProcessState
	status, _ := state.Sys().(syscall.WaitStatus)
	r.rank.Ended = fmt.Sprintf("exit code %d", status.ExitStatus())
	if status.Signaled() {
		r.rank.Ended = unix.SignalName(status.Signal())
	}
	report := r.rank.Report
	finished := report != nil && report.GetExitCode() == 0
	switch {
	case finished && status.Exited() && status.ExitStatus() == 0:
		return nil // also when a signal came too late
	case r.signal != 0:
		return ends.Errorf(128+ends.Code(r.signal), "stopped by %s%s", unix.SignalName(r.signal), r.where())
	case report != nil && report.GetExitCode() != 0:
		code := ends.Code(report.GetExitCode())
		if code < 0 || code > 255 {
			code = ends.Bug
		}
		return ends.Errorf(code, "%s%s", oneLine(report.GetError()), r.reportedPhase())
	case status.Signaled():
		return r.killed(status.Signal())
	case !r.attached && r.refused != nil:
		return ends.Errorf(ends.CannotStart, "rank 0 was refused: %s", oneLine(r.refused.Error()))
	case r.lost != nil && !errors.Is(r.lost, control.ErrNoReport):
		return ends.Errorf(ends.PeerLost, "%s%s; its process ended with exit code %d", oneLine(r.lost.Error()), r.where(), status.ExitStatus())
	case finished:
		return ends.Errorf(ends.Bug, "rank 0 reported success and then ended with exit code %d", status.ExitStatus())
	default:
		return r.silent(ends.Code(status.ExitStatus()))
	}
}

// killed is the verdict on a worker that a signal ended.
func (r *run) killed(sig syscall.Signal) error {
	name := unix.SignalName(sig)
	switch {
	case r.stopper.stage != nothing && r.lost != nil:
		return ends.Errorf(ends.PeerLost, "%s%s; its process did not end and was killed", oneLine(r.lost.Error()), r.where())
	case r.stopper.stage != nothing && !r.attached:
		return ends.Errorf(ends.CannotStart, "rank 0 (process %d) did not say hello within %v and was killed", r.rank.Pid, attachPatience)
	case r.stopper.stage != nothing:
		return ends.Errorf(ends.Hang, "rank 0 (process %d) did not end after its report and was killed", r.rank.Pid)
	case sig == syscall.SIGKILL:
		byOOM, words := killer(r.before, readMemoryEvents(r.Root))
		code := 128 + ends.Code(sig)
		if byOOM {
			code = ends.HostMemory
		}
		if r.rank.Last != nil && r.rank.Last.GetRssBytes() > 0 {
			words += fmt.Sprintf("; it last used %s", formatBytes(r.rank.Last.GetRssBytes()))
		}
		return ends.Errorf(code, "rank 0 was killed by %s%s: %s", name, r.where(), words)
	default:
		return ends.Errorf(128+ends.Code(sig), "rank 0 was killed by %s%s; what it said last is above", name, r.where())
	}
}

// silent is the verdict on a worker that ended by itself and did not say why. Codes
// outside the taxonomy, such as the 2 of a Go program's crash, are bugs of ours.
func (r *run) silent(code ends.Code) error {
	class := code
	if code == ends.Done || strings.HasPrefix(code.String(), "exit_") {
		class = ends.Bug
	}
	return ends.Errorf(class, "rank 0 ended with exit code %d and without a report%s; what it said last is above", code, r.where())
}

// reportedPhase names the phase that a report's error belongs to.
func (r *run) reportedPhase() string {
	if phase := r.phase(); phase != "" {
		return " (in " + phase + ")"
	}
	return ""
}

// where says where the worker was last: " in denoise (3 of 12)".
func (r *run) where() string {
	phase := r.phase()
	if phase == "" {
		return ""
	}
	if p := r.rank.Last; p != nil && p.GetTotal() > 1 && settings.Shorten(p.GetPhase(), maxPhase) == phase {
		return fmt.Sprintf(" in %s (%d of %d)", phase, p.GetDone(), p.GetTotal())
	}
	return " in " + phase
}

// oneLine makes a worker's text safe to print as one line. Joined errors are lines.
func oneLine(s string) string {
	if s == "" {
		return "it gave no reason"
	}
	return settings.Shorten(strings.ReplaceAll(strings.TrimSpace(s), "\n", "; "), maxError)
}
