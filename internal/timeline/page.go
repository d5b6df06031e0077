package timeline

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// maxDrawn is how many ranks have a picture.
const maxDrawn = 64

// The picture of a rank, in pixels: the plot and the room around it.
const (
	plotWidth, plotHeight = 900.0, 150.0
	left, top, below      = 70.0, 18.0, 22.0
)

// lines are what is drawn of a rank.
var lines = []struct {
	name, colour, dash string
	of                 func(value) int64
}{
	{"resident (RSS)", "#9a9a9a", "", func(v value) int64 { return v.rss }},
	{"anonymous", "#2b6cb0", "", func(v value) int64 { return v.anonymous }},
	{"arena in use", "#dd8a1d", "", func(v value) int64 { return v.arena }},
	{"arena, planned peak of the phase", "#333333", "4 3", func(v value) int64 { return v.planned }},
	{"GPU, this rank", "#2f855a", "", func(v value) int64 { return v.own }},
	{"GPU, everybody", "#c53030", "2 2", func(v value) int64 { return v.gpuAll }},
}

// WritePage writes a page of HTML without scripts: a picture of each rank over time, and
// its peaks by phase.
func (r *Recorder) WritePage(out io.Writer, title string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>\n<style>%s</style></head><body>\n<h1>%[1]s</h1>\n",
		html.EscapeString(title), style)
	b.WriteString("<p>Memory of each rank over the job's time. What is not known is left out, not drawn as zero.</p>\n<p>")
	for _, l := range lines {
		fmt.Fprintf(&b, `<svg class="key" width="26" height="10"><path d="M0 5H26" stroke="%s" stroke-width="2" stroke-dasharray="%s"/></svg>%s `, l.colour, l.dash, l.name)
	}
	b.WriteString("</p>\n")
	for _, text := range r.warner.all {
		fmt.Fprintf(&b, "<p class=\"warning\">%s</p>\n", html.EscapeString(text))
	}
	all := r.ordered()
	if len(all) == 0 {
		b.WriteString("<p>No rank said anything.</p>\n")
	}
	end, most := extent(all)
	for i, s := range all {
		if i == maxDrawn {
			fmt.Fprintf(&b, "<p>%d more ranks are not drawn.</p>\n", len(all)-maxDrawn)
			break
		}
		s.write(&b, end, most)
	}
	b.WriteString("</body></html>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

const style = "body{font:14px sans-serif;margin:2em;max-width:1000px}svg text{font:11px sans-serif;fill:#444}h2{margin-bottom:0}" +
	".key{vertical-align:middle;margin:0 .4em}.warning{color:#c53030}table{border-collapse:collapse}td,th{padding:.1em .8em;text-align:right}" +
	"td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f4f4}"

// extent are the axes, the same for all ranks.
func extent(all []*series) (seconds float64, bytes int64) {
	seconds, bytes = 1, mib
	for _, s := range all {
		for _, v := range s.points {
			seconds = max(seconds, v.seconds)
			for _, l := range lines {
				bytes = max(bytes, l.of(v))
			}
		}
	}
	return seconds, bytes
}

func (s *series) write(b *strings.Builder, end float64, most int64) {
	fmt.Fprintf(b, "<h2>rank %d</h2>\n<p>GPU: %s</p>\n", s.rank, html.EscapeString(s.gpuText()))
	fmt.Fprintf(b, `<svg width="%g" height="%g" viewBox="0 0 %[1]g %[2]g">`+"\n", left+plotWidth+10, top+plotHeight+below)
	x := func(seconds float64) float64 { return left + min(max(seconds/end, 0), 1)*plotWidth }
	y := func(n int64) float64 { return top + (1-float64(n)/float64(most))*plotHeight }
	for i, p := range s.spans {
		fill := []string{"#f3f6fa", "#e6ecf3"}[i%2]
		fmt.Fprintf(b, `<rect x="%.1f" y="%g" width="%.1f" height="%g" fill="%s"><title>%s, attempt %d, %.1f to %.1f s</title></rect>`+"\n",
			x(p.from), top, max(x(p.to)-x(p.from), 0), plotHeight, fill, html.EscapeString(p.name), p.attempt, p.from, p.to)
		if x(p.to)-x(p.from) > 6*float64(len(p.name)) {
			fmt.Fprintf(b, `<text x="%.1f" y="%g">%s</text>`+"\n", x(p.from)+2, top-5, html.EscapeString(p.name))
		}
	}
	for _, part := range []int64{0, 1, 2} {
		n := most * part / 2
		fmt.Fprintf(b, `<path d="M%g %.1fH%g" stroke="#ccc"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y(n), left+plotWidth, left-5, y(n)+4, bytesText(n))
		at := end * float64(part) / 2
		fmt.Fprintf(b, `<text x="%.1f" y="%g" text-anchor="middle">%.4g s</text>`+"\n", x(at), top+plotHeight+15, at)
	}
	for _, l := range lines {
		if d := path(s.points, l.of, x, y); d != "" {
			fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5" stroke-dasharray="%s"/>`+"\n", d, l.colour, l.dash)
		}
	}
	b.WriteString("</svg>\n")
	s.writeTable(b)
}

// path draws one line, with gaps where it is unknown.
func path(points []value, of func(value) int64, x func(float64) float64, y func(int64) float64) string {
	var d strings.Builder
	pen := "M"
	for _, v := range points {
		n := of(v)
		if n == unknown {
			pen = "M"
			continue
		}
		fmt.Fprintf(&d, "%s%.1f %.1f", pen, x(v.seconds), y(n))
		if pen == "M" {
			d.WriteString("h.1") // a point alone shows, too
		}
		pen = "L"
	}
	return d.String()
}

func (s *series) gpuText() string {
	g := s.gpu
	if g == nil {
		if s.why == "" {
			return "unknown"
		}
		return "unknown: " + s.why
	}
	text := fmt.Sprintf("%s, %s, bus %s, NUMA node %s, %s; peak of this rank %s, of everybody %s", orUnknown(g.Name), orUnknown(g.UUID), orUnknown(g.PCI),
		number32(g.NUMA), bytesOr(number(g.Total)), bytesOr(number(g.OwnPeak)), bytesOr(number(g.UsedPeak)))
	for _, p := range g.Others {
		text += fmt.Sprintf("; process %d %s has %s", p.Pid, p.Name, bytesOr(number(p.Bytes)))
	}
	for _, e := range g.Events {
		text += "; " + e
	}
	return text
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func number32(n *int32) string {
	if n == nil {
		return "unknown"
	}
	return fmt.Sprint(*n)
}

func bytesOr(n int64) string {
	if n == unknown {
		return "unknown"
	}
	return bytesText(n)
}

func (s *series) writeTable(b *strings.Builder) {
	b.WriteString("<table><tr><th>phase</th><th>from</th><th>to</th>")
	for _, l := range lines {
		fmt.Fprintf(b, "<th>%s</th>", l.name)
	}
	b.WriteString("</tr>\n")
	for _, p := range s.spans {
		fmt.Fprintf(b, "<tr><td>%s</td><td>%.1f s</td><td>%.1f s</td>", html.EscapeString(place(p.name)), p.from, p.to)
		for _, l := range lines {
			fmt.Fprintf(b, "<td>%s</td>", bytesOr(l.of(p.peak)))
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table>\n")
}
