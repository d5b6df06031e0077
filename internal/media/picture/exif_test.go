package picture

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
)

// letters makes a picture whose pixels are named by letters, rows given.
func letters(rows ...string) *RGB {
	p := newRGB(len(rows[0]), len(rows))
	for y, row := range rows {
		for x := range row {
			copy(p.Pix[(y*p.W+x)*3:], []uint8{row[x], row[x] + 1, row[x] + 2})
		}
	}
	return p
}

func TestOrient(t *testing.T) {
	for orientation, want := range map[int]*RGB{
		0: letters("abc", "def"),
		1: letters("abc", "def"),
		2: letters("cba", "fed"),
		3: letters("fed", "cba"),
		4: letters("def", "abc"),
		5: letters("ad", "be", "cf"),
		6: letters("da", "eb", "fc"),
		7: letters("fc", "eb", "da"),
		8: letters("cf", "be", "ad"),
		9: letters("abc", "def"),
	} {
		got := letters("abc", "def").Orient(orientation)
		if got.W != want.W || got.H != want.H || !slices.Equal(got.Pix, want.Pix) {
			t.Errorf("orientation %d: got %d x %d %v, want %d x %d %v", orientation, got.W, got.H, got.Pix, want.W, want.H, want.Pix)
		}
	}
}

// tiff makes an EXIF block with one tag before the orientation.
func tiff(order binary.ByteOrder, orientation uint16) []byte {
	b := []byte("II*\x00")
	if order == binary.BigEndian {
		b = []byte("MM\x00*")
	}
	add16 := func(v uint16) { b = append(b, 0, 0); order.PutUint16(b[len(b)-2:], v) }
	add32 := func(v uint32) { b = append(b, 0, 0, 0, 0); order.PutUint32(b[len(b)-4:], v) }
	add32(8)
	add16(2)
	add16(0x010f)
	add16(2)
	add32(4)
	add32(0)
	add16(0x0112)
	add16(3)
	add32(1)
	add16(orientation)
	add16(0)
	add32(0)
	return b
}

func TestExifOrientation(t *testing.T) {
	big, little := tiff(binary.BigEndian, 6), tiff(binary.LittleEndian, 8)
	farAway := slices.Clone(big)
	binary.BigEndian.PutUint32(farAway[4:], 0xfffffff0)
	longType := slices.Clone(big)
	longType[8+2+12+3] = 4
	for _, tc := range []struct {
		name string
		tiff []byte
		want int
	}{
		{"big endian", big, 6},
		{"little endian", little, 8},
		{"none", nil, 1},
		{"cut in the entry", big[:30], 1},
		{"cut in the header", big[:7], 1},
		{"directory beyond the end", farAway, 1},
		{"value out of range", tiff(binary.BigEndian, 9), 1},
		{"value of another type", longType, 1},
		{"no TIFF header", []byte("abcdefghijklmnop"), 1},
	} {
		if got := exifOrientation(tc.tiff); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

// Every container that can carry the tag, with and without the option.
func TestExifOrientIsAnOption(t *testing.T) {
	exif := tiff(binary.LittleEndian, 6)
	jpeg := readFile(t, "pillow", "in", "sample_2x2.jpg")
	app1 := append([]byte{0xff, 0xe1, 0, byte(2 + 6 + len(exif))}, "Exif\x00\x00"...)
	png := readFile(t, "pillow", "in", "rgb.png")
	webp := readFile(t, "pillow", "in", "lossy_37x29.webp")
	vp8x := append([]byte("VP8X\x0a\x00\x00\x00"), 8, 0, 0, 0, 36, 0, 0, 28, 0, 0)
	exifChunk := binary.LittleEndian.AppendUint32([]byte("EXIF"), uint32(len(exif)))
	withExif := slices.Concat(webp[:12], vp8x, webp[12:], exifChunk, exif)
	binary.LittleEndian.PutUint32(withExif[4:], uint32(len(withExif)-8))
	end := len(png) - 12
	for name, file := range map[string][]byte{
		"jpeg":            slices.Concat(jpeg[:2], app1, exif, jpeg[2:]),
		"png, in front":   slices.Concat(png[:33], pngChunk("eXIf", exif), png[33:]),
		"png, at the end": slices.Concat(png[:end], pngChunk("eXIf", exif), png[end:]),
		"webp":            withExif,
	} {
		t.Run(name, func(t *testing.T) {
			stored, err := Decode(file, Options{})
			if err != nil {
				t.Fatal(err)
			}
			turned, err := Decode(file, Options{ExifOrient: true})
			if err != nil {
				t.Fatal(err)
			}
			if turned.W != stored.H || turned.H != stored.W {
				t.Fatalf("stored %d x %d, turned %d x %d", stored.W, stored.H, turned.W, turned.H)
			}
			wantSame(t, turned, stored.H, stored.W, stored.Orient(6).Pix)
			if x := (stored.H - 1) * 3; !slices.Equal(turned.Pix[x:x+3], stored.Pix[:3]) {
				t.Errorf("upper right is %v, want the stored upper left %v", turned.Pix[x:x+3], stored.Pix[:3])
			}
		})
	}
	if got := binary.BigEndian.Uint32(pngChunk("IEND", nil)[8:]); got != crc32.ChecksumIEEE([]byte("IEND")) {
		t.Errorf("chunk checksum %#x", got)
	}
}
