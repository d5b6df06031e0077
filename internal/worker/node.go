package worker

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/cgroup"
	"github.com/wanrun/wanrun/internal/comm/host"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// localSize is how many ranks are on this rank's node.
func (c Config) localSize() int {
	if c.Nodes == nil {
		return c.Size
	}
	n := 0
	for _, node := range c.Nodes {
		if node == c.Nodes[c.Rank] {
			n++
		}
	}
	return n
}

// wideThreads is how many threads one rank may use while the others of its node wait,
// where each has own of them: all processors if they were divided among the ranks, and no
// more than the ranks have together if they were given fewer.
func wideThreads(own, local, processors int) int {
	all := processors
	if own < processors/local {
		all = own * local
	}
	return max(own, all)
}

// wide returns a backend for a rank of the few that compute.
func wide(own, local int) func(working int) (tensor.Backend, func()) {
	return func(working int) (tensor.Backend, func()) {
		b := cpu.New(max(own, wideThreads(own, local, cpu.Threads())/max(working, 1)))
		return b, b.Close
	}
}

// processBytes is what a worker takes beside its arenas, about: runtime, buffers, kernels'
// scratch. Measured with the demo on one thread: 53 MiB.
const processBytes = 64 << 20

// available returns how many bytes one of so many ranks of this node may take: of the
// memory that is free or that the control group allows, whichever is less. 0 is unknown.
func available(root fs.FS, ranks int) int64 {
	free := int64(-1)
	if data, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		if n := parseStatus(data, "MemAvailable:"); n > 0 {
			free = n
		}
	}
	if groups, err := cgroup.Of(root); err == nil {
		if limit := groups.Memory.Memory(root).Limit; limit != cgroup.Unknown && (free < 0 || limit < free) {
			free = limit
		}
	}
	if free < 0 {
		return 0
	}
	return max(free/int64(max(ranks, 1))-processBytes, 1)
}

// share gives ranks of this node memory in common, if there is so much.
func share(ctx context.Context, g comm.Group, n int64) (mem []byte, free func() error, err error) {
	if have := available(os.DirFS("/"), 1); have > 0 && n > have {
		return nil, nil, fmt.Errorf("%d MiB of host memory for weights, there are %d: %w", n>>20, have>>20, tensor.ErrNoMemory)
	}
	m, err := host.ShareMemory(ctx, g, n)
	if err != nil {
		return nil, nil, err
	}
	return m.Bytes(), m.Close, nil
}
