package h264

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/media/ffmpegtest"
)

// golden are streams that ffmpeg 5.1 decoded to the reconstruction, sample for
// sample; where ffmpeg is installed, TestGolden does that again. After an intended
// change of the encoder, run it there and put in the hash that it prints.
var golden = []struct {
	cfg    Config
	frames int
	clip   string
	sha256 string
}{
	{Config{Width: 176, Height: 144, FPS: 16}, 10, "drift", "5dcc9c4596c66a894a846fdc1793db1a3017f5795381e49285df70c236232918"},
	{Config{Width: 96, Height: 272, FPS: 8, QP: 24, KeyInterval: 4}, 9, "drift", "db962f61364c509aac616d82a181e1dcbd53ba1e5b2364a3ae2fe300e60b894e"},
	{Config{Width: 80, Height: 136, FPS: 16, QP: 10}, 8, "wild", "48e80fb757e4266a18a83f5869d8d90d842be1a4b784167fd1d9afdbb9b4b4b0"},
	{Config{Width: 66, Height: 50, FPS: 16, QP: 40, KeyInterval: 6}, 12, "wild", "e457fc2d3c3c2b5b3cec4f934675008c02aa70555646bad399ef6cfd30d4c105"},
	{Config{Width: 160, Height: 128, FPS: 16, Threads: 2}, 8, "pan", "e6b5ee6d3d91b99b62ef24421a58931ce9742642ee77905230bb674ea1bad32d"},
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		t.Run(g.clip+fmt.Sprint(g.cfg.QP), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 7))
			var frames [][]byte
			var last []byte
			for i := range g.frames {
				switch g.clip {
				case "drift":
					last = driftClip(g.cfg.Width, g.cfg.Height, i)
				case "pan":
					last = panClip(g.cfg.Width, g.cfg.Height, i)
				case "wild":
					last = wildClip(rng, g.cfg.Width, g.cfg.Height, last)
				}
				frames = append(frames, last)
			}
			stream, rec := encodeAll(t, g.cfg, frames)
			sum := sha256.Sum256(append(stream[:len(stream):len(stream)], rec...))
			if got := hex.EncodeToString(sum[:]); got != g.sha256 {
				t.Errorf("stream of %d bytes and reconstruction have hash %s, want %s", len(stream), got, g.sha256)
			}
			t.Run("ffmpeg", func(t *testing.T) {
				sameDecode(t, ffmpegtest.Need(t, "ffmpeg"), g.cfg, stream, rec)
			})
		})
	}
}

