package media

import (
	"bytes"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/media/ffmpegtest"
)

const settings = `{"prompt":"a=b; #c \\ \"d\"\n кот 猫","seed":18446744073709551615}`

func options(numFrames int, encoder string) Options {
	return Options{W: 64, H: 48, FPS: 8, NumFrames: numFrames, Encoder: encoder, Metadata: []byte(settings), Tool: "wanrun test"}
}

// frame is picture t of a small moving scene.
func frame(w, h, t int) []byte {
	rgb := make([]byte, 3*w*h)
	for y := range h {
		for x := range w {
			rgb[3*(y*w+x)] = byte(3*x + 4*t)
			rgb[3*(y*w+x)+1] = byte(255 - 3*y)
			if (x-20-2*t)*(x-20-2*t)+(y-24)*(y-24) < 100 {
				rgb[3*(y*w+x)], rgb[3*(y*w+x)+2] = 230, 30
			}
		}
	}
	return rgb
}

func mustCreate(t *testing.T, path string, opt Options) FrameWriter {
	t.Helper()
	w, err := Create(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Abort)
	return w
}

func writeAll(t *testing.T, w FrameWriter, opt Options) {
	t.Helper()
	for i := range opt.NumFrames {
		if err := w.WriteFrame(frame(opt.W, opt.H, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// names lists a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), names(t, dir)); diff != "" {
		t.Errorf("files in the folder (-want +got):\n%s", diff)
	}
}

// kinds are all ways to make a file.
var kinds = []struct {
	name, file, encoder string
	numFrames           int
}{
	{"builtin", "v.mp4", EncoderBuiltin, 5},
	{"ffmpeg", "v.mp4", EncoderFFmpeg, 5},
	{"png", "v.png", "", 1},
	{"odd name", "file: -x% 'ü\n%03d.MP4", EncoderBuiltin, 1},
	{"odd name, ffmpeg", "file: -x% 'ü\n%03d.MP4", EncoderFFmpeg, 1},
}

func TestWholeOrNothing(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if k.encoder == EncoderFFmpeg {
				ffmpegtest.Need(t, "ffmpeg")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, k.file)
			if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
				t.Fatal(err)
			}
			plain, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			opt := options(k.numFrames, k.encoder)

			w := mustCreate(t, path, opt)
			if w.Path() != path {
				t.Errorf("Path() = %q, want %q", w.Path(), path)
			}
			if err := w.WriteFrame(frame(opt.W, opt.H, 0)); err != nil {
				t.Fatal(err)
			}
			wantNames(t, dir, tempName(k.file), k.file)
			if st, err := os.Stat(filepath.Join(dir, tempName(k.file))); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("temporary file: %v, %v; want mode 0600", st, err)
			}
			w.Abort()
			w.Abort()
			wantNames(t, dir, k.file)
			if got, _ := os.ReadFile(path); string(got) != "old" {
				t.Errorf("after Abort the file holds %q, want what was there", got)
			}
			if err := w.WriteFrame(frame(opt.W, opt.H, 0)); !errors.Is(err, ErrOutput) {
				t.Errorf("WriteFrame after Abort gives %v", err)
			}
			if err := w.Close(); !errors.Is(err, ErrOutput) {
				t.Errorf("Close after Abort gives %v", err)
			}

			w = mustCreate(t, path, opt)
			writeAll(t, w, opt)
			wantNames(t, dir, k.file)
			w.Abort()
			wantNames(t, dir, k.file)
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode() != plain.Mode() {
				t.Errorf("mode %v, want %v, that of any new file", st.Mode(), plain.Mode())
			}
			got, err := ReadMetadata(path)
			if err != nil || string(got) != settings {
				t.Errorf("ReadMetadata = %q, %v; want %q", got, err, settings)
			}
		})
	}
}

func TestLargeSettingsGoThrough(t *testing.T) {
	large := `{"prompt":"` + strings.Repeat(`=;#\\`, 300_000) + `"}`
	for _, k := range kinds[:3] {
		t.Run(k.name, func(t *testing.T) {
			if k.encoder == EncoderFFmpeg {
				ffmpegtest.Need(t, "ffmpeg")
			}
			path := filepath.Join(t.TempDir(), k.file)
			opt := options(1, k.encoder)
			opt.Metadata = []byte(large)
			writeAll(t, mustCreate(t, path, opt), opt)
			got, err := ReadMetadata(path)
			if err != nil || string(got) != large {
				t.Errorf("ReadMetadata gives %d bytes, %v; want the %d written", len(got), err, len(large))
			}
		})
	}
}

func TestPNGHoldsTheFrame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.png")
	opt := options(1, "")
	opt.W, opt.H = 33, 7
	w := mustCreate(t, path, opt)
	if w.Encoder() != "png" {
		t.Errorf("Encoder() = %q", w.Encoder())
	}
	writeAll(t, w, opt)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	want := frame(opt.W, opt.H, 0)
	for y := range opt.H {
		for x := range opt.W {
			r, g, b, a := img.At(x, y).RGBA()
			got := [4]uint32{r >> 8, g >> 8, b >> 8, a >> 8}
			p := want[3*(y*opt.W+x):]
			if got != [4]uint32{uint32(p[0]), uint32(p[1]), uint32(p[2]), 255} {
				t.Fatalf("sample %d,%d is %v, want %v", x, y, got, p[:3])
			}
		}
	}
}

