package picture

import (
	"errors"
	"math"
	"testing"
)

func TestCubicWeights(t *testing.T) {
	for _, tc := range []struct {
		frac float32
		want [4]float32 // by hand: a = -3/4
	}{
		{0, [4]float32{0, 1, 0, 0}},
		{1, [4]float32{0, 0, 1, 0}},
		{0.5, [4]float32{-0.09375, 0.59375, 0.59375, -0.09375}},
		{0.25, [4]float32{-0.10546875, 0.87890625, 0.26171875, -0.03515625}},
	} {
		if got := cubicWeights(tc.frac); got != tc.want {
			t.Errorf("cubicWeights(%v) = %v, want %v", tc.frac, got, tc.want)
		}
	}
}

func TestBicubicKeepsSizeAndConstants(t *testing.T) {
	p := newRGB(7, 5)
	for i := range p.Pix {
		p.Pix[i] = uint8(i * 37)
	}
	want := p.Normalize().Pix
	for i, got := range BicubicHWC(p, 5, 7) {
		if got != want[i] {
			t.Fatalf("same size: value %d is %g, want %g", i, got, want[i])
		}
	}
	// The weights' sum is 1 only up to rounding: each passes through values near
	// 6, so errs by up to 2.4e-7; four of them along each of two axes.
	const tolerance = 8 * 2.4e-7
	dot := &RGB{W: 1, H: 1, Pix: []uint8{0, 255, 51}}
	for i, got := range BicubicHWC(dot, 16, 1000) {
		if want := dot.Normalize().Pix[i%3]; math.Abs(float64(got-want)) > tolerance {
			t.Fatalf("1 x 1 enlarged: value %d is %g, want %g", i, got, want)
		}
	}
	// A line of 10000 to a square: extreme, but nothing may break.
	for i, got := range BicubicHWC(newRGB(10000, 1), 3, 3) {
		if !(math.Abs(float64(got)+1) <= tolerance) {
			t.Errorf("black line shrunk: value %d is %g, want -1", i, got)
		}
	}
}

func TestCenterCropCompat(t *testing.T) {
	last := newRGB(10, 8)
	for i := range last.Pix {
		last.Pix[i] = uint8(i)
	}
	at := func(p *Float, x, y int) float32 { return p.Pix[(y*p.W+x)*3] }
	whole := last.Normalize()
	// Cover 4 x 4 with 10 x 8: ratio 1/2, 5 x 4; cut as width 4, height 5.
	// Left (10-4)/2 = 3, top (8-5)/2 = 1.5, to even: 2.
	crop, err := CenterCropCompat(last, 4, 4, 0)
	if err != nil {
		t.Fatal(err)
	}
	if crop.W != 4 || crop.H != 5 || at(crop, 0, 0) != at(whole, 3, 2) || at(crop, 3, 4) != at(whole, 6, 6) {
		t.Errorf("cropped to %d x %d, corners %g %g, want 4 x 5, %g %g", crop.W, crop.H,
			at(crop, 0, 0), at(crop, crop.W-1, crop.H-1), at(whole, 3, 2), at(whole, 6, 6))
	}
	// Cover 9 x 9 with 10 x 8: ratio 9/8, 11.25 x 9 = 11 x 9; width 9, height 11.
	// One column is cut (left 0.5 to even: 0), three rows added, one of them on top.
	crop, err = CenterCropCompat(last, 9, 9, 0)
	if err != nil {
		t.Fatal(err)
	}
	if crop.W != 9 || crop.H != 11 || at(crop, 4, 0) != 0 || at(crop, 0, 1) != at(whole, 0, 0) || at(crop, 8, 8) != at(whole, 8, 7) || at(crop, 4, 9) != 0 {
		t.Errorf("cropped to %d x %d, want 9 x 11; column 4: %g %g .. %g %g", crop.W, crop.H, at(crop, 4, 0), at(crop, 4, 1), at(crop, 4, 8), at(crop, 4, 9))
	}
	// The same size is never touched.
	if crop, err = CenterCropCompat(last, 10, 8, 0); err != nil || crop.W != 10 || crop.H != 8 || at(crop, 9, 7) != at(whole, 9, 7) {
		t.Errorf("same size: %d x %d, %v", crop.W, crop.H, err)
	}
	if _, err := CenterCropCompat(newRGB(1, 1000), 60000, 60000, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a line blown up: %v", err)
	}
}
