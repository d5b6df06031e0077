package generate

import (
	"context"
	"errors"
	"fmt"

	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/parallel"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
	"github.com/wanrun/wanrun/pkg/ulysses"
)

// Spread says how a job is spread over ranks. All ranks have the same. The zero
// Spread is one rank.
type Spread struct {
	Mesh sharding.Mesh
	// Nodes is the node of each rank; nil puts all on one.
	Nodes []int
	// ShardDiT and ShardT5 keep 1/P of the weights on each rank of the mesh's FSDP
	// axis, gathered a unit at a time; otherwise the DiT is whole on every rank, and
	// T5 runs on the first ranks, a prompt each, with the threads of all.
	ShardDiT, ShardT5 bool
	// Rest is where the weights of the DiT are between uses, sharded or whole. In host
	// memory each byte is there once on a node.
	Rest fsdp.Rest
	// CompatPadding attends to padding tokens as the official code does.
	CompatPadding bool
	// BranchesApart runs the branches of guidance in a forward each: every unit of
	// sharded weights is gathered for each, but only one residual stream exists.
	BranchesApart bool
}

// ranks is a rank's membership in the groups of a run; without a world it is alone
// and every method does what one rank does.
type ranks struct {
	world    comm.Group // nil for one rank
	node     node
	weights  comm.Group // shares one copy of sharded weights
	dit      comm.Group // shares one copy of the DiT's: weights, or this rank alone; nil if loaded whole
	twins    comm.Group // ranks of the node with the same part of the DiT's; nil unless it rests in host memory
	branches comm.Group // one rank of each branch of guidance; nil if every rank runs both
	seq      *ulysses.Attention
	coord    sharding.Coord
	closers  []func() error // of the groups, in order of their making
}

// join makes the groups. It is a collective. Sub-groups of what failed are closed
// with the world. lone makes the group of a rank that is alone.
func join(ctx context.Context, world comm.Group, s Spread, heads int, lone func() comm.Group) (*ranks, error) {
	r := &ranks{}
	if world == nil || world.Size() == 1 {
		if s.Rest != fsdp.OnDevice { // a store of one rank's own
			r.dit = lone()
			r.closers = append(r.closers, r.dit.Close)
		}
		return r, nil
	}
	if err := s.Mesh.Check(world.Size(), heads); err != nil {
		return r, fmt.Errorf("mesh: %w", err)
	}
	r.world, r.coord = world, s.Mesh.Coord(world.Rank())
	var err error
	if r.node, err = newNode(s.Nodes, world.Size()); err != nil {
		return r, err
	}
	if r.weights, err = r.split(ctx, s.Mesh, sharding.FSDP); err != nil {
		return r, err
	}
	if err := r.joinDiT(ctx, s); err != nil {
		return r, err
	}
	if s.Mesh.CFG > 1 {
		if r.branches, err = r.split(ctx, s.Mesh, sharding.CFG); err != nil {
			return r, err
		}
	}
	sequence, err := r.split(ctx, s.Mesh, sharding.Sequence)
	if err != nil {
		return r, err
	}
	r.seq, err = ulysses.New(ctx, sequence, ulysses.Options{Heads: heads, Degree: s.Mesh.Ulysses, CompatPadding: s.CompatPadding})
	if err != nil {
		return r, err
	}
	r.closers = append(r.closers, r.seq.Close)
	return r, nil
}

// joinDiT makes the groups of the DiT's weights.
func (r *ranks) joinDiT(ctx context.Context, s Spread) (err error) {
	switch {
	case s.ShardDiT:
		r.dit = r.weights
	case s.Rest == fsdp.OnDevice:
		return nil // loaded as one rank does
	default:
		if r.dit, err = r.splitBy(ctx, "own", r.rank()); err != nil {
			return err
		}
	}
	if s.Rest == fsdp.OnHost {
		color := r.node.of[r.rank()]*r.world.Size() + r.dit.Rank()
		r.twins, err = r.splitBy(ctx, "twins", color)
	}
	return err
}

func (r *ranks) split(ctx context.Context, m sharding.Mesh, axis sharding.Axis) (comm.Group, error) {
	return r.splitBy(ctx, axis.String(), m.Color(axis, r.rank()))
}

func (r *ranks) splitBy(ctx context.Context, what string, color int) (comm.Group, error) {
	g, err := r.world.Split(ctx, comm.Place{Purpose: "groups"}, color, r.rank())
	if err != nil {
		return nil, fmt.Errorf("%s group: %w", what, err)
	}
	r.closers = append(r.closers, g.Close)
	return g, nil
}

// close leaves the groups that join made.
func (r *ranks) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	return errors.Join(errs...)
}

func (r *ranks) alone() bool { return r.world == nil }

func (r *ranks) rank() int {
	if r.alone() {
		return 0
	}
	return r.world.Rank()
}

// share returns the n floats x that root has computed, on every rank.
func (r *ranks) share(ops tensor.Ops, at comm.Place, x []float32, n, root int) []float32 {
	if r.alone() {
		return x
	}
	staging := ops.Using(tensor.Collective)
	staging.Scope(func() {
		t := staging.Empty(tensor.F32, n)
		if r.rank() == root {
			staging.CopyTo(t, staging.FromFloats(x, n))
		} else {
			x = make([]float32, n)
		}
		if ops.Err() == nil {
			ops.Fail(r.world.Broadcast(ops.Context(), at, t, root))
			ops.ReadFloats(x, t)
		}
	})
	return x
}

// guide returns the predictions of both branches, of which this rank has made
// those in pred: both, or its own.
func (r *ranks) guide(ops tensor.Ops, at comm.Place, pred [][]float32) [][]float32 {
	if r.branches == nil {
		return pred
	}
	n := len(pred[0])
	both := [][]float32{make([]float32, n), make([]float32, n)}
	staging := ops.Using(tensor.Collective)
	staging.Scope(func() {
		all := staging.Empty(tensor.F32, 2, n)
		own := staging.FromFloats(pred[0], n)
		if ops.Err() == nil {
			ops.Fail(r.branches.AllGather(ops.Context(), at, all, own, nil))
		}
		for b := range both {
			if ops.Err() == nil {
				ops.ReadFloats(both[b], ops.Reshape(all.Slice(b, 1), n))
			}
		}
	})
	return both
}

// slabs spreads the rows of the VAE's frames over all ranks.
func (r *ranks) slabs(ctx context.Context, height int, phase string) (*parallel.Slabs, error) {
	return parallel.NewSlabs(ctx, r.world, height, phase)
}

// sequence is how the DiT's tokens are spread.
func (r *ranks) sequence() wan.SeqParallel {
	if r.seq == nil {
		return wan.Whole{}
	}
	return r.seq
}
