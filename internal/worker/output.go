package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/wanrun/wanrun/internal/generate"
	"github.com/wanrun/wanrun/internal/media"
)

// sheetWriter also keeps the frames for a contact sheet, written when the video is.
type sheetWriter struct {
	media.FrameWriter
	path   string
	w, h   int
	frames [][]byte
}

// WriteFrame keeps the frame and passes it on.
func (s *sheetWriter) WriteFrame(rgb []byte) error {
	s.frames = append(s.frames, slices.Clone(rgb))
	return s.FrameWriter.WriteFrame(rgb)
}

// Close finishes the video, then the sheet.
func (s *sheetWriter) Close() error {
	if err := s.FrameWriter.Close(); err != nil {
		return err
	}
	sheet, err := media.ContactSheet(s.frames, s.w, s.h, len(s.frames))
	if err != nil {
		return err
	}
	return media.WritePNG(s.path, sheet, nil)
}

func writeDump(path string, d *generate.Dump) error {
	return atomically(path, func(f *os.File) error {
		_, err := d.WriteTo(f)
		return err
	})
}

// atomically writes a file under a temporary name beside path and renames it.
func atomically(path string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("create %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
