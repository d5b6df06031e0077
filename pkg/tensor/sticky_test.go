package tensor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// failing is a meta backend whose products fail.
type failing struct {
	*meta.Backend
	err error
}

func (b failing) MatMul(_, _, _, _ tensor.Tensor, _ tensor.Activation) error { return b.err }

func TestErrorsStick(t *testing.T) {
	like := cpu.NewReference(1)
	defer like.Close()
	broken := errors.New("device lost")
	b := failing{meta.New(like), broken}
	o := tensor.NewOps(context.Background(), b, tensor.Unlimited())
	x := f32(o, 4, 4)
	y := o.MatMul(x, x, none, tensor.NoActivation, tensor.F32)
	if !errors.Is(o.Err(), broken) || o.Err().Error() != "matmul on "+b.Name()+": device lost" {
		t.Fatalf("error %v, want the backend's with op and backend", o.Err())
	}
	first, ops, used := o.Err(), b.Ops, o.Space().Used()
	// What follows does nothing, sizes can be read, and no later error replaces the first.
	o.Scope(func() {
		z := o.Activate(o.Reshape(y, 3, 3), tensor.SiLU)
		z = o.Concat(0, z, o.Empty(tensor.F32, 1<<40), z.Slice(0, 1))
		z = o.Attention(z, z, z, tensor.AttentionSpec{KeyLen: z.Dim(5)})
		o.Update(z, func() tensor.Tensor { return o.Permute(z, 7) })
		o.AddTo(z, y, none)
		o.Fill(z, 1)
		o.CopyTo(z, y)
		o.Place(z, y, 3, 4)
		o.ReadFloats(make([]float32, 3), z)
		if z.Dim(0) != 0 || o.Floats(z) != nil || o.Bytes(z) != nil {
			t.Errorf("a failed op gave %v", z)
		}
		o.Using(tensor.Weights).EmptyWeight(tensor.MatrixWeight, tensor.F32, 4, 4)
	})
	o.Fail(errors.New("later"))
	if o.Err() != first || b.Ops != ops || o.Space().Used() != used {
		t.Errorf("after the error: error %v, %d ops, %v bytes; want %v, %d, %v", o.Err(), b.Ops, o.Space().Used(), first, ops, used)
	}
}

func TestFailKeepsFirst(t *testing.T) {
	o := plan(t)
	o.Fail(nil)
	if o.Err() != nil {
		t.Fatalf("no error became %v", o.Err())
	}
	first := errors.New("first")
	o.Fail(first)
	o.Fail(errors.New("second"))
	if o.Err() != first {
		t.Errorf("error %v, want the first", o.Err())
	}
}

func TestCancelCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	like := cpu.NewReference(1)
	defer like.Close()
	o := tensor.NewOps(ctx, meta.New(like), tensor.Unlimited())
	x := f32(o, 2)
	o.Activate(x, tensor.SiLU)
	reason := errors.New("peer lost")
	cancel(reason)
	if o.Err() != nil {
		t.Fatalf("error before the next op: %v", o.Err())
	}
	if y := o.Cast(x, tensor.BF16); !y.IsNone() || !errors.Is(o.Err(), reason) {
		t.Errorf("%v with error %v, want none with the cause", y, o.Err())
	}
}
