package picture

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// patched returns the file with bytes replaced from an offset on.
func patched(file []byte, at int, b ...byte) []byte {
	file = slices.Clone(file)
	copy(file[at:], b)
	return file
}

// pngOf is a PNG that claims a size and has a few bytes of data.
func pngOf(w, h uint32, depth, color byte) []byte {
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, w), h)
	head = append(head, depth, color, 0, 0, 0)
	return slices.Concat([]byte(pngSignature), pngChunk("IHDR", head), pngChunk("IDAT", []byte("x\x9c\x03\x00\x00\x00\x00\x01")), pngChunk("IEND", nil))
}

// Each refusal is one clear line and costs next to no memory.
func TestRefused(t *testing.T) {
	jpeg := readFile(t, "pillow", "in", "sample_2x2.jpg")
	sof := strings.Index(string(jpeg), "\xff\xc0")
	webp := readFile(t, "pillow", "in", "lossy_37x29.webp")
	lossless := readFile(t, "pillow", "in", "lossless_alpha.webp")
	vp8l := strings.Index(string(lossless), "VP8L") + 8
	bmp := readFile(t, "pillow", "in", "rgb.bmp")
	gif := readFile(t, "pillow", "in", "plain.gif")
	gifDescriptor := 13 + 3<<(gif[10]&7+1)
	for gif[gifDescriptor] != 0x2c {
		gifDescriptor++
	}
	for _, tc := range []struct {
		name string
		file []byte
		is   error // nil: any
		want string
	}{
		{"no bytes", nil, ErrFormat, "empty (0 bytes)"},
		{"text", []byte("hello, world"), ErrFormat, "not a picture (begins with 68 65 6c"},
		{"one byte", []byte{0xff}, ErrFormat, "not a picture"},
		{"HEIC", []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"), ErrFormat, "HEIC is not supported; convert to PNG or JPEG"},
		{"AVIF", []byte("\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1"), ErrFormat, "AVIF is not supported"},
		{"MP4", []byte("\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"), ErrFormat, "a video (MP4 or MOV) is not supported"},
		{"TIFF", []byte("II*\x00\x08\x00\x00\x00"), ErrFormat, "TIFF is not supported"},
		{"JPEG XL", []byte("\xff\x0a\x00"), ErrFormat, "JPEG XL is not supported"},
		{"PPM", []byte("P6\n2 2\n255\n"), ErrFormat, "PNM is not supported"},
		{"git-lfs pointer", []byte("version https://git-lfs.github.com/spec/v1\n"), ErrFormat, "a git-lfs pointer"},

		{"png bomb", pngOf(65535, 65535, 8, 2), ErrTooLarge, "65535 x 65535 pixels, limit 178956970"},
		{"png of 2^31-1 squared", pngOf(1<<31-1, 1<<31-1, 16, 6), ErrTooLarge, "2147483647 x 2147483647"},
		{"png of 2^32-1 squared", pngOf(1<<32-1, 1<<32-1, 1, 0), ErrTooLarge, "4294967295 x 4294967295"},
		{"png that lies", pngOf(13000, 13000, 8, 6), nil, "bytes of data cannot hold 13000 x 13000 pixels"},
		{"png without width", pngOf(0, 10, 8, 2), nil, "no pixels (0 x 10)"},
		{"png of 3 bits", pngOf(4, 4, 3, 0), nil, "png"},
		{"png without palette", pngOf(4, 4, 8, 3), nil, "palette is missing"},
		{"png signature alone", []byte(pngSignature), nil, "truncated"},
		{"png of empty data", pngOf(40, 40, 8, 2), nil, "png"},

		{"jpeg bomb", patched(jpeg, sof+5, 0xff, 0xff, 0xff, 0xff), ErrTooLarge, "65535 x 65535"},
		{"jpeg that lies", patched(jpeg, sof+5, 0x30, 0, 0x30, 0), nil, "cannot hold 12288 x 12288 pixels"},
		{"jpeg without height", patched(jpeg, sof+5, 0, 0), nil, "no pixels (35 x 0)"},
		{"jpeg of 12 bits", patched(jpeg, sof+4, 12), ErrFormat, "12 bits a sample are not supported"},
		{"lossless jpeg", patched(jpeg, sof+1, 0xc3), ErrFormat, "lossless coding is not supported"},
		{"arithmetic jpeg", patched(jpeg, sof+1, 0xc9), ErrFormat, "arithmetic coding is not supported"},
		{"jpeg sampled 3 of 2", patched(jpeg, sof+11, 0x32, 0, 2, 0x22), ErrFormat, "sampling 2 x 2 of 3 x 2 is not supported"},
		{"jpeg with sampling 0", patched(jpeg, sof+11, 0x02), nil, "sampling 0 x 2"},
		{"jpeg without frame", slices.Concat(jpeg[:sof], jpeg[sof+19:]), nil, "before the frame header"},
		{"jpeg of nothing", []byte{0xff, 0xd8, 0xff, 0xd9}, nil, "ends before any picture data"},
		{"jpeg damaged", patched(jpeg, len(jpeg)-120, 0xff, 0xd9), nil, "damaged"},

		{"webp bomb", patched(webp, 26, 0xff, 0x3f, 0xff, 0x3f), ErrTooLarge, "16383 x 16383"},
		{"webp that lies", patched(webp, 26, 0xff, 0x2f, 0xff, 0x2f), nil, "cannot hold 12287 x 12287 pixels"},
		{"lossless webp bomb", patched(lossless, vp8l+1, 0xff, 0xff, 0xff, 0x1f), ErrTooLarge, "16384 x 16384"},
		{"webp without picture", []byte("RIFF\x04\x00\x00\x00WEBP"), nil, "no picture data"},
		{"webp of a huge canvas", slices.Concat([]byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00"), []byte{255, 255, 255, 255, 255, 255}), ErrTooLarge, "16777216 x 16777216"},

		{"bmp bomb", patched(bmp, 18, 0, 0, 0, 0x40, 0, 0, 0, 0x40), ErrTooLarge, "1073741824 x 1073741824"},
		{"bmp of the least height", patched(bmp, 18, 1, 0, 0, 0, 0, 0, 0, 0x80), ErrTooLarge, "1 x 2147483648"},
		{"bmp of negative width", patched(bmp, 18, 0xff, 0xff, 0xff, 0xff), nil, "no pixels (-1 x 17)"},
		{"bmp that lies", patched(bmp, 18, 0, 0x30, 0, 0, 0, 0x30), nil, "truncated"},
		{"run-length bmp", patched(bmp, 28, 8, 0, 1), ErrFormat, "8 bits with compression 1 is not supported"},

		{"gif bomb", patched(gif, 6, 255, 255, 255, 255), ErrTooLarge, "65535 x 65535"},
		{"gif frame bomb", patched(gif, gifDescriptor+1, 255, 255, 255, 255, 255, 255, 255, 255), ErrTooLarge, "131070 x 131070"},
		{"gif that lies", patched(gif, gifDescriptor+5, 0, 48, 0, 48), nil, "cannot hold 12288 x 12288 pixels"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p, err := Decode(tc.file, Options{})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatalf("decoded as %d x %d, want an error with %q", p.W, p.H, tc.want)
			}
			if !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, tc.want)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%q does not wrap %q", err, tc.is)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
				t.Errorf("%d bytes allocated, limit 1 MiB", used)
			}
		})
	}
}

