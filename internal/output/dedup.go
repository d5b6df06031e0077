package output

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/node"
)

const (
	// samePatience is how long a line waits for other ranks to print the same.
	samePatience = time.Second
	// maxSame and maxSameBytes bound what waits; beyond them the oldest goes on at once.
	maxSame      = 4096
	maxSameBytes = 4 << 20
)

// same merges equal lines of several ranks. Lines go on in the order of their first
// arrival, so that a rank's own lines stay in order unless another rank was ahead
// with one. It has no clock: the time comes in.
type same struct {
	size  map[string]int // ranks shown of a stream: a line that all of them printed waits no longer
	queue []*sameLine
	index map[sameKey]*sameLine // the latest of a text
	bytes int
}

type sameKey struct {
	attempt      int
	stream, text string
}

// sameLine is a line and who printed it.
type sameLine struct {
	line  node.Line // of the first rank
	ranks []int     // sorted
	due   time.Time
}

func (l *sameLine) key() sameKey { return sameKey{l.line.Attempt, l.line.Stream, l.line.Text} }

func newSame(size map[string]int) *same { return &same{size: size, index: map[sameKey]*sameLine{}} }

// add takes a line. What can go on is what due returns then.
func (s *same) add(line node.Line, now time.Time) {
	key := sameKey{line.Attempt, line.Stream, line.Text}
	if l := s.index[key]; l != nil && line.Dropped == 0 && l.line.Partial == line.Partial {
		if i, found := slices.BinarySearch(l.ranks, line.Rank); !found {
			l.ranks = slices.Insert(l.ranks, i, line.Rank)
			return
		}
	}
	l := &sameLine{line: line, ranks: []int{line.Rank}, due: now.Add(samePatience)}
	s.queue, s.index[key] = append(s.queue, l), l
	s.bytes += len(line.Text)
}

// due returns the lines that go on now: those that waited long enough or that all ranks
// printed, up to the first that has to wait.
func (s *same) due(now time.Time) []*sameLine {
	n := 0
	for n < len(s.queue) && (len(s.queue[n].ranks) >= s.size[s.queue[n].line.Stream] || !now.Before(s.queue[n].due) ||
		len(s.queue)-n > maxSame || s.bytes > maxSameBytes) {
		s.bytes -= len(s.queue[n].line.Text)
		n++
	}
	return s.take(n)
}

// rest returns all lines.
func (s *same) rest() []*sameLine {
	s.bytes = 0
	return s.take(len(s.queue))
}

func (s *same) take(n int) []*sameLine {
	out := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	for _, l := range out {
		if s.index[l.key()] == l {
			delete(s.index, l.key())
		}
	}
	return out
}

// next is when the first line has to go on; ok is false if none waits.
func (s *same) next() (at time.Time, ok bool) {
	if len(s.queue) == 0 {
		return time.Time{}, false
	}
	return s.queue[0].due, true
}

// rankList writes sorted ranks as "0,4-7".
func rankList(ranks []int) string {
	var b strings.Builder
	for i := 0; i < len(ranks); {
		j := i
		for j+1 < len(ranks) && ranks[j+1] == ranks[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", ranks[i])
		if j > i {
			fmt.Fprintf(&b, "-%d", ranks[j])
		}
		i = j + 1
	}
	return b.String()
}
