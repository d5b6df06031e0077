package h264

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/wanrun/wanrun/internal/media/ffmpegtest"
)

// decode runs ffmpeg on a start-coded stream and returns yuv420p pictures.
func decode(ffmpeg string, stream []byte) ([]byte, error) {
	return ffmpegtest.Run(ffmpeg, stream, "-f", "h264", "-i", "pipe:0", "-f", "rawvideo", "-fps_mode", "passthrough", "pipe:1")
}

// encodeAll returns the start-coded stream and all reconstructions.
func encodeAll(t testing.TB, cfg Config, frames [][]byte) (stream, rec []byte) {
	t.Helper()
	e, err := NewEncoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, nal := range [][]byte{e.SPS(), e.PPS()} {
		stream = append(append(stream, 0, 0, 0, 1), nal...)
	}
	for i, f := range frames {
		sample, _, err := e.Encode(f)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		stream = annexB(stream, sample)
		rec = append(rec, e.Reconstruction()...)
	}
	return stream, rec
}

// sameDecode fails with the first wrong sample's place.
func sameDecode(t testing.TB, ffmpeg string, cfg Config, stream, rec []byte) {
	t.Helper()
	got, err := decode(ffmpeg, stream)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(rec) {
		t.Fatalf("ffmpeg decoded %d bytes, the reconstruction has %d", len(got), len(rec))
	}
	size := cfg.Width * cfg.Height * 3 / 2
	for i := range rec {
		if got[i] != rec[i] {
			at := i % size
			where := fmt.Sprintf("Y %d,%d", at%cfg.Width, at/cfg.Width)
			if at >= cfg.Width*cfg.Height {
				where = fmt.Sprintf("chroma byte %d", at-cfg.Width*cfg.Height)
			}
			t.Fatalf("frame %d, %s: ffmpeg shows %d, the reconstruction has %d", i/size, where, got[i], rec[i])
		}
	}
}

func TestFFmpegDecodesTheReconstruction(t *testing.T) {
	ffmpeg := ffmpegtest.Need(t, "ffmpeg")
	for _, tc := range []struct {
		cfg    Config
		frames int
		wild   bool
	}{
		{Config{Width: 64, Height: 48, FPS: 8, QP: 10}, 12, false},
		{Config{Width: 64, Height: 48, FPS: 8}, 12, false},
		{Config{Width: 208, Height: 160, FPS: 16, QP: 26, KeyInterval: 7, Threads: 3}, 20, false},
		{Config{Width: 416, Height: 240, FPS: 16, QP: 18, Threads: 2}, 6, false},
		{Config{Width: 50, Height: 34, FPS: 16}, 5, false},
		{Config{Width: 2, Height: 2, FPS: 1}, 3, false},
		{Config{Width: 18, Height: 130, FPS: 240, QP: 40, KeyInterval: 1}, 4, false},
		{Config{Width: 64, Height: 288, FPS: 16, QP: 10, Threads: 2}, 8, true},
		{Config{Width: 96, Height: 64, FPS: 16, QP: 24}, 12, true},
		{Config{Width: 96, Height: 64, FPS: 16, QP: 35, KeyInterval: 5}, 12, true},
		{Config{Width: 96, Height: 64, FPS: 16, QP: 51}, 12, true},
	} {
		t.Run(fmt.Sprintf("%dx%d qp %d wild %v", tc.cfg.Width, tc.cfg.Height, tc.cfg.QP, tc.wild), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, uint64(tc.cfg.QP)))
			var frames [][]byte
			var last []byte
			for i := range tc.frames {
				if tc.wild {
					last = wildClip(rng, tc.cfg.Width, tc.cfg.Height, last)
				} else {
					last = smoothClip(tc.cfg.Width, tc.cfg.Height, i)
				}
				frames = append(frames, last)
			}
			stream, rec := encodeAll(t, tc.cfg, frames)
			sameDecode(t, ffmpeg, tc.cfg, stream, rec)
		})
	}
}
