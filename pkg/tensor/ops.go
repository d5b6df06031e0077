package tensor

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// ErrNoMemory marks a reservation that the device or host refused.
var ErrNoMemory = errors.New("out of memory")

// Ops is what model code calls. Each op checks its arguments, allocates the
// result and has the backend fill it. The first error sticks: later ops do
// nothing and return tensors of no use, so that a forward reads without error
// checks; test Err where a result is used.
//
// An Ops serves one forward at a time, on one goroutine.
type Ops struct {
	*state
	purpose Purpose
}

type state struct {
	ctx     context.Context
	backend Backend
	space   *Space
	err     error
}

// NewOps returns ops on b that allocate from space, activations unless Using
// says otherwise. They stop with the cause of ctx when it is done.
func NewOps(ctx context.Context, b Backend, space *Space) Ops {
	return Ops{state: &state{ctx: ctx, backend: b, space: space}, purpose: Activations}
}

// Using returns the same ops with results allocated for purpose p.
func (o Ops) Using(p Purpose) Ops { return Ops{state: o.state, purpose: p} }

// Err returns the first error.
func (o Ops) Err() error { return o.err }

// Context returns the forward's context.
func (o Ops) Context() context.Context { return o.ctx }

// Backend returns what computes the ops.
func (o Ops) Backend() Backend { return o.backend }

// Space returns the arenas.
func (o Ops) Space() *Space { return o.space }

// Fail records err as the first error if there is none.
func (o Ops) Fail(err error) {
	if o.err == nil && err != nil {
		o.state.err = err
	}
}

// failf records a shape error of op.
func (o Ops) failf(op, format string, args ...any) Tensor {
	o.Fail(fmt.Errorf("%s: %s: %w", op, fmt.Sprintf(format, args...), ErrShape))
	return Tensor{}
}

// ok reports whether op can go on: no error so far, not cancelled, and every
// tensor that is needed is there.
func (o Ops) ok(op string, needed ...Tensor) bool {
	if o.err != nil {
		return false
	}
	if o.ctx.Err() != nil {
		o.Fail(fmt.Errorf("%s: %w", op, context.Cause(o.ctx)))
		return false
	}
	for i, t := range needed {
		if t.IsNone() {
			o.failf(op, "argument %d is none", i)
			return false
		}
	}
	return true
}

// do records the backend's error of op.
func (o Ops) do(op string, err error) {
	if err != nil {
		o.Fail(fmt.Errorf("%s on %s: %w", op, o.backend.Name(), err))
	}
}

// Empty allocates a tensor whose elements are not set.
func (o Ops) Empty(d DType, dims ...int) Tensor {
	if o.err != nil {
		return Tensor{}
	}
	shape := append(Shape(nil), dims...)
	n, ok := shape.NumElements()
	if !ok || d.Size() == 0 || n == 0 || n > math.MaxInt64/d.Size() {
		return o.failf("empty", "%v%v has no elements or too many", d, shape)
	}
	return o.place(Tensor{shape: shape, dtype: d}, n*d.Size())
}

// EmptyWeight allocates a weight in the layout that the backend wants for kind.
func (o Ops) EmptyWeight(kind WeightKind, d DType, dims ...int) Tensor {
	if o.err != nil {
		return Tensor{}
	}
	shape := append(Shape(nil), dims...)
	packed := o.backend.PackedBytes(kind, d, shape)
	if packed == 0 {
		return o.Empty(d, dims...)
	}
	return o.place(Tensor{shape: shape, dtype: d, packed: packed}, packed)
}

func (o Ops) place(t Tensor, bytes int64) Tensor {
	a := o.space[o.purpose]
	offset, err := a.alloc(bytes)
	if err != nil {
		o.Fail(fmt.Errorf("allocate %v for %v: %w", t, o.purpose, err))
		return Tensor{}
	}
	t.mem, t.offset = a.mem, offset
	return t
}

// FromHost allocates a tensor and fills it from src, row-major in type d.
func (o Ops) FromHost(d DType, src []byte, dims ...int) Tensor {
	dst := o.Empty(d, dims...)
	if o.err != nil {
		return Tensor{}
	}
	if int64(len(src)) != dst.Bytes() {
		return o.failf("from host", "%d bytes for %v", len(src), dst)
	}
	o.do("write", o.backend.Write(dst, src))
	return dst
}

// FromFloats allocates an F32 tensor and fills it from src.
func (o Ops) FromFloats(src []float32, dims ...int) Tensor {
	return o.FromHost(F32, FloatBytes(src), dims...)
}

// Floats returns the elements of x as F32 on the host, nil after an error.
func (o Ops) Floats(x Tensor) []float32 {
	if !o.ok("read", x) {
		return nil
	}
	dst := make([]float32, x.NumElements())
	o.ReadFloats(dst, x)
	return dst
}

// ReadFloats copies x, cast to F32, to dst.
func (o Ops) ReadFloats(dst []float32, x Tensor) {
	if !o.ok("read", x) {
		return
	}
	if int64(len(dst)) != x.NumElements() {
		o.failf("read", "%v into %d floats", x, len(dst))
		return
	}
	o.Scope(func() {
		y := o.Cast(x, F32)
		if o.err == nil {
			o.do("read", o.backend.Read(FloatBytes(dst), y))
		}
	})
}

// Bytes returns the bytes of x on the host, nil after an error.
func (o Ops) Bytes(x Tensor) []byte {
	if !o.ok("read", x) {
		return nil
	}
	dst := make([]byte, x.Bytes())
	o.do("read", o.backend.Read(dst, x))
	return dst
}

// Scope runs fn and then frees what fn allocated for the ops' purpose. Nothing
// allocated inside may be used after it.
func (o Ops) Scope(fn func()) {
	a := o.space[o.purpose]
	mark := a.Mark()
	defer a.Release(mark)
	fn()
}

// Update replaces the contents of x by the result of fn, which must have x's
// shape, and frees everything that fn allocated. The result is cast to x's type.
func (o Ops) Update(x Tensor, fn func() Tensor) {
	o.Scope(func() {
		if y := fn(); o.err == nil {
			o.CopyTo(x, y)
		}
	})
}
