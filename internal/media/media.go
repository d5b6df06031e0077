// Package media writes frames as video or picture files and reads back the
// settings that were stored with them.
//
// A file is written under a temporary name in its own folder, which is made
// before the first frame is computed, and gets its name when it is whole: no
// reader ever sees a part of it, and a folder that cannot be written to is found
// at once.
package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/media/mp4"
)

// ErrOutput is wrapped by every error of a file that cannot be written.
var ErrOutput = errors.New("output cannot be written")

// Encoders of .mp4 files.
const (
	EncoderAuto    = "auto"    // ffmpeg if it is there and has libx264, else builtin
	EncoderFFmpeg  = "ffmpeg"  // the official writer's settings
	EncoderBuiltin = "builtin" // internal/media/h264
)

// encoderPNG is what a FrameWriter for .png reports as its encoder.
const encoderPNG = "png"

// MaxMetadata bounds the settings stored in a file, in bytes.
const MaxMetadata = mp4.MaxComment

// Options describe the frames and the file.
type Options struct {
	W, H      int    // samples; even for .mp4
	FPS       int    // frames a second
	NumFrames int    // exactly as many must be written
	Encoder   string // for .mp4; "" is EncoderAuto
	FFmpeg    string // the program; "" looks for ffmpeg in PATH
	Metadata  []byte // JSON, stored in the file for ReadMetadata; may be nil
	Tool      string // name and version of the program; ffmpeg puts its own instead
	Threads   int    // goroutines of the builtin encoder; 0 is one
}

// FrameWriter takes the frames of one file in order. WriteFrame and Close are for
// one goroutine; Abort may be called from another to end them.
type FrameWriter interface {
	// WriteFrame adds the next frame, H*W*3 bytes of RGB; it does not keep rgb.
	WriteFrame(rgb []byte) error
	// Close finishes the file and gives it its name. If that fails nothing is
	// left behind, save when the whole file was written but could not be
	// renamed; then the error names it.
	Close() error
	// Abort ends the encoder and removes the temporary file. After Close, or a
	// second time, it does nothing.
	Abort()
	// Path is the file's name, as asked for.
	Path() string
	// Encoder is what makes the file: "ffmpeg", "builtin" or "png".
	Encoder() string
}

// encoder turns frames into the contents of the temporary file.
type encoder interface {
	writeFrame(rgb []byte) error
	finish() error
	kill() // makes the other two return soon; from any goroutine
}

// Create makes the temporary file for path, chooses the encoder and returns a
// writer for opt.NumFrames frames. The file's kind follows from its extension, .mp4
// or .png (one frame). Errors: ErrOutput.
func Create(path string, opt Options) (FrameWriter, error) {
	w, err := create(path, opt)
	if err != nil {
		return nil, outputError(path, err)
	}
	return w, nil
}

func create(path string, opt Options) (*frameWriter, error) {
	meta, err := compactMetadata(opt.Metadata)
	if err != nil {
		return nil, err
	}
	opt.Metadata = meta
	if err := checkFrames(opt); err != nil {
		return nil, err
	}
	w := &frameWriter{path: path, opt: opt}
	var start func(*target) (encoder, error)
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".png":
		if opt.NumFrames > 1 {
			return nil, fmt.Errorf("a .png file holds one frame, not %d; choose a name that ends in .mp4", opt.NumFrames)
		}
		w.encoder = encoderPNG
		start = func(t *target) (encoder, error) { return &pngEncoder{file: t.file, opt: opt}, nil }
	case ".mp4":
		if opt.W%2 != 0 || opt.H%2 != 0 {
			return nil, fmt.Errorf("frames of %dx%d: H.264 needs even sides", opt.W, opt.H)
		}
		program, err := chooseEncoder(opt)
		if err != nil {
			return nil, err
		}
		if program != "" {
			w.encoder = EncoderFFmpeg
			start = func(t *target) (encoder, error) { return newFFmpegEncoder(program, t, opt), nil }
		} else {
			w.encoder = EncoderBuiltin
			start = func(t *target) (encoder, error) { return newBuiltinEncoder(t.file, opt) }
		}
	default:
		return nil, fmt.Errorf("extension %q is not known, expected .mp4 or .png", ext)
	}
	if w.target, err = createTarget(path); err != nil {
		return nil, err
	}
	if w.enc, err = start(w.target); err != nil {
		w.target.discard()
		return nil, err
	}
	return w, nil
}

