package settings

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/pkg/sharding"
)

// Mesh is how the ranks are arranged. Weights are sharded over all of them, if at all.
func (s Settings) Mesh() sharding.Mesh {
	m := sharding.Mesh{CFG: s.CFG, Ring: s.Ring, Ulysses: s.Ulysses, FSDP: 1}
	if s.DiTFSDP || s.T5FSDP {
		m.FSDP = m.Size()
	}
	return m
}

// plan describes the mesh in one line, which several ranks tell at their start.
func (r *resolver) plan() {
	if r.s.Nproc <= 1 {
		r.s.Plan = "one rank"
		return
	}
	m := r.s.Mesh()
	parts := []string{
		fmt.Sprintf("%d ranks: %s", r.s.Nproc, axes(m)),
		headShares(r.checkpt.heads, m.Ulysses),
		weightPlaces(r.s),
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

func weightPlaces(s Settings) string {
	places := map[string]string{OnDevice: "", OnHost: ", which rest in host memory", InFile: ", which stay in the file"}
	switch {
	case s.DiTFSDP && s.T5FSDP:
		return "weights of T5 and the DiT sharded" + places[s.OffloadDiT]
	case s.DiTFSDP:
		return "weights of the DiT sharded" + places[s.OffloadDiT]
	case s.T5FSDP:
		return "weights of T5 sharded, the DiT's whole on each rank (--dit-fsdp shards them)"
	default:
		return "weights whole on each rank (--dit-fsdp and --t5-fsdp shard them)"
	}
}
