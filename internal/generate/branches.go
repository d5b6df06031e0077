package generate

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// PlanBranches is Plan for a run that is free to choose how the branches of guidance
// run, and chooses: together, in one forward that acquires each unit of weights once,
// if the ranks of every node then fit into the memory they have; else one after the
// other, if that takes less. have is this rank's part of its node's memory in bytes, at
// most 0 if it is not known. why says
// what was chosen and for which reason, "" if each branch has ranks of its own.
//
// It is a collective of world, nil for one rank: all choose the same.
func (r *Run) PlanBranches(ctx context.Context, like tensor.Backend, host Host, world comm.Group, have int64) (plans []*Result, why string, err error) {
	r.job.Spread.BranchesApart = false
	together, err := r.Plan(ctx, like, host)
	if err != nil || r.job.Spread.Mesh.CFG > 1 {
		return together, "", err
	}
	all, err := gatherBytes(ctx, world, have)
	if err != nil {
		return nil, "", fmt.Errorf("compare the ranks' memory: %w", err)
	}
	n, err := newNode(r.job.Spread.Nodes, len(all))
	if err != nil {
		return nil, "", err
	}
	tightest := n.tightest(together, all)
	have, need := n.sum(tightest, all), n.need(tightest, together)
	who := "the ranks"
	switch {
	case len(all) == 1:
		who = "the run"
	case n.of[len(all)-1] != n.of[0]:
		who = fmt.Sprintf("node %d, the tightest,", tightest)
	}
	switch {
	case have <= 0:
		return together, "together: how much memory there is is not known", nil
	case need <= have:
		return together, fmt.Sprintf("together: %s will take %d MiB of %d", who, mib(need), have>>20), nil
	}
	r.job.Spread.BranchesApart = true
	apart, err := r.Plan(ctx, like, host)
	if err != nil {
		return nil, "", err
	}
	if less := n.need(tightest, apart); less < need {
		return apart, fmt.Sprintf("apart: together %s would take %d MiB of %d, apart %d", who, mib(need), have>>20, mib(less)), nil
	}
	r.job.Spread.BranchesApart = false
	return together, fmt.Sprintf("together: %s will take %d MiB of %d, and apart no less", who, mib(need), have>>20), nil
}

// tightest returns the node whose ranks have the least to spare, of those that know what
// they have.
func (n node) tightest(plans []*Result, have []int64) (best int) {
	spare := int64(math.MaxInt64)
	for _, of := range n.of {
		if sum := n.sum(of, have); sum > 0 && sum-n.need(of, plans) < spare {
			best, spare = of, sum-n.need(of, plans)
		}
	}
	return best
}

// sum adds up what the ranks of a node have, 0 if one of them does not know.
func (n node) sum(of int, have []int64) (bytes int64) {
	for rank, other := range n.of {
		switch {
		case other != of:
		case have[rank] <= 0:
			return 0
		default:
			bytes += have[rank]
		}
	}
	return bytes
}

// need adds up what the ranks of a node take of its memory, where arenas are host memory.
func (n node) need(of int, plans []*Result) (bytes int64) {
	for rank, other := range n.of {
		if other == of {
			bytes += plans[rank].Peak().Total() + plans[rank].HostWeights()
		}
	}
	return bytes
}

// mib rounds bytes up.
func mib(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// gatherBytes returns n of every rank.
func gatherBytes(ctx context.Context, world comm.Group, n int64) ([]int64, error) {
	if world == nil || world.Size() == 1 {
		return []int64{n}, nil
	}
	own, all := binary.LittleEndian.AppendUint64(nil, uint64(n)), make([]byte, 8*world.Size())
	src, err := comm.OfBytes(tensor.I64, own, 1)
	if err != nil {
		return nil, err
	}
	dst, err := comm.OfBytes(tensor.I64, all, world.Size())
	if err != nil {
		return nil, err
	}
	if err := world.AllGather(ctx, comm.Place{Phase: PhaseTokenize, Purpose: "memory"}, dst, src, nil); err != nil {
		return nil, err
	}
	out := make([]int64, world.Size())
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(all[8*i:]))
	}
	return out, nil
}

// BranchesApart says whether the branches of guidance run one after the other.
func (r *Run) BranchesApart() bool { return r.job.Spread.BranchesApart }
