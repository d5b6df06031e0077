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
	if len(f.Ranks) > 0 && len(f.Ranks[0].Phases) > 0 {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		if len(f.Ranks) > 1 {
			fmt.Fprintf(&b, "%v; seconds are rank 0's, sizes the largest of any rank\n", f.Plan)
		}
		b.WriteString(f.table())
	}
	return b.String()
}

// String is the plan in one line: "8 ranks: cfg 2 x ulysses 4; DiT and T5 sharded".
func (p Plan) String() string {
	m := settings.Settings{CFG: p.CFG, Ring: p.Ring, Ulysses: p.Ulysses}.Mesh()
	line := fmt.Sprintf("%d ranks: %s", p.Ranks, strings.ReplaceAll(m.String(), ", ", " x "))
	var sharded []string
	if p.DiTFSDP {
		sharded = append(sharded, "DiT")
	}
	if p.T5FSDP {
		sharded = append(sharded, "T5")
	}
	if len(sharded) > 0 {
		line += "; " + strings.Join(sharded, " and ") + " sharded"
		if p.FSDPSize > 0 && p.FSDPSize < p.Ranks {
			line += fmt.Sprintf(" over groups of %d", p.FSDPSize)
		}
	}
	if p.OffloadDiT != "" && p.OffloadDiT != settings.OnDevice {
		line += ", DiT at rest in " + map[string]string{settings.OnHost: "host memory", settings.InFile: "the file"}[p.OffloadDiT]
	}
	if p.CFGBranches == settings.Apart {
		line += "; branches of guidance apart"
	}
	return line
}

// table has a line for each of rank 0's phases, with the sizes of the rank that has
// the largest, and the peaks of them all.
func (f File) table() string {
	var b strings.Builder
	r := f.Ranks[0]
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "phase\tseconds\tdevice planned\tdevice used\tRSS peak\t")
	for _, p := range r.Phases {
		most := f.phaseBytes(p.Name)
		fmt.Fprintf(w, "%s\t%.2f\t%s\t%s\t%s\t\n", settings.Shorten(p.Name, maxPhase), p.Seconds,
			formatBytes(most.Predicted), formatBytes(most.Used), formatBytes(most.RSSPeak))
	}
	fmt.Fprintf(w, "all\t%.2f\t%s\t%s\t%s\t\n", r.Seconds, formatBytes(f.Bytes.Predicted), formatBytes(f.Bytes.Used), formatBytes(f.Bytes.RSSPeak))
	w.Flush() // into memory
	if f.Bytes.HostPredicted > 0 {
		fmt.Fprintf(&b, "weights at rest in host memory, of all ranks: planned %s, used %s\n", formatBytes(f.Bytes.HostPredicted), formatBytes(f.Bytes.HostUsed))
	}
	if r.Backend != "" {
		fmt.Fprintf(&b, "backend %s\n", settings.Escape(r.Backend))
	}
	return b.String()
}

// phaseBytes are the largest of any rank in a phase.
func (f File) phaseBytes(name string) Bytes {
	var most Bytes
	for _, r := range f.Ranks {
		for _, p := range r.Phases {
			if p.Name == name {
				most = most.max(Bytes{Predicted: sum(p.Predicted), Used: sum(p.Used), RSSPeak: p.RSSPeak})
			}
		}
	}
	return most
}

func sum(bytes map[string]int64) int64 {
	var total int64
	for _, n := range bytes {
		total += n
	}
	return total
}
