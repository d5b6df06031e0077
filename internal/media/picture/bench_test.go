package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"testing"
)

// photo makes a 1920 x 1080 JPEG (4:2:0, quality 90) with the standard
// library's encoder: smooth shades, edges and a little texture.
func photo(b *testing.B) []byte {
	b.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 1920, 1080))
	noise := uint32(1)
	for y := range 1080 {
		for x := range 1920 {
			noise = noise*1664525 + 1013904223
			n := int(noise >> 29)
			c := color.RGBA{uint8(x*255/1920 ^ y>>5&7), uint8((x+y)*255/3000 + n), uint8(y * 255 / 1080), 255}
			if (x/97+y/61)%7 == 0 {
				c.R, c.B = c.B, c.G
			}
			m.SetRGBA(x, y, c)
		}
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, m, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	return buf.Bytes()
}

func BenchmarkDecodeJPEG1080p(b *testing.B) {
	data := photo(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStdlibDecodeJPEG1080p is what the same file costs in image/jpeg,
// planes only, for comparison.
func BenchmarkStdlibDecodeJPEG1080p(b *testing.B) {
	data := photo(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBicubic1080pTo832x480(b *testing.B) {
	p := newRGB(1920, 1080)
	for i := range p.Pix {
		p.Pix[i] = uint8(i * 7)
	}
	b.ReportAllocs()
	for b.Loop() {
		BicubicHWC(p, 480, 832)
	}
}
