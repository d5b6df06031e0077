// Package top draws what a job's ranks do and take, for a terminal.
package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/jobs"
)

// Look is the screen.
type Look struct {
	Width, Height int  // in characters; below the least that makes sense, that is taken
	ASCII         bool // the terminal knows nothing else
}

const (
	minWidth, minHeight = 60, 8
	maxWidth            = 400
	// plotRows is the height of the plot, which there is if the screen has room.
	plotRows = 6
	barWidth = 20
	// maxHistory bounds what is plotted: a screen's width is less.
	maxHistory = maxWidth
)

// History is the plot's data: what the fullest rank took, at each look.
type History struct {
	values []int64 // bytes; -1 unknown
	times  []time.Time
	what   string
}

// Add takes a look at the job.
func (h *History) Add(s jobs.Status) {
	n, what := int64(-1), ""
	for _, r := range s.Ranks {
		v, w, _ := taken(r)
		if what == "" || w == what {
			what = w
		}
		if v != nil && w == what {
			n = max(n, *v)
		}
	}
	if what != h.what { // the ranks know more, or less, than before: another plot
		h.values, h.times, h.what = nil, nil, what
	}
	if len(h.values) == maxHistory {
		h.values, h.times = h.values[1:], h.times[1:]
	}
	h.values, h.times = append(h.values, n), append(h.times, s.Now)
}

// taken is the memory of a rank that matters most, and the most that there is of it; nil
// for what is not known.
func taken(r jobs.Rank) (n *int64, what string, most *int64) {
	switch {
	case r.GPU != nil:
		return r.GPU, "GPU", r.GPUTotal
	case r.GPUUsed != nil:
		return r.GPUUsed, "GPU, all processes", r.GPUTotal
	case r.Reserved != nil && r.Arena != nil:
		return r.Arena, "arena", r.Reserved
	}
	return r.RSS, "RSS", nil
}

// Frame draws the job on at most look.Height lines.
func Frame(s jobs.Status, h *History, look Look) string {
	look.Width, look.Height = min(max(look.Width, minWidth), maxWidth), max(look.Height, minHeight)
	lines := head(s)
	lines = append(lines, fmt.Sprintf("%4s %-12s %-9s %-24s %8s  %-*s %s", "RANK", "HOST", "STATE", "PHASE", "ETA", barWidth+2, "MEMORY", ""))
	room := look.Height - len(lines) - 1 // the last line stays free for the cursor
	plotted := room >= plotRows+3+1
	if plotted {
		room -= plotRows + 3
	}
	shown := len(s.Ranks)
	if shown > room {
		shown = max(room-1, 0)
	}
	for _, r := range s.Ranks[:shown] {
		lines = append(lines, rankLine(r, look))
	}
	if shown < len(s.Ranks) {
		lines = append(lines, fmt.Sprintf("     ... %d more ranks", len(s.Ranks)-shown))
	}
	if plotted {
		lines = append(lines, "")
		lines = append(lines, h.plot(look)...)
	}
	for i, line := range lines {
		lines[i] = cut(strings.TrimRight(line, " "), look.Width)
	}
	return strings.Join(lines, "\n") + "\n"
}

func head(s jobs.Status) []string {
	up, ready := s.Up()
	first := fmt.Sprintf("job %s: %s, attempt %d", printable(s.ID), printable(string(s.State)), s.Attempt)
	if s.MaxRestarts > 0 {
		first += fmt.Sprintf(" (%d of %d restarts)", s.Restarts, s.MaxRestarts)
	}
	first += fmt.Sprintf(", %d of %d ranks up, %d work, since %s", up, s.World, ready, s.Now.Sub(s.Started).Round(time.Second))
	if s.Exit != nil {
		first += fmt.Sprintf(", ends with %d (%s)", s.Exit.Code, printable(s.Exit.Class))
	}
	second := unknownGPU(s)
	if second == "" {
		return []string{first}
	}
	return []string{first, second}
}

