package launch

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/wanrun/wanrun/internal/settings"
)

// Summary is a report as text: a line on the output and a table of the phases.
//
//	out.mp4  64x64  13 frames  8 fps  builtin  31.2 KiB  seed 42
//
//	phase     seconds  device planned  device used  RSS peak
//	...
func (f File) Summary() string {
	var b strings.Builder
	if o := f.Output; o != nil {
		encoder := o.Encoder
		if encoder != "" {
			encoder += "  "
		}
		fmt.Fprintf(&b, "%s  %dx%d  %d frames  %d fps  %s%s  seed %d\n", settings.Escape(o.Path), o.Width, o.Height,
			o.Frames, o.FPS, settings.Escape(encoder), formatBytes(o.Bytes), f.Seed)
		for _, extra := range []struct{ what, path string }{{"contact sheet", o.ContactSheet}, {"dump", o.Dump}} {
			if extra.path != "" {
				fmt.Fprintf(&b, "%s  %s\n", settings.Escape(extra.path), extra.what)
			}
		}
	}
	for _, r := range f.Ranks {
		if len(r.Phases) > 0 {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			b.WriteString(r.table(len(f.Ranks) > 1))
		}
	}
	return b.String()
}

// table has a line for each phase and the peaks of them all.
func (r Rank) table(named bool) string {
	var b strings.Builder
	if named {
		fmt.Fprintf(&b, "rank %d\n", r.Rank)
	}
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "phase\tseconds\tdevice planned\tdevice used\tRSS peak\t")
	for _, p := range r.Phases {
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\t%s\t\n", settings.Shorten(p.Name, maxPhase), p.Seconds,
			formatBytes(sum(p.Predicted)), formatBytes(sum(p.Used)), formatBytes(p.RSSPeak))
	}
	fmt.Fprintf(w, "all\t%.2f\t%s\t%s\t%s\t\n", r.Seconds, formatBytes(r.Bytes.Predicted), formatBytes(r.Bytes.Used), formatBytes(r.Bytes.RSSPeak))
	w.Flush() // into memory
	if r.Backend != "" {
		fmt.Fprintf(&b, "backend %s\n", settings.Escape(r.Backend))
	}
	return b.String()
}

func sum(bytes map[string]int64) int64 {
	var total int64
	for _, n := range bytes {
		total += n
	}
	return total
}
