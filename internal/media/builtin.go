package media

import (
	"io"

	"github.com/wanrun/wanrun/internal/media/h264"
	"github.com/wanrun/wanrun/internal/media/mp4"
)

// builtinEncoder writes .mp4 without help from outside.
type builtinEncoder struct {
	h264 *h264.Encoder
	mp4  *mp4.Writer
}

func newBuiltinEncoder(w io.WriteSeeker, opt Options) (*builtinEncoder, error) {
	enc, err := h264.NewEncoder(h264.Config{Width: opt.W, Height: opt.H, FPS: opt.FPS, Threads: opt.Threads})
	if err != nil {
		return nil, err
	}
	mux, err := mp4.NewWriter(w, mp4.Video{
		Width: opt.W, Height: opt.H, FPS: opt.FPS, NumFrames: opt.NumFrames,
		SPS: enc.SPS(), PPS: enc.PPS(),
		Primaries: h264.ColourPrimaries, Transfer: h264.ColourTransfer, Matrix: h264.ColourMatrix,
		Tool: opt.Tool, Comment: string(opt.Metadata),
	})
	if err != nil {
		return nil, err
	}
	return &builtinEncoder{enc, mux}, nil
}

func (e *builtinEncoder) writeFrame(rgb []byte) error {
	sample, key, err := e.h264.Encode(rgb)
	if err != nil {
		return err
	}
	return e.mp4.WriteSample(sample, key)
}

func (e *builtinEncoder) finish() error { return e.mp4.Close() }

func (e *builtinEncoder) kill() {}