func TestFrameCount(t *testing.T) {
	dir := t.TempDir()
	opt := options(2, EncoderBuiltin)
	w := mustCreate(t, filepath.Join(dir, "v.mp4"), opt)
	if err := w.WriteFrame(make([]byte, 5)); !errors.Is(err, ErrOutput) {
		t.Errorf("a frame of 5 bytes gives %v", err)
	}
	if err := w.WriteFrame(frame(64, 48, 0)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "1 frames were written, expected 2") {
		t.Errorf("Close of a short video gives %v", err)
	}
	wantNames(t, dir)

	w = mustCreate(t, filepath.Join(dir, "v.mp4"), options(1, EncoderBuiltin))
	if err := w.WriteFrame(frame(64, 48, 0)); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFrame(frame(64, 48, 1)); !errors.Is(err, ErrOutput) {
		t.Errorf("a frame too many gives %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder.mp4"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plain"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	have := names(t, dir)
	for _, tc := range []struct {
		name, path, want string
		edit             func(*Options)
	}{
		{"missing folder", "no/such/v.mp4", "does not exist", nil},
		{"file as folder", "plain/v.mp4", "not a ", nil},
		{"folder", "folder.mp4", "is a folder", nil},
		{"long name", strings.Repeat("ü", 126) + ".mp4", "256 bytes long, at most 255", nil},
		{"device", "/dev/null", "extension", nil},
		{"unknown kind", "v.gif", `".gif" is not known`, nil},
		{"no kind", "v", "expected .mp4 or .png", nil},
		{"frames in png", "v.png", "holds one frame, not 2", nil},
		{"odd size", "v.mp4", "even", func(o *Options) { o.W = 63 }},
		{"no size", "v.mp4", "each side", func(o *Options) { o.H = 0 }},
		{"no rate", "v.mp4", "frames a second", func(o *Options) { o.FPS = 0 }},
		{"no frames", "v.mp4", "at least one", func(o *Options) { o.NumFrames = 0 }},
		{"too many frames", "v.mp4", "frames", func(o *Options) { o.NumFrames = 1 << 40 }},
		{"encoder", "v.mp4", `"gif" is not known`, func(o *Options) { o.Encoder = "gif" }},
		{"no ffmpeg", "v.mp4", "cannot be started", func(o *Options) { o.Encoder, o.FFmpeg = EncoderFFmpeg, "/no/such/ffmpeg" }},
		{"settings", "v.mp4", "not JSON", func(o *Options) { o.Metadata = []byte("{") }},
		{"long settings", "v.mp4", "at most", func(o *Options) { o.Metadata = []byte(`"` + strings.Repeat("x", MaxMetadata) + `"`) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opt := options(2, EncoderBuiltin)
			if tc.edit != nil {
				tc.edit(&opt)
			}
			path := tc.path
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			w, err := Create(path, opt)
			if err == nil {
				w.Abort()
				t.Fatal("accepted")
			}
			if !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want ErrOutput with %q", err, tc.want)
			}
			wantNames(t, dir, have...)
		})
	}
}

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		dir = "/sys" // where root cannot make files either
		if _, err := os.Stat(dir); err != nil {
			t.Skip("running as root and without /sys: no folder is read-only")
		}
	}
	_, err := Create(filepath.Join(dir, "v.mp4"), options(1, EncoderBuiltin))
	if !errors.Is(err, ErrOutput) {
		t.Errorf("Create in a read-only folder gives %v, want ErrOutput", err)
	}
}

func TestSettingsAreMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.mp4")
	opt := options(1, EncoderBuiltin)
	opt.Metadata = []byte("{ \"prompt\" : \"a\xffb\" }\n")
	writeAll(t, mustCreate(t, path, opt), opt)
	got, err := ReadMetadata(path)
	if want := "{\"prompt\":\"a\uFFFDb\"}"; err != nil || string(got) != want {
		t.Errorf("ReadMetadata = %q, %v; want %q", got, err, want)
	}
}

func TestReadMetadataOfOtherFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bare := filepath.Join(dir, "bare.mp4")
	opt := options(1, EncoderBuiltin)
	opt.Metadata = nil
	writeAll(t, mustCreate(t, bare, opt), opt)
	prose := filepath.Join(dir, "prose.png")
	var buf bytes.Buffer
	if err := encodePNG(&buf, mustSheet(t), []byte("holiday, 1999"), ""); err != nil {
		t.Fatal(err)
	}
	write("prose.png", buf.Bytes())
	for _, tc := range []struct{ path, want string }{
		{filepath.Join(dir, "none.mp4"), "no such file"},
		{dir, "not a regular file"},
		{write("empty.mp4", nil), "neither an mp4 nor a png"},
		{write("short.png", []byte(pngSignature)), "read png"},
		{write("text.mp4", []byte("this is no film")), "neither an mp4 nor a png"},
		{bare, "no settings"},
		{prose, "no settings"},
	} {
		if got, err := ReadMetadata(tc.path); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %q, %v; want an error with %q", filepath.Base(tc.path), got, err, tc.want)
		}
	}
}
