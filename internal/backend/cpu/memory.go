package cpu

import (
	"fmt"
	"math"
	"syscall"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Memory is one anonymous mapping: only the pages that are touched count as
// resident.
type Memory struct {
	data []byte
}

// reserve maps size bytes. Errors: tensor.ErrNoMemory.
func reserve(size int64) (*Memory, error) {
	switch {
	case size < 0 || size > math.MaxInt:
		return nil, fmt.Errorf("reserve %d bytes: not a size: %w", size, tensor.ErrNoMemory)
	case size == 0:
		return &Memory{}, nil
	}
	data, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w: %w", size, err, tensor.ErrNoMemory)
	}
	return &Memory{data: data}, nil
}

// Bytes returns the size of the reservation.
func (m *Memory) Bytes() int64 { return int64(len(m.data)) }

// HostBytes returns the bytes themselves.
func (m *Memory) HostBytes() []byte { return m.data }

// Release unmaps the memory. Tensors in it must not be used afterwards.
func (m *Memory) Release() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	if err := syscall.Munmap(data); err != nil {
		return fmt.Errorf("unmap %d bytes: %w", len(data), err)
	}
	return nil
}
