package plan

import "strconv"

// Finish sets what follows from the phases of the ranks and their devices: peaks with the
// libraries' part, seconds, and the nodes' sums.
func (p *Plan) Finish() {
	p.Seconds = 0
	longest := map[string]float64{}
	var order []string
	p.Nodes = nil
	for i := range p.Ranks {
		r := &p.Ranks[i]
		d := p.Devices[i]
		r.LibraryBytes = d.LibraryBytes
		for k := range r.Phases {
			phase := &r.Phases[k]
			if d.LibraryBytes > 0 {
				phase.DeviceBytes["library_workspace"] = d.LibraryBytes
				phase.DevicePeakBytes += d.LibraryBytes
			}
			phase.Seconds = d.Seconds(*phase)
			if _, seen := longest[phase.Name]; !seen {
				order = append(order, phase.Name)
			}
			longest[phase.Name] = max(longest[phase.Name], phase.Seconds)
		}
		p.addToNode(*r)
	}
	for _, name := range order {
		p.Seconds += longest[name]
	}
}

// addToNode adds the most that a rank takes in any phase.
func (p *Plan) addToNode(r Rank) {
	for len(p.Nodes) <= r.Node {
		p.Nodes = append(p.Nodes, Node{Node: len(p.Nodes)})
	}
	n := &p.Nodes[r.Node]
	n.Ranks++
	var anonymous, shared, file int64
	for _, phase := range r.Phases {
		anonymous = max(anonymous, phase.HostAnonymousBytes)
		shared = max(shared, phase.HostSharedBytes)
		file = max(file, phase.HostFileBytes)
	}
	n.HostAnonymousBytes += anonymous
	n.HostSharedBytes += shared
	n.HostFileBytes = max(n.HostFileBytes, file) // all ranks read the same files
	if p.DeviceIsHost {
		n.DeviceBytes += r.DeviceReservedBytes
	}
}

// Seconds estimates how long a phase takes on a device: arithmetic or memory, whichever
// bounds it; beside it weights are fetched or gathered, which counts as far as it takes
// longer; other collectives come on top.
func (d Device) Seconds(p Phase) float64 {
	rate := func(amount int64, perSecond float64) float64 {
		if perSecond <= 0 {
			return 0
		}
		return float64(amount) / perSecond
	}
	w := p.Work
	compute := rate(w.MatMulFLOPs, d.MatMulFLOPs) + rate(w.AttentionFLOPs, d.AttentionFLOPs) + rate(w.ConvFLOPs, d.ConvFLOPs)
	compute = max(compute, rate(w.MemoryBytes, d.MemoryRate))
	weights, other := rate(w.FromHostBytes, d.FetchRate)+rate(w.FromFileBytes, d.FileRate), 0.0
	for _, c := range p.Collectives {
		t := rate(max(c.SentBytes, c.ReceivedBytes), d.LinkRate)
		if c.Purpose == "weights" {
			weights += t
		} else {
			other += t
		}
	}
	return max(compute, weights) + other
}

// Judge compares what the plan needs with what there is.
func (p *Plan) Judge(l Limits) {
	p.Short = nil
	short := func(s Short) { p.Short = append(p.Short, s) }
	worst := -1
	for i, r := range p.Ranks {
		d := p.Devices[i]
		if need := r.DeviceReservedBytes + r.LibraryBytes; d.MemoryBytes > 0 && need > d.MemoryBytes &&
			(worst < 0 || need-d.MemoryBytes > p.Short[worst].Needs-p.Short[worst].Has) {
			s := Short{What: "device memory of rank " + itoa(r.Rank), Needs: need, Has: d.MemoryBytes, By: d.Name,
				Help: "more ranks with --dit-fsdp --t5-fsdp, --offload dit=host, fewer frames, a smaller size"}
			if worst < 0 {
				worst = len(p.Short)
				short(s)
			} else {
				p.Short[worst] = s
			}
		}
	}
	arena := Rank{}
	for _, r := range p.Ranks {
		if r.DeviceReservedBytes > arena.DeviceReservedBytes {
			arena = r
		}
	}
	if l.ArenaBytes > 0 && arena.DeviceReservedBytes > l.ArenaBytes {
		short(Short{What: "reservation of rank " + itoa(arena.Rank), Needs: arena.DeviceReservedBytes, Has: l.ArenaBytes, By: "--mem-limit",
			Help: "a higher --mem-limit, --offload dit=file, fewer frames, a smaller size"})
	}
	for _, n := range p.Nodes {
		if l.HostBytes > 0 && n.Needs() > l.HostBytes {
			short(Short{What: "host memory of node " + itoa(n.Node), Needs: n.Needs(), Has: l.HostBytes, By: l.HostBy,
				Help: "--offload dit=file, fewer ranks on the node, a higher limit of the container or job"})
			break
		}
	}
	p.Fits = len(p.Short) == 0
	switch {
	case p.Fits:
		p.Verdict = "fits"
	default:
		s := p.Short[0]
		p.Verdict = "does not fit: " + s.What + " needs " + FormatBytes(s.Needs) + ", " + s.By + " has " + FormatBytes(s.Has)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
