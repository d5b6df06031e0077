package group

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/ends"
)

// Bounds of what others say, in bytes.
const (
	maxText  = 8000
	maxName  = 256
	maxWhere = 256
)

// plain makes a text of others safe to print as one line. Joined errors are lines.
func plain(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	if strings.IndexFunc(s, func(c rune) bool { return !strconv.IsPrint(c) || c == '\uFFFD' }) < 0 {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if strconv.IsPrint(c) {
			b.WriteRune(c)
		} else {
			quoted := strconv.QuoteRune(c)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// label is "node 2 (gpu-07)".
func (m *Machine) label(node int) string {
	if name := m.nodes[node].name; name != "" {
		return fmt.Sprintf("node %d (%s)", node, name)
	}
	return fmt.Sprintf("node %d", node)
}

// on is " on gpu-07" where there are several nodes.
func (m *Machine) on(node int) string {
	switch name := m.nodes[node].name; {
	case m.config.Nodes == 1:
		return ""
	case name == "":
		return fmt.Sprintf(" on node %d", node)
	default:
		return " on " + name
	}
}

// onNode is the same before a text: "on gpu-07: ".
func (m *Machine) onNode(node int) string {
	if on := m.on(node); on != "" {
		return on[1:] + ": "
	}
	return ""
}

// who is "rank 1", of another program "rank 1 of 4", and where there are several nodes
// "rank 1 on gpu-07".
func (m *Machine) who(r *rank) string {
	of := ""
	if m.config.Mode != Ours {
		of = fmt.Sprintf(" of %d", len(m.current.ranks))
	}
	return fmt.Sprintf("rank %d%s%s", r.Rank, of, m.on(r.Node))
}

// prefix names the rank before its own words, where there are several.
func (m *Machine) prefix(r *rank) string {
	if len(m.current.ranks) == 1 {
		return ""
	}
	return m.who(r) + ": "
}

// where is where the rank was last: " in denoise (3 of 12)".
func where(r *rank) string {
	if r.Where == "" {
		return ""
	}
	return " in " + r.Where
}

func (m *Machine) lossText(node int, why string) string {
	return fmt.Sprintf("%s is lost: %s", m.label(node), why)
}

// remainsText says what is left of a rank that cannot be ended.
func (m *Machine) remainsText(r *rank) string {
	if r.life == starting {
		return fmt.Sprintf("%s: nothing was heard of its start", m.who(r))
	}
	if m.current.killed {
		return fmt.Sprintf("%s%s was killed, but is not gone: the kernel holds it", m.who(r), process(r))
	}
	return fmt.Sprintf("%s%s still runs", m.who(r), process(r))
}

// process is " (process 6802)", if it is known.
func process(r *rank) string {
	if r.Pid == 0 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", r.Pid)
}

func signalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// codeOf makes what a node says an exit code of a failure.
func codeOf(code int) ends.Code {
	if code < 1 || code > 255 {
		return ends.Bug
	}
	return ends.Code(code)
}

// ranges writes numbers in order as "0,2-4".
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		last := i
		for last+1 < len(numbers) && numbers[last+1] == numbers[last]+1 {
			last++
		}
		part := strconv.Itoa(numbers[i])
		if last > i {
			part += "-" + strconv.Itoa(numbers[last])
		}
		parts = append(parts, part)
		i = last + 1
	}
	return strings.Join(parts, ",")
}
