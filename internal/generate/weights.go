package generate

import (
	"errors"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/sharded"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// withStore runs fn with the weights of units, a part of which each rank of
// opts.Group keeps, and frees them.
func (e *execution) withStore(ops tensor.Ops, units []nn.Unit, src checkpoint.Source, compute tensor.DType, opts fsdp.Options, fn func(nn.Weights) error) error {
	parts, err := sharded.Units(units, compute)
	if err != nil {
		return err
	}
	held, gathered := ops.Using(tensor.Weights), ops.Using(tensor.Gathered)
	held.Scope(func() {
		gathered.Scope(func() {
			store := fsdp.Open(ops, parts, sharded.Reader(src), opts)
			e.hostWeights = max(e.hostWeights, store.HostBytes())
			if ops.Err() == nil {
				err = fn(fsdp.Weights[nn.Params]{Store: store})
			}
			ops.Fail(err)
			if ops.Err() != nil {
				e.ranks.world.Abort(ops.Err()) // nobody waits for this rank's next gathering
			}
			ops.Fail(store.Close())
		})
	})
	return ops.Err()
}

// withDiT runs fn with the DiT's weights of units: sharded or at rest elsewhere, or
// streamed if they are used once, or whole.
func (e *execution) withDiT(ops tensor.Ops, units []nn.Unit, once bool, fn func(nn.Weights) error) error {
	s, compute := e.job.Spread, e.job.DType
	opts := fsdp.Options{Group: e.ranks.dit, Rest: s.Rest, Cyclic: !once, Phase: PhaseDenoise}
	switch {
	case once && s.ShardDiT && !e.ranks.alone():
		opts.Rest = fsdp.InFile // its units are read once either way
		return e.withStore(ops, units, e.src.dit, compute, opts, fn)
	case once:
		return fn(weights.NewStream(units, e.src.dit, compute))
	case e.ranks.dit == nil:
		return fn(weights.Load(ops, units, e.src.dit, compute))
	}
	free := func() error { return nil }
	if s.Rest == fsdp.OnHost {
		opts.Twins = e.ranks.twins
		if opts.Twins.Size() > 1 {
			opts.Host = e.sharedMemory(opts.Twins, &free)
		}
	}
	err := e.withStore(ops, units, e.src.dit, compute, opts, fn)
	return errors.Join(err, free())
}

// sharedMemory gets the memory of twins from the host, to be given back by free.
func (e *execution) sharedMemory(twins comm.Group, free *func() error) func(n int64) ([]byte, error) {
	return func(n int64) ([]byte, error) {
		if e.host.Share == nil {
			return nil, errors.New("the ranks have no way to share host memory")
		}
		mem, release, err := e.host.Share(e.ctx, twins, n)
		if err == nil {
			*free = release
		}
		return mem, err
	}
}
