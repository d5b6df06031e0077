package tensor_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// onCPU returns ops on the cpu with bytes of activations.
func onCPU(t *testing.T, bytes int64) tensor.Ops {
	b := cpu.NewReference(1)
	t.Cleanup(b.Close)
	space, err := tensor.Reserve(b, [tensor.NumPurposes]int64{tensor.Activations: bytes, tensor.Latents: bytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	return tensor.NewOps(context.Background(), b, space)
}

func TestScopes(t *testing.T) {
	o := plan(t)
	a := o.Space()[tensor.Activations]
	use := func(want int64) {
		t.Helper()
		if a.Used() != want {
			t.Fatalf("%d bytes in use, want %d", a.Used(), want)
		}
	}
	f32(o, 1) // 256
	use(256)
	o.Scope(func() {
		f32(o, 65) // 512
		use(768)
		o.Scope(func() { f32(o, 1000); use(768 + 4096) })
		use(768)
		o.Using(tensor.Latents).Scope(func() { // another purpose's scope frees nothing here
			f32(o, 1)
			o.Using(tensor.Latents).Empty(tensor.F32, 300)
		})
		use(1024)
	})
	use(256)
	if a.Peak() != 768+4096 {
		t.Errorf("peak %d, want %d", a.Peak(), 768+4096)
	}
	latents := o.Space()[tensor.Latents]
	if latents.Used() != 0 || latents.Peak() != 1280 {
		t.Errorf("latents: %d in use with peak %d, want 0 and 1280", latents.Used(), latents.Peak())
	}
	o.Space().ResetPeaks()
	if a.Peak() != 256 {
		t.Errorf("peak %d after the reset, want 256", a.Peak())
	}
	func() {
		defer func() { _ = recover() }()
		o.Scope(func() { f32(o, 1000); panic("a bug in a model") })
	}()
	use(256)
}

func TestArenaOverflow(t *testing.T) {
	o := onCPU(t, 1000)
	f32(o, 100) // 512 of 1000
	if y := f32(o, 122); !errors.Is(o.Err(), tensor.ErrArena) || !y.IsNone() {
		t.Errorf("512 + 512 of 1000 bytes: %v and error %v, want ErrArena", y, o.Err())
	}
	o = onCPU(t, 1024)
	f32(o, 100)
	f32(o, 128)
	if o.Err() != nil {
		t.Errorf("512 + 512 of 1024 bytes: %v", o.Err())
	}
	o = plan(t) // without limit, yet not beyond what an int64 counts
	o.Empty(tensor.U8, math.MaxInt64-10)
	if !errors.Is(o.Err(), tensor.ErrArena) {
		t.Errorf("rounding up overflows: error %v, want ErrArena", o.Err())
	}
	o = plan(t)
	o.Empty(tensor.U8, math.MaxInt64/2)
	o.Empty(tensor.U8, math.MaxInt64/2)
	o.Empty(tensor.U8, 1024)
	if !errors.Is(o.Err(), tensor.ErrArena) {
		t.Errorf("the sum overflows: error %v, want ErrArena", o.Err())
	}
	defer func() {
		if recover() == nil {
			t.Error("releasing out of order did not panic")
		}
	}()
	tensor.NewArena(nil).Release(1)
}

// refusing is a backend that gives so many reservations and no more.
type refusing struct {
	tensor.Backend
	left, held int
}

type refusedMemory struct{ b *refusing }

func (m refusedMemory) Bytes() int64   { return 0 }
func (m refusedMemory) Release() error { m.b.held--; return nil }

func (b *refusing) Reserve(int64, tensor.Purpose) (tensor.Memory, error) {
	if b.left == 0 {
		return nil, tensor.ErrNoMemory
	}
	b.left--
	b.held++
	return refusedMemory{b}, nil
}

func TestReserveAllOrNothing(t *testing.T) {
	for left := range tensor.NumPurposes {
		b := &refusing{left: left}
		s, err := tensor.Reserve(b, [tensor.NumPurposes]int64{})
		if s != nil || !errors.Is(err, tensor.ErrNoMemory) || b.held != 0 {
			t.Errorf("refused after %d: space %v, error %v, %d reservations kept; want none", left, s != nil, err, b.held)
		}
	}
	b := &refusing{left: tensor.NumPurposes}
	s, err := tensor.Reserve(b, [tensor.NumPurposes]int64{})
	if err != nil || b.held != tensor.NumPurposes {
		t.Fatalf("%d reservations, error %v", b.held, err)
	}
	if err := s.Close(); err != nil || b.held != 0 {
		t.Errorf("%d reservations after Close, error %v", b.held, err)
	}
}

// TestUpdate replaces contents and frees the rest, whatever fn returned.
func TestUpdate(t *testing.T) {
	o := onCPU(t, 4096)
	x := o.FromFloats([]float32{1, 2, 3}, 3)
	before := o.Space().Used()
	for range 10 { // would not fit if it were not freed
		o.Update(x, func() tensor.Tensor {
			y := o.Clone(x, tensor.BF16)
			o.AddTo(y, y, none)
			return o.Clone(y, tensor.F16)
		})
	}
	o.Update(x, func() tensor.Tensor { return x })
	if diff := cmp.Diff([]float32{1024, 2048, 3072}, o.Floats(x)); diff != "" {
		t.Errorf("doubled ten times (-want +got):\n%s", diff)
	}
	if o.Space().Used() != before {
		t.Errorf("%v bytes in use, want %v", o.Space().Used(), before)
	}
	o.Update(x, func() tensor.Tensor { return f32(o, 4) })
	if !errors.Is(o.Err(), tensor.ErrShape) {
		t.Errorf("update by another shape: %v, want ErrShape", o.Err())
	}
}

func TestUsing(t *testing.T) {
	o := onCPU(t, 4096)
	kept := o.Using(tensor.Latents)
	var x tensor.Tensor
	o.Scope(func() {
		y := o.FromFloats([]float32{5}, 1)
		x = kept.Clone(y, tensor.F32)
	})
	o.Fill(f32(o, 1000), 7)
	if diff := cmp.Diff([]float32{5}, o.Floats(x)); diff != "" {
		t.Errorf("a latent after the activations' scope (-want +got):\n%s", diff)
	}
	kept.Reshape(x, 2)
	if o.Err() == nil {
		t.Error("an error in ops of another purpose does not stick here")
	}
}
