package output

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/settings"
)

// jsonLine is a line of --log-format json. Rank and what belongs to it are absent from the
// launcher's own lines.
type jsonLine struct {
	T       string `json:"t"` // RFC 3339, with nanoseconds
	Level   Level  `json:"level"`
	Rank    *int   `json:"rank,omitempty"`
	Ranks   []int  `json:"ranks,omitempty"` // of a line that several printed; Rank is the first
	Host    string `json:"host,omitempty"`
	Attempt *int   `json:"attempt,omitempty"`
	Stream  string `json:"stream,omitempty"`
	Msg     string `json:"msg"`
	Partial bool   `json:"partial,omitempty"` // the line goes on in the next
	Dropped int    `json:"dropped,omitempty"` // lines of the rank lost before this one
}

func (j jsonLine) line() []byte {
	b, err := json.Marshal(j)
	if err != nil { // no field of it can fail
		b = fmt.Appendf(nil, `{"level":"error","msg":%q}`, err)
	}
	return append(b, '\n')
}

// render makes the bytes of a line of ranks.
func (c *Console) render(l *sameLine, screen Screen) []byte {
	line := l.line
	where := c.look.Where(line.Rank)
	if c.look.JSON {
		j := jsonLine{T: line.At.Format(logFormat), Level: Info, Rank: &line.Rank, Host: settings.Escape(where.Host), Attempt: &line.Attempt,
			Stream: line.Stream, Msg: line.Text, Partial: line.Partial, Dropped: line.Dropped}
		if len(l.ranks) > 1 {
			j.Ranks = l.ranks
		}
		return j.line()
	}
	var prefix []byte
	if len(l.ranks) > 1 {
		prefix = c.manyRanks(l.ranks)
	} else {
		prefix = c.look.Prefix.appendTo(nil, line, where)
	}
	if screen.Colour && len(prefix) > 0 {
		prefix = append(append(appendColour(nil, line.Rank, line.Stream), prefix...), endColour...)
	}
	var b []byte
	if line.Dropped > 0 {
		b = append(b, lostLine(string(prefix), line.Dropped)...)
		if line.Text == "" {
			return b // it only tells of the loss
		}
	}
	b = append(append(b, prefix...), line.Text...)
	if line.Partial {
		b = append(b, "…"...)
	}
	return append(b, '\n')
}

// manyRanks is the prefix of a line that several ranks printed: which ones is said unless
// it was all of them.
func (c *Console) manyRanks(ranks []int) []byte {
	if len(ranks) >= c.look.Size {
		return fmt.Appendf(nil, "(%d ranks) ", len(ranks))
	}
	return fmt.Appendf(nil, "(%d ranks: %s) ", len(ranks), rankList(ranks))
}

// renderLost says that the console dropped lines of a rank.
func (c *Console) renderLost(rank, lines int) []byte {
	if c.look.JSON {
		j := jsonLine{T: c.look.Now().Format(logFormat), Level: Warn, Msg: "lines were not shown: nothing read them", Dropped: lines}
		if rank != ours {
			j.Rank, j.Host = &rank, settings.Escape(c.look.Where(rank).Host)
		}
		return j.line()
	}
	if rank == ours {
		return lostLine("wanrun: ", lines)
	}
	return lostLine(fmt.Sprintf("[r%d] ", rank), lines)
}

// renderOurs makes the bytes of a line of the launcher's own.
func (c *Console) renderOurs(at time.Time, level Level, text string) []byte {
	if c.look.JSON {
		return jsonLine{T: at.Format(logFormat), Level: level, Msg: text}.line()
	}
	head := "wanrun: "
	if level != Info {
		head += string(level) + ": "
	}
	return append([]byte(head), block(text)...)
}

// logLines makes the line of launcher.log.
func logLines(at time.Time, level Level, text string) []byte {
	return append(fmt.Appendf(nil, "%s %-5s ", at.Format(logFormat), level), block(text)...)
}

// block makes text safe to print; it may have several lines.
func block(text string) []byte {
	var b []byte
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		b = append(append(b, printable(line)...), '\n')
	}
	return b
}
