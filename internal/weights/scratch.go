package weights

import (
	"fmt"
	"syscall"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// scratch returns a buffer of n bytes that is given back by free. It is mapped, not
// allocated: the collector would let several of the size of the largest weight pile up
// before it frees the first, and keep their pages for a while after that.
// Errors: tensor.ErrNoMemory.
func scratch(n int64) (buf []byte, free func(), err error) {
	if n == 0 {
		return nil, func() {}, nil
	}
	buf, err = syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, nil, fmt.Errorf("%d bytes to read weights through: %w: %w", n, tensor.ErrNoMemory, err)
	}
	return buf, func() {
		if err := syscall.Munmap(buf); err != nil {
			panic(err) // only if it is not what was mapped
		}
	}, nil
}
