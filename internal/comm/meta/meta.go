// Package meta is for planning: its ranks live in one process, compare every
// collective as on any transport, and count its bytes, but move none. A plan that
// runs on it is checked for ranks that would disagree or wait for each other.
package meta

import (
	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/pkg/comm"
)

// New returns the groups of size ranks, one a rank; each needs a goroutine of its
// own. Tensors need no memory behind them, and are left as they are. opts may be
// nil. Traffic of the groups has the counts; Split is not counted.
func New(size int, opts func(rank int) comm.Options) []comm.Group {
	worlds := local.Worlds(size, opts)
	groups := make([]comm.Group, size)
	for rank, w := range worlds {
		w.CountOnly()
		groups[rank] = engine.NewGroup(w)
	}
	return groups
}
