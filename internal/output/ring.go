package output

import (
	"slices"
	"strings"
	"sync"

	"github.com/wanrun/wanrun/internal/node"
)

const (
	// maxLast is how many lines of a stream a Ring keeps.
	maxLast = 20
	// maxLastLine bounds in bytes what it keeps of a line.
	maxLastLine = 4 << 10
)

// Ring keeps the last lines of each rank's streams, for the report. It may be used from
// several goroutines. A rank's new attempt takes the place of the one before.
type Ring struct {
	redact *Redactor

	mu   sync.Mutex
	last map[ringKey]*lastLines
}

type ringKey struct {
	rank   int
	stream string
}

type lastLines struct {
	attempt int
	lines   []node.Line // the oldest first
}

// NewRing returns an empty ring; redact may be nil.
func NewRing(redact *Redactor) *Ring { return &Ring{redact: redact, last: map[ringKey]*lastLines{}} }

// Add takes a line. A line that came in pieces is one line here.
func (r *Ring) Add(line node.Line) {
	if line.Stream != Stdout && line.Stream != Stderr {
		return
	}
	text := r.redact.Redact(line.Text)
	r.mu.Lock()
	defer r.mu.Unlock()
	key := ringKey{line.Rank, line.Stream}
	l := r.last[key]
	if l == nil || l.attempt < line.Attempt {
		l = &lastLines{attempt: line.Attempt}
		r.last[key] = l
	}
	if l.attempt > line.Attempt {
		return
	}
	if n := len(l.lines); n > 0 && l.lines[n-1].Partial && line.Dropped == 0 {
		l.lines[n-1].Text = keep(l.lines[n-1].Text + text)
		l.lines[n-1].Partial = line.Partial
		return
	}
	line.Text = keep(text)
	if len(l.lines) == maxLast {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
	l.lines = append(l.lines, line)
}

// keep shortens a text to what is kept of it, and lets go of the memory of the rest.
func keep(text string) string {
	if len(text) <= maxLastLine {
		return text
	}
	n := wholeCharacters([]byte(text[:maxLastLine-len("…")]))
	return strings.Clone(text[:n]) + "…"
}

// Last is what was kept of a rank's stream in an attempt, the oldest line first.
func (r *Ring) Last(attempt, rank int, stream string) []node.Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.last[ringKey{rank, stream}]; l != nil && l.attempt == attempt {
		return slices.Clone(l.lines)
	}
	return nil
}

// LastWords is what to show of a rank that failed: the last lines of its stderr, or of
// its stdout if it wrote none.
func (r *Ring) LastWords(attempt, rank int) []string {
	lines := r.Last(attempt, rank, Stderr)
	if len(lines) == 0 {
		lines = r.Last(attempt, rank, Stdout)
	}
	var text []string
	for _, line := range lines {
		text = append(text, line.Text)
	}
	return text
}
