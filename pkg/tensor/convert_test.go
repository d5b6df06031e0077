package tensor

import (
	"math"
	"testing"
)

// widenRef is the value of a float of the given layout, by its definition. It
// knows nothing of bits of float32.
func widenRef(bits uint32, expBits, fracBits int) (v float64) {
	bias := 1<<(expBits-1) - 1
	exp := int(bits >> fracBits & (1<<expBits - 1))
	frac := float64(bits&(1<<fracBits-1)) / float64(uint32(1)<<fracBits)
	if exp == 0 {
		v = math.Ldexp(frac, 1-bias)
	} else {
		v = math.Ldexp(1+frac, exp-bias)
	}
	if bits>>(expBits+fracBits)&1 != 0 {
		v = -v
	}
	return v
}

// same reports whether a float32 is the value v, with the same sign of zero.
func same(f float32, v float64) bool {
	return float64(f) == v && math.Signbit(float64(f)) == math.Signbit(v)
}

func TestBF16EveryValue(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := BF16ToF32(h)
		isNaN, isInf := h&0x7fff > 0x7f80, h&0x7fff == 0x7f80
		switch {
		case isNaN:
			if f == f {
				t.Fatalf("BF16ToF32(%#04x) = %g, want NaN", h, f)
			}
			if back := F32ToBF16(f); back&0x7fff <= 0x7f80 || back>>15 != h>>15 {
				t.Fatalf("F32ToBF16(NaN of %#04x) = %#04x, want a NaN of the same sign", h, back)
			}
			continue
		case isInf:
			if !math.IsInf(float64(f), 1-2*int(h>>15)) {
				t.Fatalf("BF16ToF32(%#04x) = %g, want an infinity", h, f)
			}
		case !same(f, widenRef(uint32(h), 8, 7)):
			t.Fatalf("BF16ToF32(%#04x) = %g, want %g", h, f, widenRef(uint32(h), 8, 7))
		}
		if back := F32ToBF16(f); back != h {
			t.Fatalf("F32ToBF16(%g) = %#04x, want %#04x", f, back, h)
		}
	}
}

func TestF16EveryValue(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := F16ToF32(h)
		isNaN, isInf := h&0x7fff > 0x7c00, h&0x7fff == 0x7c00
		switch {
		case isNaN:
			if f == f {
				t.Fatalf("F16ToF32(%#04x) = %g, want NaN", h, f)
			}
			if back := F32ToF16(f); back&0x7fff <= 0x7c00 || back>>15 != h>>15 {
				t.Fatalf("F32ToF16(NaN of %#04x) = %#04x, want a NaN of the same sign", h, back)
			}
			continue
		case isInf:
			if !math.IsInf(float64(f), 1-2*int(h>>15)) {
				t.Fatalf("F16ToF32(%#04x) = %g, want an infinity", h, f)
			}
		case !same(f, widenRef(uint32(h), 5, 10)):
			t.Fatalf("F16ToF32(%#04x) = %g, want %g", h, f, widenRef(uint32(h), 5, 10))
		}
		if back := F32ToF16(f); back != h {
			t.Fatalf("F32ToF16(%g) = %#04x, want %#04x", f, back, h)
		}
	}
}

func TestF8E4M3EveryValue(t *testing.T) {
	largest := float32(0)
	for i := range 1 << 8 {
		b := uint8(i)
		f := F8E4M3ToF32(b)
		if b&0x7f == 0x7f {
			if f == f {
				t.Errorf("F8E4M3ToF32(%#02x) = %g, want NaN", b, f)
			}
			continue
		}
		if want := widenRef(uint32(b), 4, 3); !same(f, want) {
			t.Errorf("F8E4M3ToF32(%#02x) = %g, want %g", b, f, want)
		}
		largest = max(largest, f)
	}
	if largest != 448 { // OCP 8-bit floating point specification, table 2
		t.Errorf("the largest value is %g, want 448", largest)
	}
}

// TestNarrowing rounds at and beside the middle of each pair of neighbours: below
// it to the lower one, above it to the upper one, on it to the even one.
func TestNarrowing(t *testing.T) {
	for _, f := range []struct {
		name   string
		widen  func(uint16) float32
		narrow func(float32) uint16
		inf    uint16
	}{
		{"BF16", BF16ToF32, F32ToBF16, 0x7f80},
		{"F16", F16ToF32, F32ToF16, 0x7c00},
	} {
		t.Run(f.name, func(t *testing.T) {
			for h := uint16(0); h < f.inf; h++ {
				lo, hi := float64(f.widen(h)), float64(f.widen(h+1))
				if h+1 == f.inf { // what the next value would be, were there one
					hi = 2*lo - float64(f.widen(h-1))
				}
				middle := float32((lo + hi) / 2)
				if float64(middle) != (lo+hi)/2 {
					t.Fatalf("the middle of %g and %g is not exact", lo, hi)
				}
				even := h + h&1
				below, above := math.Nextafter32(middle, 0), math.Nextafter32(middle, float32(math.Inf(1)))
				for _, c := range []struct {
					in   float32
					want uint16
				}{{below, h}, {middle, even}, {above, h + 1}} {
					if got := f.narrow(c.in); got != c.want {
						t.Fatalf("narrow(%b) = %#04x, want %#04x", c.in, got, c.want)
					}
					if got := f.narrow(-c.in); got != c.want|0x8000 {
						t.Fatalf("narrow(%b) = %#04x, want %#04x", -c.in, got, c.want|0x8000)
					}
				}
			}
			for _, big := range []float32{math.MaxFloat32, float32(math.Inf(1))} {
				if got := f.narrow(big); got != f.inf {
					t.Errorf("narrow(%g) = %#04x, want %#04x", big, got, f.inf)
				}
			}
		})
	}
}
