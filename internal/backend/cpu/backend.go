package cpu

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// Backend computes on a fixed number of threads. Its methods are called from
// one goroutine and return when the work is done.
type Backend struct {
	name    string
	pool    *pool
	kernels kernels
	library *library // nil: the kernels do everything
}

var _ tensor.Backend = (*Backend)(nil)

// New returns the fastest backend of this build and machine on the given number
// of threads, at least 1. oneDNN is it only where it has 16-float vectors, which
// the kernels here do not use; on others it is no faster than they are.
func New(threads int) *Backend {
	b := newFast(threads)
	if l, err := newLibrary(); err == nil {
		if l.engine.Wide() {
			b.use(l)
		} else {
			_ = l.close() // it made nothing yet
		}
	}
	return b
}

// NewOneDNN returns a backend that leaves F32 products and convolutions, and BF16
// products where the machine has them, to oneDNN. Errors: onednn.ErrNotBuilt.
func NewOneDNN(threads int) (*Backend, error) {
	l, err := newLibrary()
	if err != nil {
		return nil, err
	}
	b := newFast(threads)
	b.use(l)
	return b, nil
}

func (b *Backend) use(l *library) {
	b.library = l
	b.name += " with onednn " + l.engine.ISA()
}

// newFast returns a backend with the best kernels for the machine.
func newFast(threads int) *Backend {
	b := NewReference(threads)
	if fast, ok := fastKernels(); ok {
		b.name, b.kernels = "cpu (avx2)", fast
	}
	return b
}

// NewReference returns a backend in Go alone, without assembly or libraries: what
// the others are tested against.
func NewReference(threads int) *Backend {
	return &Backend{name: "cpu (go)", pool: newPool(threads), kernels: goKernels}
}

// Close ends the backend's threads. Memory that it reserved stays valid.
func (b *Backend) Close() {
	b.pool.close()
	if b.library != nil {
		_ = b.library.close() // destroying what was made cannot fail
	}
}

// Name identifies the backend.
func (b *Backend) Name() string { return b.name }

// Threads returns the number of threads.
func (b *Backend) Threads() int { return len(b.pool.workers) }

// Reserve maps memory of which only the touched pages become resident.
// Errors: tensor.ErrNoMemory.
func (b *Backend) Reserve(bytes int64, _ tensor.Purpose) (tensor.Memory, error) {
	m, err := reserve(bytes)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Write copies host bytes to dst.
func (b *Backend) Write(dst tensor.Tensor, src []byte) error {
	to := viewOf(dst).bytes
	if len(to) != len(src) {
		return fmt.Errorf("write %d bytes to %v of %d bytes: %w", len(src), dst, len(to), tensor.ErrShape)
	}
	b.copyBytes(to, src)
	return nil
}

// Read copies src to host bytes.
func (b *Backend) Read(dst []byte, src tensor.Tensor) error {
	from := viewOf(src).bytes
	if len(from) != len(dst) {
		return fmt.Errorf("read %v of %d bytes to %d bytes: %w", src, len(from), len(dst), tensor.ErrShape)
	}
	b.copyBytes(dst, from)
	return nil
}

// Sync returns nil: every method has finished its work when it returns.
func (b *Backend) Sync() error { return nil }
