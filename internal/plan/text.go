package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Text writes the plan for people.
func (p *Plan) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d*%d, %d frames, %d steps, %s; sizes of weights: %s\n", p.Task, p.Width, p.Height, p.Frames, p.Steps, p.DType, p.Sizes)
	for i, same := range p.distinct() {
		r := p.Ranks[same[0]]
		d := p.Devices[same[0]]
		has := ""
		if d.MemoryBytes > 0 {
			has = fmt.Sprintf(" of %s", FormatBytes(d.MemoryBytes))
		}
		fmt.Fprintf(&b, "\n%s on %s: %s reserved and %s of libraries%s\n", rankList(same), d.Name, FormatBytes(r.DeviceReservedBytes), FormatBytes(r.LibraryBytes), has)
		fmt.Fprintf(&b, "  %-13s %10s  %-10s %-10s %9s %10s  %s\n", "phase", "device", "host", "shared", "PFLOP", "seconds", "device bytes by purpose")
		for _, q := range r.Phases {
			fmt.Fprintf(&b, "  %-13s %10s  %-10s %-10s %9.3f %10s  %s\n", q.Name, FormatBytes(q.DevicePeakBytes), FormatBytes(q.HostAnonymousBytes),
				FormatBytes(q.HostSharedBytes), float64(q.FLOPs)/1e15, formatSeconds(q.Seconds), purposes(q.DeviceBytes))
			for _, c := range q.Collectives {
				if i > 0 {
					break // those of other ranks are about the same, and in the JSON
				}
				fmt.Fprintf(&b, "  %13s %s of %s: %d calls, %s sent, %s received\n", "", c.Op, c.Purpose, c.Calls, FormatBytes(c.SentBytes), FormatBytes(c.ReceivedBytes))
			}
		}
	}
	b.WriteString("\n")
	for _, n := range p.Nodes {
		fmt.Fprintf(&b, "node %d, %d ranks: host memory %s", n.Node, n.Ranks, FormatBytes(n.Needs()))
		fmt.Fprintf(&b, " (%s of processes, %s of weights in common, %s of device memory that is the host's); files in cache, which can be dropped: %s\n",
			FormatBytes(n.HostAnonymousBytes), FormatBytes(n.HostSharedBytes), FormatBytes(n.DeviceBytes), FormatBytes(n.HostFileBytes))
	}
	if len(p.Devices) > 0 {
		d := p.Devices[0]
		fmt.Fprintf(&b, "about %s (rates: %s: %.0f TFLOP/s in matrix products, %.0f in attention, %.1f in convolutions)\n", formatSeconds(p.Seconds), d.From,
			d.MatMulFLOPs/1e12, d.AttentionFLOPs/1e12, d.ConvFLOPs/1e12)
	}
	b.WriteString(p.Verdict + "\n")
	b.WriteString(p.Table())
	return b.String()
}

// Table lists what there is not enough of: "" where all fits.
func (p *Plan) Table() string {
	if len(p.Short) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %-28s %10s %10s  %s\n", "what", "needs", "has", "what changes it")
	for _, s := range p.Short {
		fmt.Fprintf(&b, "  %-28s %10s %10s  %s (limit: %s)\n", s.What, FormatBytes(s.Needs), FormatBytes(s.Has), s.Help, s.By)
	}
	return b.String()
}

// distinct groups ranks whose numbers are the same.
func (p *Plan) distinct() (groups [][]int) {
	for i, r := range p.Ranks {
		k := slices.IndexFunc(groups, func(g []int) bool {
			o := p.Ranks[g[0]]
			return o.DeviceReservedBytes == r.DeviceReservedBytes && p.Devices[g[0]] == p.Devices[i] && reflect.DeepEqual(o.Phases, r.Phases)
		})
		if k < 0 {
			groups = append(groups, nil)
			k = len(groups) - 1
		}
		groups[k] = append(groups[k], i)
	}
	return groups
}

func rankList(ranks []int) string {
	if len(ranks) == 1 {
		return fmt.Sprintf("rank %d", ranks[0])
	}
	var parts []string
	for i := 0; i < len(ranks); {
		j := i
		for j+1 < len(ranks) && ranks[j+1] == ranks[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", ranks[i], ranks[j]))
		} else {
			parts = append(parts, itoa(ranks[i]))
		}
		i = j + 1
	}
	return "ranks " + strings.Join(parts, ",")
}

func purposes(bytes map[string]int64) string {
	var names []string
	for name, n := range bytes {
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if bytes[a] != bytes[b] {
			return int(max(-1, min(1, bytes[b]-bytes[a])))
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = name + " " + FormatBytes(bytes[name])
	}
	return strings.Join(names, ", ")
}

func formatSeconds(s float64) string {
	d := time.Duration(min(s, 1e9) * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