// TestQuality holds the default quality against the pictures that went in, on
// a smooth moving scene: the whole way from RGB to 4:2:0 and through the
// quantiser.
func TestQuality(t *testing.T) {
	const w, h, numFrames, minDB = 416, 240, 12, 45
	e, err := NewEncoder(Config{Width: w, Height: h, FPS: 16, Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	size, worst, worstAt := 0, math.Inf(1), 0
	for i := range numFrames {
		frame := smoothClip(w, h, i)
		sample, _, err := e.Encode(frame)
		if err != nil {
			t.Fatal(err)
		}
		size += len(sample)
		if db := psnr(toRGB(e.Reconstruction(), w, h), frame); db < worst {
			worst, worstAt = db, i
		}
		src := newPicture(16*e.mbW, 16*e.mbH, 0)
		convertRows(src, frame, w, h, 0, 16*e.mbH)
		if db := psnr(e.Reconstruction()[:w*h], src.y.pix[:w*h]); db < minDB {
			t.Errorf("frame %d: luma %.2f dB, want %d", i, db, minDB)
		}
	}
	t.Logf("%d bytes a frame, RGB at least %.2f dB", size/numFrames, worst)
	if worst < minDB {
		t.Errorf("frame %d: RGB %.2f dB, want %d", worstAt, worst, minDB)
	}
}

// toRGB shows yuv420p as a player does: BT.601, limited range, chroma in line
// with the even columns and between the rows, bilinear.
func toRGB(yuv []byte, w, h int) []byte {
	y, cb, cr := yuv[:w*h], yuv[w*h:w*h*5/4], yuv[w*h*5/4:]
	chroma := func(p []byte, px, py int) float64 {
		fx, fy := float64(px)/2, (float64(py)-0.5)/2
		x0, y0 := int(math.Floor(fx)), int(math.Floor(fy))
		at := func(x, y int) float64 {
			return float64(p[min(max(y, 0), h/2-1)*(w/2)+min(max(x, 0), w/2-1)])
		}
		ax, ay := fx-float64(x0), fy-float64(y0)
		top := at(x0, y0)*(1-ax) + at(x0+1, y0)*ax
		bottom := at(x0, y0+1)*(1-ax) + at(x0+1, y0+1)*ax
		return top*(1-ay) + bottom*ay - 128
	}
	rgb := make([]byte, 3*w*h)
	for py := range h {
		for px := range w {
			l := (float64(y[py*w+px]) - 16) * 255 / 219
			b, r := chroma(cb, px, py)*255/224, chroma(cr, px, py)*255/224
			p := rgb[3*(py*w+px):]
			p[0] = level8(l + 1.402*r)
			p[1] = level8(l - 0.344136*b - 0.714136*r)
			p[2] = level8(l + 1.772*b)
		}
	}
	return rgb
}

func TestColours(t *testing.T) {
	for _, tc := range []struct {
		rgb       [3]byte
		y, cb, cr uint8 // BT.601, limited range
	}{
		{[3]byte{0, 0, 0}, 16, 128, 128},
		{[3]byte{255, 255, 255}, 235, 128, 128},
		{[3]byte{128, 128, 128}, 126, 128, 128},
		{[3]byte{255, 0, 0}, 81, 90, 240},
		{[3]byte{0, 255, 0}, 145, 54, 34},
		{[3]byte{0, 0, 255}, 41, 240, 110},
		{[3]byte{255, 255, 0}, 210, 16, 146},
	} {
		p := newPicture(16, 16, 0)
		convertRows(p, bytes.Repeat(tc.rgb[:], 4*2), 4, 2, 0, 16)
		for _, at := range []int{0, 3, 16*16 - 1} { // inside and in the filled part
			if got := p.y.pix[at]; got != tc.y {
				t.Errorf("%v: Y %d at %d, want %d", tc.rgb, got, at, tc.y)
			}
		}
		for _, at := range []int{0, 1, 63} {
			if got := [2]uint8{p.c[0].pix[at], p.c[1].pix[at]}; got != [2]uint8{tc.cb, tc.cr} {
				t.Errorf("%v: Cb, Cr %v at %d, want %d %d", tc.rgb, got, at, tc.cb, tc.cr)
			}
		}
	}
}

func TestThreadsDoNotChangeTheStream(t *testing.T) {
	var frames [][]byte
	for i := range 5 {
		frames = append(frames, driftClip(112, 336, i))
	}
	cfg := Config{Width: 112, Height: 336, FPS: 16}
	want, _ := encodeAll(t, cfg, frames)
	for _, threads := range []int{1, 2, 3, 7, 64} {
		cfg.Threads = threads
		if got, _ := encodeAll(t, cfg, frames); !bytes.Equal(got, want) {
			t.Errorf("%d threads give another stream: %d bytes, want %d", threads, len(got), len(want))
		}
	}
}

func TestKeyPictures(t *testing.T) {
	e, err := NewEncoder(Config{Width: 32, Height: 32, FPS: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 14 {
		sample, key, err := e.Encode(driftClip(32, 32, i))
		if err != nil {
			t.Fatal(err)
		}
		nalType := sample[4] & 31
		if want := i%6 == 0; key != want || (nalType == nalIDR) != want {
			t.Errorf("picture %d: key %v, NAL type %d; want a key picture every two seconds", i, key, nalType)
		}
	}
}

// TestStillPicture: what does not move is skipped; only roundings of the key
// picture are mended after it.
func TestStillPicture(t *testing.T) {
	e, err := NewEncoder(Config{Width: 320, Height: 128, FPS: 16})
	if err != nil {
		t.Fatal(err)
	}
	frame := driftClip(320, 128, 0)
	keySize := 0
	for i := range 4 {
		sample, _, err := e.Encode(frame)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			keySize = len(sample)
		} else if 20*len(sample) > keySize {
			t.Errorf("picture %d takes %d bytes although nothing moved; the key picture took %d", i, len(sample), keySize)
		}
	}
}

func TestNewEncoderRefuses(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Width: 0, Height: 16, FPS: 16}, "each side must be 2 to 16384"},
		{Config{Width: 16, Height: 16386, FPS: 16}, "each side"},
		{Config{Width: 17, Height: 15, FPS: 16}, "use 18x16"},
		{Config{Width: 16, Height: 16}, "0 frames a second"},
		{Config{Width: 16, Height: 16, FPS: 16, QP: 9}, "quantiser 9, expected 10 to 51"},
		{Config{Width: 16, Height: 16, FPS: 16, QP: 52}, "quantiser"},
		{Config{Width: 16, Height: 16, FPS: 16, Threads: -1}, "negative"},
		{Config{Width: 16384, Height: 16384, FPS: 16}, "level 6.2"},
	} {
		if _, err := NewEncoder(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want an error with %q", tc.cfg, err, tc.want)
		}
	}
	e, err := NewEncoder(Config{Width: 16, Height: 16, FPS: 16})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Encode(make([]byte, 10)); err == nil {
		t.Error("a picture of 10 bytes is accepted")
	}
}

func TestLevels(t *testing.T) {
	for _, tc := range []struct{ w, h, fps, want int }{
		{4, 4, 8, 10}, {52, 30, 16, 30}, {52, 30, 30, 31}, {80, 45, 16, 31}, {120, 68, 30, 40}, {250, 4, 8, 40}, {1024, 1024, 16, 0},
	} {
		if got := levelFor(tc.w, tc.h, tc.fps); got != tc.want {
			t.Errorf("levelFor(%d, %d, %d) = %d, want %d", tc.w, tc.h, tc.fps, got, tc.want)
		}
	}
}

// FuzzEncode codes pictures that a seed makes, of any size and quantiser, and
// compares with ffmpeg's decode where there is one.
func FuzzEncode(f *testing.F) {
	f.Add(uint64(1), uint8(20), uint8(9), uint8(0), uint8(2))
	f.Add(uint64(2), uint8(8), uint8(70), uint8(15), uint8(5))
	f.Add(uint64(3), uint8(0), uint8(0), uint8(41), uint8(3))
	ffmpeg := ""
	f.Fuzz(func(t *testing.T, seed uint64, w, h, qp, numFrames uint8) {
		cfg := Config{Width: 2 + 2*int(w%64), Height: 2 + 2*int(h%100), FPS: 16, QP: minQP + int(qp)%(maxQP-minQP+1), KeyInterval: 5, Threads: 2}
		rng := rand.New(rand.NewPCG(seed, 1))
		var frames [][]byte
		var last []byte
		for range 1 + numFrames%8 {
			last = wildClip(rng, cfg.Width, cfg.Height, last)
			frames = append(frames, last)
		}
		stream, rec := encodeAll(t, cfg, frames)
		if ffmpeg == "" {
			ffmpeg = ffmpegtest.Need(t, "ffmpeg")
		}
		sameDecode(t, ffmpeg, cfg, stream, rec)
	})
}
