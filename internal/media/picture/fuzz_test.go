package picture

import (
	"path/filepath"
	"testing"
)

// fuzzDecode seeds with the tiny pictures of one format, and checks that what
// is accepted is whole and within the limit.
func fuzzDecode(f *testing.F, patterns ...string) {
	for _, pattern := range patterns {
		files, err := filepath.Glob("testdata/pillow/in/" + pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds %q: %v", pattern, err)
		}
		for _, path := range files {
			f.Add(readFile(f, "pillow", "in", filepath.Base(path)))
		}
	}
	const limit = 1 << 14
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data, Options{ExifOrient: true, MaxPixels: limit})
		if err != nil {
			if p != nil {
				t.Errorf("a picture and an error: %v", err)
			}
			return
		}
		if p.W < 1 || p.H < 1 || p.W*p.H > limit || len(p.Pix) != p.W*p.H*3 {
			t.Errorf("%d x %d with %d bytes", p.W, p.H, len(p.Pix))
		}
	})
}

func FuzzDecodeJPEG(f *testing.F) {
	fuzzDecode(f, "size_*.jpg", "gray_progressive.jpg", "restart_progressive.jpg", "sequential_three_scans.jpg", "ycck.jpg")
}
func FuzzDecodePNG(f *testing.F)  { fuzzDecode(f, "*.png") }
func FuzzDecodeWebP(f *testing.F) { fuzzDecode(f, "*.webp") }
func FuzzDecodeBMP(f *testing.F)  { fuzzDecode(f, "*.bmp") }
func FuzzDecodeGIF(f *testing.F)  { fuzzDecode(f, "*.gif") }

func FuzzExifOrientation(f *testing.F) {
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"))
	f.Add([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o := exifOrientation(data); o < 1 || o > 8 {
			t.Errorf("orientation %d", o)
		}
	})
}
