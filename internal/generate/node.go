package generate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// node knows which ranks are on which node.
type node struct {
	of    []int // of each rank
	order []int // ranks in the order in which they are given whole pieces of work
}

// newNode looks at the node of each of size ranks, nil for one node of all. Whole
// pieces of work go to a rank of each node before any gets a second.
func newNode(nodes []int, size int) (node, error) {
	if nodes == nil {
		nodes = make([]int, size)
	}
	if len(nodes) != size {
		return node{}, fmt.Errorf("nodes of %d ranks, where there are %d", len(nodes), size)
	}
	n := node{of: nodes}
	local, seen := make([]int, size), map[int]int{}
	for rank, of := range nodes {
		if of < 0 || of >= size {
			return node{}, fmt.Errorf("node %d of rank %d, want 0 to %d", of, rank, size-1)
		}
		local[rank] = seen[of]
		seen[of]++
		n.order = append(n.order, rank)
	}
	slices.SortStableFunc(n.order, func(a, b int) int { return cmp.Compare(local[a], local[b]) })
	return n, nil
}

// owner returns the rank that computes piece i of what is not spread.
func (r *ranks) owner(i int) int {
	if r.alone() {
		return 0
	}
	return r.node.order[i%len(r.node.order)]
}

// working returns how many ranks of this one's node own any of the first n pieces.
func (r *ranks) working(n int) int {
	if r.alone() {
		return 1
	}
	owners := map[int]bool{}
	for i := range n {
		if o := r.owner(i); r.node.of[o] == r.node.of[r.rank()] {
			owners[o] = true
		}
	}
	return len(owners)
}

// owned calls fn with the numbers of the pieces, of n, that this rank computes, if any,
// and with as many threads as its node has for those who compute.
func (e *execution) owned(ops tensor.Ops, n int, fn func(ops tensor.Ops, which []int)) {
	var which []int
	for i := range n {
		if e.ranks.owner(i) == e.ranks.rank() {
			which = append(which, i)
		}
	}
	if len(which) == 0 || ops.Err() != nil {
		return
	}
	if e.ranks.alone() || e.host.Wide == nil {
		fn(ops, which)
		return
	}
	b, done := e.host.Wide(e.ranks.working(n))
	defer done()
	wide := tensor.NewOps(e.ctx, b, e.space)
	fn(wide, which)
	ops.Fail(wide.Err())
	ops.Fail(b.Sync())
}
