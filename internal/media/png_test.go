package media

import (
	"bytes"
	"errors"
	"image"
	"strings"
	"testing"
)

func mustSheet(t testing.TB) *image.RGBA {
	t.Helper()
	img, err := ContactSheet([][]byte{frame(6, 4, 0), frame(6, 4, 1), frame(6, 4, 2)}, 6, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestContactSheet(t *testing.T) {
	img := mustSheet(t)
	if got, want := img.Bounds().Size(), image.Pt(2*10+4, 2*8+4); got != want {
		t.Errorf("size %v, want %v", got, want)
	}
	for i, at := range []image.Point{{4, 4}, {14, 4}, {4, 12}} {
		f := frame(6, 4, i)
		for y := range 4 {
			for x := range 6 {
				c := img.RGBAAt(at.X+x, at.Y+y)
				if got := [3]byte{c.R, c.G, c.B}; got != [3]byte(f[3*(6*y+x):]) || c.A != 255 {
					t.Fatalf("tile %d, sample %d,%d is %v, want %v", i, x, y, c, f[3*(6*y+x):][:3])
				}
			}
		}
	}
	for _, at := range []image.Point{{0, 0}, {11, 5}, {15, 13}, {23, 19}} {
		if c := img.RGBAAt(at.X, at.Y); c != sheetColour {
			t.Errorf("between the tiles, at %v, is %v, want %v", at, c, sheetColour)
		}
	}
}

func TestContactSheetRefuses(t *testing.T) {
	for _, tc := range []struct {
		name       string
		frames     [][]byte
		w, h, cols int
	}{
		{"nothing", nil, 6, 4, 2},
		{"no columns", [][]byte{frame(6, 4, 0)}, 6, 4, 0},
		{"wrong size", [][]byte{frame(6, 4, 0)}, 6, 5, 1},
		{"huge", [][]byte{nil}, 1 << 60, 1 << 60, 1},
		{"large", [][]byte{nil}, 1 << 20, 1 << 20, 1},
	} {
		if _, err := ContactSheet(tc.frames, tc.w, tc.h, tc.cols); err == nil {
			t.Errorf("%s: accepted", tc.name)
		}
	}
}

func TestWritePNG(t *testing.T) {
	path := t.TempDir() + "/sheet.png"
	if err := WritePNG(path, mustSheet(t), []byte(settings)); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMetadata(path); err != nil || string(got) != settings {
		t.Errorf("ReadMetadata = %q, %v", got, err)
	}
	if err := WritePNG(t.TempDir()+"/no/sheet.png", mustSheet(t), nil); !errors.Is(err, ErrOutput) {
		t.Errorf("WritePNG into a missing folder gives %v, want ErrOutput", err)
	}
}

func samplePNG(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := encodePNG(&buf, mustSheet(t), []byte(settings), "tool"); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPNGCommentOfDamagedFiles(t *testing.T) {
	good := samplePNG(t)
	at := bytes.Index(good, []byte("iTXtComment"))
	var bare bytes.Buffer
	if err := encodePNG(&bare, mustSheet(t), nil, ""); err != nil {
		t.Fatal(err)
	}
	damaged := func(i int, b byte) []byte {
		out := bytes.Clone(good)
		out[i] = b
		return out
	}
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"cut in the text", good[:at+20], "says it is"},
		{"no comment, no end", bare.Bytes()[:bare.Len()-12], "read png"},
		{"chunk too long", damaged(at-4, 0xFF), "says it is"},
		{"flipped bit", damaged(at+20, good[at+20]^1), "damaged"},
	} {
		if _, err := readPNGComment(bytes.NewReader(tc.data), int64(len(tc.data))); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	if _, err := readPNGComment(bytes.NewReader(good), int64(len(good))); err != nil {
		t.Error(err)
	}
}

func FuzzPNGComment(f *testing.F) {
	good := samplePNG(f)
	f.Add(good)
	f.Add(good[:60])
	f.Add(append([]byte(pngSignature), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readPNGComment(bytes.NewReader(data), int64(len(data)))
		if err != nil && got != nil || len(got) > len(data) {
			t.Errorf("%d bytes of comment from %d, %v", len(got), len(data), err)
		}
	})
}