func TestMaxPixels(t *testing.T) {
	for _, name := range []string{"rgb.png", "sample_2x2.jpg", "lossy_37x29.webp", "lossless_alpha.webp", "animated.webp", "rgb.bmp", "plain.gif"} {
		data := readFile(t, "pillow", "in", name)
		p, err := Decode(data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		pixels := int64(p.W * p.H)
		if _, err := Decode(data, Options{MaxPixels: pixels}); err != nil {
			t.Errorf("%s: %d pixels with that limit: %v", name, pixels, err)
		}
		if _, err := Decode(data, Options{MaxPixels: pixels - 1}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %d pixels with a limit of one less: %v", name, pixels, err)
		}
	}
}

// Progressive files whose scans never end must not cost more than scans that
// do: their number is bounded, and so are the visits to each coefficient.
func TestEndlessScansAreRefused(t *testing.T) {
	jpeg := string(readFile(t, "pillow", "in", "gray_progressive.jpg"))
	starts := []int{}
	for at := 0; at+1 < len(jpeg); at++ {
		if jpeg[at:at+2] == "\xff\xda" {
			starts = append(starts, at)
		}
	}
	// again repeats the scan number i, up to its next marker.
	again := func(i, times int) []byte {
		from, to := starts[i], starts[i]+2
		for jpeg[to] != 0xff || jpeg[to+1] == 0 {
			to++
		}
		return []byte(jpeg[:to] + strings.Repeat(jpeg[from:to], times) + jpeg[to:])
	}
	if _, err := Decode(again(0, 50), Options{}); err != nil {
		t.Errorf("50 scans more: %v", err)
	}
	_, err := Decode(again(0, maxScans), Options{})
	if err == nil || !strings.Contains(err.Error(), "more than 128 scans") {
		t.Errorf("%d scans more: %v", maxScans, err)
	}
	// The third scan is the first of coefficients 6 to 63.
	_, err = Decode(again(2, 16), Options{})
	if err == nil || !strings.Contains(err.Error(), "again and again") {
		t.Errorf("16 scans of nearly all coefficients more: %v", err)
	}
}

func TestProgressiveWithoutLastScansIsRefused(t *testing.T) {
	jpeg := readFile(t, "pillow", "in", "progressive_420.jpg")
	last := strings.LastIndex(string(jpeg), "\xff\xda")
	_, err := Decode(append(slices.Clone(jpeg[:last]), 0xff, 0xd9), Options{})
	if err == nil || !strings.Contains(err.Error(), "without its last scans") {
		t.Errorf("got %v", err)
	}
}
