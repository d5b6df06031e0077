package launch

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/settings"
)

// result sums the job up, once it is over.
func (r *run) result() Result {
	o := r.machine.Outcome()
	result := Result{Code: o.Code, Attempts: o.Attempts}
	if len(o.Attempts) == 0 {
		return result
	}
	last := o.Attempts[len(o.Attempts)-1]
	for _, s := range last.Ranks {
		rank := RankResult{Rank: s.Rank, Pid: s.Pid, Ended: ended(s), Report: r.reports[s.Rank]}
		if p, ok := r.last[s.Rank]; ok {
			rank.Last, rank.LastAt = p.p, p.at
		}
		result.Ranks = append(result.Ranks, rank)
	}
	if c := last.Cause; c != nil {
		result.Error = c.Text
		at := max(c.Rank, 0)
		if c.Rank >= 0 {
			result.Failed = &c.Rank
			result.Words = r.ring.LastWords(last.Number, c.Rank)
		}
		if at < len(result.Ranks) {
			result.Phase = phaseOf(result.Ranks[at])
		}
	}
	return result
}

// ended writes how a rank's process ended.
func ended(s group.RankState) string {
	switch {
	case s.Signal != 0:
		return signalName(s.Signal)
	case s.Pid == 0 || s.Ended.IsZero():
		return ""
	default:
		return fmt.Sprintf("exit code %d", s.Code)
	}
}

func signalName(number int) string {
	if name := unix.SignalName(syscall.Signal(number)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", number)
}

// phaseOf is where a worker of ours was last.
func phaseOf(r RankResult) string {
	switch {
	case r.Report.GetPhase() != "":
		return settings.Shorten(r.Report.GetPhase(), maxPhase)
	case r.Last != nil:
		return settings.Shorten(r.Last.GetPhase(), maxPhase)
	default:
		return ""
	}
}

// index notes a rank's start and end beside its logs.
func (r *run) index(e group.Event) {
	i := output.IndexRank{Attempt: e.Attempt, Rank: e.Rank, Node: e.Node, Host: r.names[e.Node], Pid: e.Pid, Code: e.Code, Signal: e.Signal}
	if e.Rank >= 0 && e.Rank < len(r.table) {
		i.Local = r.table[e.Rank].Local
	}
	key := [2]int{e.Attempt, e.Rank}
	if r.indexed == nil {
		r.indexed = map[[2]int]output.IndexRank{}
	}
	if old, ok := r.indexed[key]; ok {
		i.Started, i.Pid = old.Started, max(old.Pid, i.Pid)
	}
	at := e.At
	if e.Kind == group.Started {
		i.Started = &at
	} else {
		i.Ended = &at
	}
	r.indexed[key] = i
	r.Files.Rank(i)
}

// Died says that a rank died or went silent, so that there is more to tell than it said.
func (r Result) Died() bool {
	if len(r.Attempts) == 0 || r.Attempts[len(r.Attempts)-1].Cause == nil {
		return false
	}
	switch r.Attempts[len(r.Attempts)-1].Cause.Kind {
	case group.CauseExit, group.CauseSignal, group.CauseMemory, group.CauseHang, group.CauseNode:
		return true
	default:
		return false
	}
}

// maxWords bounds the last words in a report; with the rest they are 25 lines.
const maxWords = 16

// Failure is what is told of a job that failed, at most 25 lines, the cause first and
// last: who failed, how the others ended, and the failed rank's last words.
func (r Result) Failure(name string, logs string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: FAILED  %s", name, settings.Escape(r.Error))
	if len(r.Attempts) == 0 {
		return b.String() + fmt.Sprintf("\n  exit %d\n", r.Code)
	}
	last := r.Attempts[len(r.Attempts)-1]
	c := last.Cause
	if c != nil && !last.Started.IsZero() {
		fmt.Fprintf(&b, " after %s", formatSeconds(c.At.Sub(last.Started).Seconds()))
	}
	b.WriteString("\n")
	if n := len(r.Attempts); n > 1 {
		fmt.Fprintf(&b, "  attempts   %d; those before ended so:\n", n)
		for _, a := range r.Attempts[max(0, n-4) : n-1] {
			fmt.Fprintf(&b, "    attempt %d  %s\n", a.Number, settings.Escape(a.Cause.Text))
		}
	}
	if c != nil && c.Rank >= 0 {
		line := fmt.Sprintf("  cause      rank %d  %s  %s", c.Rank, r.Ranks[c.Rank].Ended, c.At.Format("15:04:05.000"))
		if logs != "" {
			line += fmt.Sprintf("  in %s/attempt_%d/%s.err", logs, last.Number, output.RankName(c.Rank, len(last.Ranks)))
		}
		b.WriteString(line + "\n")
	}
	r.roles(&b, last)
	if len(r.Words) > 0 {
		fmt.Fprintf(&b, "  last lines of rank %d:\n", c.Rank)
		for _, line := range r.Words[max(0, len(r.Words)-maxWords):] {
			b.WriteString("    | " + settings.Shorten(line, maxWordsLine) + "\n")
		}
	}
	if len(r.Left) > 0 {
		fmt.Fprintf(&b, "  still there: %s\n", settings.Shorten(strings.Join(r.Left, ", "), 500))
	} else {
		b.WriteString("  nothing of the job is left running\n")
	}
	fmt.Fprintf(&b, "%s: exit %d  %s\n", name, r.Code, settings.Escape(r.Error))
	return b.String()
}

const maxWordsLine = 200

// roles says how the ranks beside the cause ended.
func (r Result) roles(b *strings.Builder, a group.Attempt) {
	by := map[group.Role][]int{}
	var gone float64
	for _, s := range a.Ranks {
		by[s.Role] = append(by[s.Role], s.Rank)
		if s.Role == group.Ended && a.Cause != nil {
			gone = max(gone, s.Ended.Sub(a.Cause.At).Seconds())
		}
	}
	for _, role := range []struct {
		role group.Role
		text string
	}{
		{group.Consequence, "failed by themselves within 5 s, likely a consequence"},
		{group.Later, "failed by themselves later"},
		{group.Ended, fmt.Sprintf("ended by wanrun, all gone after %d ms", int(gone*1000+0.5))},
		{group.WithNode, "went with their node"},
		{group.Never, "never started"},
		{group.Well, "ended well"},
		{group.Remains, "did not die"},
	} {
		if ranks := by[role.role]; len(ranks) > 0 {
			fmt.Fprintf(b, "  then       %s %s\n", group.Ranks(ranks), role.text)
		}
	}
}
