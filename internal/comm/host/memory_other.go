//go:build !linux

package host

import (
	"context"
	"fmt"

	"github.com/wanrun/wanrun/pkg/comm"
)

// Memory is memory that processes of one node have in common: not on this system.
type Memory struct{}

// Bytes is the memory itself.
func (m *Memory) Bytes() []byte { return nil }

// Close unmaps it.
func (m *Memory) Close() error { return nil }

// ShareMemory returns that this system has no memory to share.
func ShareMemory(context.Context, comm.Group, int64) (*Memory, error) {
	return nil, fmt.Errorf("%w; shard the weights instead (--dit-fsdp)", errNoSegments)
}
