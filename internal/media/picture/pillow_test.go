package picture

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// testdata/pillow: every encoding that make.py there could produce, and what
// Pillow reads from it. All must be equal to the last bit.
func TestSameAsPillow(t *testing.T) {
	files, err := filepath.Glob("testdata/pillow/in/*")
	if err != nil || len(files) < 90 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			got := mustDecode(t, "pillow", "in", name)
			w, h, want := pngRGB(t, "pillow", "want", name+".png")
			wantSame(t, got, w, h, want)
		})
	}
}

// pngRGB reads an 8-bit PNG with the standard library alone.
func pngRGB(t *testing.T, path ...string) (w, h int, rgb []uint8) {
	t.Helper()
	m, err := png.Decode(bytes.NewReader(readFile(t, path...)))
	if err != nil {
		t.Fatal(err)
	}
	b := m.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			r, g, b, _ := m.At(x, y).RGBA()
			rgb = append(rgb, uint8(r>>8), uint8(g>>8), uint8(b>>8))
		}
	}
	return b.Dx(), b.Dy(), rgb
}

// A picture cut anywhere must be refused, never completed by guessing.
func TestTruncatedIsRefused(t *testing.T) {
	for _, name := range []string{
		"progressive_420.jpg", "restart_420.jpg", "sample_2x2.jpg", "sequential_three_scans.jpg", "cmyk.jpg",
		"lossy_37x29.webp", "lossless_alpha.webp", "animated.webp",
	} {
		data := readFile(t, "pillow", "in", name)
		for n := range data {
			if p, err := Decode(data[:n], Options{}); err == nil {
				t.Errorf("%s cut to %d of %d bytes: decoded as %d x %d", name, n, len(data), p.W, p.H)
			}
		}
	}
	// Here the end of the file is not needed for the picture.
	for name, tail := range map[string]int{"rgb.png": 12, "plain.gif": 2, "rgb.bmp": 3} {
		data := readFile(t, "pillow", "in", name)
		for n := range len(data) - tail {
			if p, err := Decode(data[:n], Options{}); err == nil {
				t.Errorf("%s cut to %d of %d bytes: decoded as %d x %d", name, n, len(data), p.W, p.H)
			}
		}
	}
}

func TestDecodeKeepsNothingOfItsInput(t *testing.T) {
	for _, name := range []string{"rgb.png", "sample_2x2.jpg", "lossy_37x29.webp", "rgb.bmp", "plain.gif"} {
		data, err := os.ReadFile(filepath.Join("testdata/pillow/in", name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Decode(data, Options{ExifOrient: true})
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(p.Pix)
		clear(data)
		if !bytes.Equal(before, p.Pix) {
			t.Errorf("%s: the picture changed with its file's bytes", name)
		}
	}
}
