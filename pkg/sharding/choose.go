package sharding

import "fmt"

// maxImbalance is the loss of balance that Choose accepts before it looks for
// another plan.
const maxImbalance = 1.10

// Choose returns the mesh for world ranks when degrees are left out, for a model
// with heads, a sequence of tokens, and steps of so many branches (2 with
// classifier-free guidance, 1 without). Weights are sharded over all ranks.
//
// Of all (cfg, ring, ulysses) whose product is world, with ulysses <= heads and
// cfg = 1 unless there are 2 branches, it takes the first by this order:
//
//  1. Balance: the product of Imbalance over heads and over tokens at most 1.10, else
//     as small as it gets. An uneven degree makes every rank wait for the slowest in
//     the attention, which is half to three quarters of a step.
//  2. The smallest ring. Per layer and token, a rank of a ring of R sends 2(R-1)/R
//     of a sequence's keys and values divided by ulysses, whatever the size of the
//     ring, while the 4 all-to-alls of Ulysses send 4/P of a sequence: less from 3
//     ranks on, and ever less.
//  3. The smallest cfg: halves that exchange a prediction only have fewer, but
//     larger, exchanges; a rank's tokens double, and with them q, k and v.
//
// So 8 ranks run 40 heads as ulysses 8, 12 heads as cfg 2 x ulysses 4 (not as
// ulysses 8, which would cost 1.33 of the attention), and 5 ranks run 12 heads as
// ring 5. Without guidance 8 ranks run 12 heads as ring 2 x ulysses 4.
func Choose(world, heads, tokens, branches int) (Mesh, error) {
	if world < 1 || heads < 1 || tokens < 1 {
		return Mesh{}, fmt.Errorf("%d ranks for %d heads and %d tokens; want at least one of each", world, heads, tokens)
	}
	var best Mesh
	bestLoss := 0.0
	for cfg := 1; cfg <= min(max(branches, 1), 2); cfg++ {
		if world%cfg != 0 {
			continue
		}
		for _, ulysses := range Divisors(world / cfg) {
			if ulysses > heads {
				break
			}
			m := Mesh{CFG: cfg, Ring: world / cfg / ulysses, Ulysses: ulysses, FSDP: world}
			loss := max(Imbalance(heads, ulysses)*Imbalance(tokens, m.SequenceSize()), maxImbalance)
			if best.CFG == 0 || loss < bestLoss || (loss == bestLoss && m.before(best)) {
				best, bestLoss = m, loss
			}
		}
	}
	return best, nil
}

// before says which of two equally balanced meshes Choose prefers.
func (m Mesh) before(o Mesh) bool {
	if m.Ring != o.Ring {
		return m.Ring < o.Ring
	}
	return m.CFG < o.CFG
}
