package settings

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/pkg/sharding"
)

// Mesh is how the ranks are arranged.
func (s Settings) Mesh() sharding.Mesh {
	m := sharding.Mesh{CFG: s.CFG, Ring: s.Ring, Ulysses: s.Ulysses, FSDP: 1}
	if s.DiTFSDP || s.T5FSDP {
		m.FSDP = m.Size()
		if s.FSDPSize > 0 {
			m.FSDP = s.FSDPSize
		}
	}
	return m
}

// plan describes the mesh in one line, which several ranks tell at their start.
func (r *resolver) plan() {
	if r.s.World <= 1 {
		r.s.Plan = "one rank"
		return
	}
	m := r.s.Mesh()
	parts := []string{
		fmt.Sprintf("%d ranks: %s", r.s.World, axes(m)),
		headShares(r.checkpt.heads, m.Ulysses),
		weightPlaces(r.s),
	}
	if m.CFG == 1 {
		parts = append(parts, map[string]string{Auto: "branches of guidance together if that fits", Together: "branches of guidance together",
			Apart: "branches of guidance apart"}[r.s.CFGBranches])
	}
	r.s.Plan = strings.Join(parts, "; ")
	r.s.Why = fmt.Sprintf("about %d tokens a forward, over %d ranks", r.tokens(), m.SequenceSize())
	if r.s.meshChosen {
		r.s.Why += "; of the degrees left out, those with the best balance, then the smallest ring, then the smallest cfg"
	}
	r.notice("%s", r.s.Plan)
}

// axes writes the degrees that are more than one: "cfg 2 x ulysses 4".
func axes(m sharding.Mesh) string {
	m.FSDP = 1
	return strings.ReplaceAll(m.String(), ", ", " x ")
}

// headShares says how many heads a rank has, and what it costs if they are not equally many.
func headShares(heads, ulysses int) string {
	if heads%ulysses == 0 {
		return fmt.Sprintf("%d of %d heads each", heads/ulysses, heads)
	}
	return fmt.Sprintf("%d or %d of %d heads each, so that the attention takes %.2f times as long as if they divided",
		heads/ulysses+1, heads/ulysses, heads, sharding.Imbalance(heads, ulysses))
}

// weightPlaces says which weights are sharded, over how many ranks, and where they rest.
func weightPlaces(s Settings) string {
	places := map[string]string{OnDevice: "", OnHost: ", which rest in host memory", InFile: ", which stay in the file"}
	groups := ""
	if s.FSDPSize > 0 && s.FSDPSize < s.World {
		groups = fmt.Sprintf(" over groups of %d ranks", s.FSDPSize)
	}
	whole := "the DiT's whole on each rank (--dit-fsdp shards them)"
	switch s.OffloadDiT {
	case OnHost:
		whole = "the DiT's whole in host memory, once a node"
	case InFile:
		whole = "the DiT's in the file, from which each rank reads them whole"
	}
	switch {
	case s.DiTFSDP && s.T5FSDP:
		return "weights of T5 and the DiT sharded" + groups + places[s.OffloadDiT]
	case s.DiTFSDP:
		return "weights of the DiT sharded" + groups + places[s.OffloadDiT]
	case s.T5FSDP:
		return "weights of T5 sharded" + groups + ", " + whole
	case s.OffloadDiT == OnHost || s.OffloadDiT == InFile:
		return "weights not sharded, " + whole
	default:
		return "weights whole on each rank (--dit-fsdp and --t5-fsdp shard them)"
	}
}
