package comm

import (
	"errors"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestPlace(t *testing.T) {
	for _, tc := range []struct {
		at   Place
		want string
	}{
		{Place{}, ""},
		{Place{Phase: "vae_encode"}, "vae_encode"},
		{Place{Step: 4, Block: 17}, "block 17, step 4"},
		{Place{Phase: "denoise", Purpose: "qkv", Step: 4, Block: 17}, "denoise, block 17, step 4, qkv"},
	} {
		if got := tc.at.String(); got != tc.want {
			t.Errorf("%+v is %q, expected %q", tc.at, got, tc.want)
		}
	}
	if got := (Place{Phase: strings.Repeat("x", MaxLabel+1)}).Cut().Phase; len(got) != MaxLabel {
		t.Errorf("cut to %d bytes, expected %d", len(got), MaxLabel)
	}
}

func TestFailure(t *testing.T) {
	cause := errors.New("cause")
	f := &Failure{Kind: ErrTimeout, Text: "rank 1 is late", Cause: cause}
	for _, target := range []error{ErrAborted, ErrTimeout, cause} {
		if !errors.Is(f, target) {
			t.Errorf("%v is not %v", f, target)
		}
	}
	if errors.Is(f, ErrMismatch) || errors.Is(f, ErrPeerLost) {
		t.Errorf("%v is of several kinds", f)
	}
}

type deviceMemory struct{}

func (deviceMemory) Bytes() int64   { return 1 << 20 }
func (deviceMemory) Release() error { return nil }

func TestHostBytes(t *testing.T) {
	b := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	x, err := OfBytes(tensor.BF16, b, 4)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := HostBytes(x.Slice(1, 2)); err != nil || len(got) != 4 || &got[0] != &b[2] || cap(got) != 4 {
		t.Errorf("bytes of a slice: %v with capacity %d (%v)", got, cap(got), err)
	}
	if got, err := HostBytes(tensor.Tensor{}); got != nil || err != nil {
		t.Errorf("bytes of none: %v (%v)", got, err)
	}
	if none, err := OfBytes(tensor.F32, nil, 0, 3); err != nil || !none.IsNone() {
		t.Errorf("no bytes make %v (%v)", none, err)
	}
	for name, x := range map[string]tensor.Tensor{
		"device memory":  tensor.New(deviceMemory{}, 0, tensor.F32, tensor.Shape{4}),
		"behind its end": tensor.New(&slice{b}, 4, tensor.F32, tensor.Shape{2}),
	} {
		if got, err := HostBytes(x); !errors.Is(err, tensor.ErrShape) {
			t.Errorf("%s: %v (%v)", name, got, err)
		}
	}
	if x, err := OfBytes(tensor.F32, b, 3); !errors.Is(err, tensor.ErrShape) {
		t.Errorf("8 bytes make %v (%v)", x, err)
	}
}
