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
func (e *execution) withStore(ops tensor.Ops, units []nn.Unit, src checkpoint.Source, compute tensor.DType, opts fsdp.Options, storedBytes int64, fn func(nn.Weights) error) error {
	parts, err := sharded.Units(units, compute)
	if err != nil {
		return err
	}
	held, gathered := ops.Using(tensor.Weights), ops.Using(tensor.Gathered)
	held.Scope(func() {
		gathered.Scope(func() {
			store := fsdp.Open(ops, parts, sharded.Reader(src), opts)
			e.hostWeights = max(e.hostWeights, store.HostBytes())
			fromFile, fromHost := e.fetches(opts)
			e.reads(units, storedBytes, compute, store.ShardBytes()*fromFile)
			e.tally.work.FromHost += store.ShardBytes() * fromHost
			if ops.Err() == nil {
				err = fn(fsdp.Weights[nn.Params]{Store: store})
			}
			ops.Fail(err)
			if ops.Err() != nil {
				opts.Group.Abort(ops.Err()) // nobody waits for this rank's next gathering
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
		return e.withStore(ops, units, e.src.dit, compute, opts, storedF32, fn)
	case once:
		e.reads(units, storedF32, compute, nn.Bytes(units, compute))
		return fn(weights.NewStream(units, e.src.dit, compute))
	case e.ranks.dit == nil:
		e.reads(units, storedF32, compute, nn.Bytes(units, compute))
		return fn(weights.Load(ops, units, e.src.dit, compute))
	}
	free := func() error { return nil }
	if s.Rest == fsdp.OnHost {
		opts.Twins = e.ranks.twins
		if opts.Twins != nil && opts.Twins.Size() > 1 {
			opts.Host = e.sharedMemory(opts.Twins, &free)
		}
	}
	err := e.withStore(ops, units, e.src.dit, compute, opts, storedF32, fn)
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

// fetches is how often a rank's shards come from the file and from host memory in a phase:
// once, or with each forward where they do not rest on the device.
func (e *execution) fetches(opts fsdp.Options) (fromFile, fromHost int64) {
	forwards := int64(1)
	if opts.Cyclic {
		forwards = int64(max(e.wholeSteps, 1))
		if e.job.Spread.BranchesApart {
			forwards *= 2
		}
	}
	switch opts.Rest {
	case fsdp.OnHost:
		return 1, forwards
	case fsdp.InFile:
		return forwards, 0
	}
	return 1, 0
}
