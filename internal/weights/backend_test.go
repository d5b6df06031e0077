package weights_test

import (
	"context"
	"slices"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// hostBackend keeps weights as plain bytes. It computes nothing: an op that these
// tests do not need panics on the nil Backend inside.
type hostBackend struct {
	tensor.Backend
	pack    bool // pack matrices and convolutions, to twice their size
	log     []string
	pieces  []int  // bytes of each write
	pending func() // the last write, not yet done
	failed  error  // what writes return
}

type hostMemory []byte

func (m hostMemory) Bytes() int64 { return int64(len(m)) }
func (hostMemory) Release() error { return nil }

func (b *hostBackend) Name() string { return "host" }

func (b *hostBackend) Reserve(n int64, _ tensor.Purpose) (tensor.Memory, error) {
	return make(hostMemory, n), nil
}

func (b *hostBackend) PackedBytes(kind tensor.WeightKind, d tensor.DType, shape tensor.Shape) int64 {
	if !b.pack || kind == tensor.VectorWeight {
		return 0
	}
	n, _ := shape.NumElements()
	return 2 * n * d.Size()
}

// WriteWeight stores the bytes as they are; the packed layout is the plain one
// with nothing behind it.
func (b *hostBackend) WriteWeight(dst tensor.Tensor, kind tensor.WeightKind, src []byte) error {
	b.log = append(b.log, map[tensor.WeightKind]string{tensor.VectorWeight: "vector", tensor.MatrixWeight: "matrix", tensor.ConvWeight: "conv"}[kind]+" "+dst.String())
	return b.store(dst, src)
}

func (b *hostBackend) Write(dst tensor.Tensor, src []byte) error {
	b.log = append(b.log, "write "+dst.String())
	return b.store(dst, src)
}

// store puts off the copy until Sync, as a device may: who uses src again before
// that is found out.
func (b *hostBackend) store(dst tensor.Tensor, src []byte) error {
	b.pieces = append(b.pieces, len(src))
	if err := b.Sync(); err != nil {
		return err
	}
	to := dst.Memory().(hostMemory)[dst.Offset():]
	b.pending = func() { copy(to, src) }
	return b.failed
}

func (b *hostBackend) Sync() error {
	if b.pending != nil {
		b.pending()
		b.pending = nil
	}
	return nil
}

func (b *hostBackend) Read(dst []byte, src tensor.Tensor) error {
	err := b.Sync()
	copy(dst, src.Memory().(hostMemory)[src.Offset():])
	return err
}

// newOps returns ops with room bytes of weights.
func newOps(t testing.TB, b *hostBackend, room int64) tensor.Ops {
	t.Helper()
	var bytes [tensor.NumPurposes]int64
	bytes[tensor.Weights], bytes[tensor.Activations] = room, 1<<20
	space, err := tensor.Reserve(b, bytes)
	if err != nil {
		t.Fatal(err)
	}
	return tensor.NewOps(context.Background(), b, space)
}

// read returns the first bytes of t as they lie in memory.
func read(t tensor.Tensor, n int) []byte {
	return slices.Clone(t.Memory().(hostMemory)[t.Offset() : t.Offset()+int64(n)])
}