// unknownGPU says why nothing is known of GPUs, if that is so of all ranks.
func unknownGPU(s jobs.Status) string {
	why := ""
	for _, r := range s.Ranks {
		if r.GPUUsed != nil || r.GPU != nil {
			return ""
		}
		if r.GPUUnknown != "" {
			why = ": " + printable(r.GPUUnknown)
		}
	}
	return "GPU memory: unknown" + why
}

func rankLine(r jobs.Rank, look Look) string {
	eta := ""
	if r.ETA != nil && r.State == jobs.RankUp && r.Done < r.Total {
		eta = time.Duration(min(*r.ETA, 1e8) * float64(time.Second)).Round(time.Second).String()
	}
	n, what, most := taken(r)
	memory := "unknown"
	if n != nil {
		memory = bytesText(*n)
		if most != nil {
			memory += " of " + bytesText(*most)
		}
		memory += " " + what
	}
	if r.GPU != nil && r.GPUUsed != nil && *r.GPUUsed > *r.GPU {
		memory += ", others " + bytesText(*r.GPUUsed-*r.GPU)
	}
	if r.RSS != nil && what != "RSS" {
		memory += ", RSS " + bytesText(*r.RSS)
	}
	return fmt.Sprintf("%4d %-12s %-9s %-24s %8s  %s %s", r.Rank, cut(printable(r.Host), 12), cut(printable(string(r.State)), 9), cut(printable(r.Where), 24), eta, bar(r, look), memory)
}

// bar shows what is taken: of a GPU also what others have.
func bar(r jobs.Rank, look Look) string {
	n, _, most := taken(r)
	if n == nil || most == nil || *most <= 0 {
		return strings.Repeat(" ", barWidth+2)
	}
	full, other := "█", "▒"
	if look.ASCII {
		full, other = "#", "+"
	}
	part := func(n int64) int { return int(min(max(float64(n)/float64(*most), 0), 1)*barWidth + 0.5) }
	mine, all := part(*n), part(*n)
	if r.GPU != nil && r.GPUUsed != nil {
		all = max(part(*r.GPUUsed), mine)
	}
	return "[" + strings.Repeat(full, mine) + strings.Repeat(other, all-mine) + strings.Repeat(" ", barWidth-all) + "]"
}

// plot draws the history, the latest at the right.
func (h *History) plot(look Look) []string {
	const axis = 11
	width := look.Width - axis
	values, times := h.values, h.times
	if len(values) > width {
		values, times = values[len(values)-width:], times[len(times)-width:]
	}
	most := int64(1)
	for _, v := range values {
		most = max(most, v)
	}
	title := h.what + " of the fullest rank"
	if h.what == "" {
		title = "no rank yet"
	}
	if len(times) > 1 {
		title += ", the last " + times[len(times)-1].Sub(times[0]).Round(time.Second).String()
	}
	lines := []string{title}
	blocks := []rune(" ▁▂▃▄▅▆▇█")
	if look.ASCII {
		blocks = []rune("  ...:::#")
	}
	for row := plotRows - 1; row >= 0; row-- {
		label := ""
		if row == plotRows-1 {
			label = bytesText(most)
		} else if row == 0 {
			label = "0"
		}
		var line strings.Builder
		fmt.Fprintf(&line, "%9s |", label)
		for _, v := range values {
			if v < 0 {
				if row == 0 {
					line.WriteByte('?')
				} else {
					line.WriteByte(' ')
				}
				continue
			}
			eighths := int(float64(v)/float64(most)*plotRows*8+0.5) - row*8
			line.WriteRune(blocks[min(max(eighths, 0), 8)])
		}
		lines = append(lines, line.String())
	}
	return lines
}

// cut shortens a text to a number of characters.
func cut(s string, width int) string {
	runes := []rune(s)
	if len(runes) <= width {
		return s
	}
	return string(runes[:width-1]) + "~"
}

// printable makes another's text fit for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

// bytesText writes bytes for people.
func bytesText(n int64) string {
	const mib, gib = 1 << 20, 1 << 30
	if n >= gib {
		return fmt.Sprintf("%.1f GiB", float64(n)/gib)
	}
	return fmt.Sprintf("%d MiB", (max(n, 0)+mib/2)/mib)
}
