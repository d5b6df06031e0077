package output

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// file is a log that keeps the last FilesConfig.Max bytes: when half as much is in it, it
// becomes NAME.1 in the place of the one before, and a new one begins. Writing never fails;
// what could not be written is counted.
type file struct {
	files *Files
	name  string

	mu      sync.Mutex
	f       *os.File // nil after Close, or when a new one could not be made
	size    int64    // of the file now
	before  int64    // of NAME.1
	rotated int64    // bytes that made place for newer ones
	failed  int64    // bytes that could not be written
	err     error    // the first
}

// Write takes p. It always returns len(p), nil.
func (w *file) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	half := w.files.config.Max / 2
	for half > 0 && w.size+int64(len(p)) > half {
		cut := max(half-w.size, 0)
		// At a line's end if there is one, so that no line is in two files.
		if i := bytes.LastIndexByte(p[:cut], '\n'); i >= 0 {
			cut = int64(i) + 1
		}
		w.put(p[:cut])
		p = p[cut:]
		w.rotate()
		if w.f == nil {
			break
		}
	}
	w.put(p)
	return n, nil
}

func (w *file) put(p []byte) {
	if len(p) == 0 {
		return
	}
	n, err := 0, error(fs.ErrClosed)
	if w.f != nil {
		n, err = w.f.Write(p)
	}
	w.size += int64(n)
	w.failed += int64(len(p) - n)
	w.note(err)
}

// note keeps the first error and tells of it.
func (w *file) note(err error) {
	if err == nil || w.err != nil {
		return
	}
	w.err = err
	if w.files.config.Trouble != nil {
		w.files.config.Trouble(fmt.Errorf("log file %q is incomplete: %w", w.name, err))
	}
}

// rotate begins a new file.
func (w *file) rotate() {
	if w.f == nil {
		return
	}
	root := w.files.root
	err := errors.Join(w.f.Close(), root.Rename(w.name, w.name+".1"))
	w.f = nil
	next, openErr := root.OpenFile(w.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, fileMode)
	if openErr == nil {
		w.f = next
		w.rotated += w.before
		w.before, w.size = w.size, 0
	}
	w.note(errors.Join(err, openErr))
}

// state is what the index says of the file; nil if there is none.
func (w *file) state() *IndexFile {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &IndexFile{Bytes: w.size + w.before, Rotated: w.rotated, Failed: w.failed}
	if w.before > 0 {
		s.Before = w.name + ".1"
	}
	if w.err != nil {
		s.Error = w.err.Error()
	}
	return s
}

// Close closes the file. Closing it again does nothing.
func (w *file) Close() error {
	w.files.mu.Lock()
	delete(w.files.open, w)
	w.files.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	w.note(err)
	return err
}