func checkFrames(opt Options) error {
	const maxSide = 1 << 14
	switch {
	case opt.W < 1 || opt.H < 1 || opt.W > maxSide || opt.H > maxSide:
		return fmt.Errorf("frames of %dx%d: each side must be 1 to %d", opt.W, opt.H, maxSide)
	case opt.FPS < 1 || opt.FPS > 240:
		return fmt.Errorf("%d frames a second, expected 1 to 240", opt.FPS)
	case opt.NumFrames < 1:
		return fmt.Errorf("%d frames, expected at least one", opt.NumFrames)
	}
	return nil
}

// compactMetadata checks the settings and takes the white space out. Text that
// is not UTF-8 is mended rather than refused: a prompt must not cost the video.
func compactMetadata(meta []byte) ([]byte, error) {
	if len(meta) == 0 {
		return nil, nil
	}
	if !utf8.Valid(meta) {
		meta = bytes.ToValidUTF8(meta, []byte("\uFFFD"))
	}
	var out bytes.Buffer
	if err := json.Compact(&out, meta); err != nil {
		return nil, fmt.Errorf("settings to store are not JSON: %w", err)
	}
	if out.Len() > MaxMetadata {
		return nil, fmt.Errorf("settings to store are %d bytes long, at most %d are possible", out.Len(), MaxMetadata)
	}
	return out.Bytes(), nil
}

// frameWriter counts frames and owns the target; its encoder does the rest.
type frameWriter struct {
	path, encoder string
	opt           Options
	target        *target
	enc           encoder
	numFrames     int

	mu   sync.Mutex
	done bool // closed or aborted
}

func (w *frameWriter) Path() string    { return w.path }
func (w *frameWriter) Encoder() string { return w.encoder }

func (w *frameWriter) WriteFrame(rgb []byte) error {
	if want := 3 * w.opt.W * w.opt.H; len(rgb) != want {
		return outputError(w.path, fmt.Errorf("frame of %d bytes, expected %d for %dx%d RGB", len(rgb), want, w.opt.W, w.opt.H))
	}
	if w.numFrames == w.opt.NumFrames {
		return outputError(w.path, fmt.Errorf("more than the %d frames announced", w.opt.NumFrames))
	}
	if w.isDone() {
		return outputError(w.path, errors.New("writing was ended"))
	}
	if err := w.enc.writeFrame(rgb); err != nil {
		return outputError(w.path, fmt.Errorf("frame %d of %d: %w", w.numFrames+1, w.opt.NumFrames, err))
	}
	w.numFrames++
	return nil
}

func (w *frameWriter) isDone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

func (w *frameWriter) Close() error {
	err := w.finish()
	if err == nil {
		return nil
	}
	w.Abort()
	return outputError(w.path, err)
}

func (w *frameWriter) finish() error {
	if w.isDone() {
		return errors.New("writing was ended")
	}
	if w.numFrames != w.opt.NumFrames {
		return fmt.Errorf("%d frames were written, expected %d", w.numFrames, w.opt.NumFrames)
	}
	if err := w.enc.finish(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return errors.New("writing was ended")
	}
	kept, err := w.target.commit()
	w.done = err == nil || kept
	return err
}

func (w *frameWriter) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return
	}
	w.done = true
	w.enc.kill()
	w.target.discard()
}

func outputError(path string, err error) error {
	return fmt.Errorf("%q: %w: %w", path, ErrOutput, err)
}
