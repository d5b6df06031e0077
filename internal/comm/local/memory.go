package local

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Memory gives ranks of one process memory in common. All of them use the same one.
type Memory struct {
	mu     sync.Mutex
	last   int64
	pieces map[int64][]byte // on their way from the first rank of a group to the others
}

// Share returns n bytes that are the same for all ranks of g. It is a collective.
func (m *Memory) Share(ctx context.Context, g comm.Group, n int64) ([]byte, error) {
	number := make([]byte, 8)
	if g.Rank() == 0 {
		binary.LittleEndian.PutUint64(number, uint64(m.put(make([]byte, n))))
	}
	t, err := comm.OfBytes(tensor.I64, number, 1)
	if err != nil {
		return nil, err
	}
	at := comm.Place{Purpose: "shared memory"}
	if err := g.Broadcast(ctx, at, t, 0); err != nil {
		return nil, err
	}
	id := int64(binary.LittleEndian.Uint64(number))
	piece, ok := m.get(id)
	if !ok || int64(len(piece)) != n {
		return nil, errors.New("shared memory: the ranks do not use one Memory, or ask for different sizes")
	}
	if err := g.Barrier(ctx, at); err != nil {
		return nil, err
	}
	if g.Rank() == 0 {
		m.drop(id)
	}
	return piece, nil
}

func (m *Memory) put(piece []byte) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pieces == nil {
		m.pieces = map[int64][]byte{}
	}
	m.last++
	m.pieces[m.last] = piece
	return m.last
}

func (m *Memory) get(id int64) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	piece, ok := m.pieces[id]
	return piece, ok
}

func (m *Memory) drop(id int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pieces, id)
}
