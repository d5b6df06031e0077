// Package file holds the bytes of checkpoint files, mapped where they lie in a
// real folder, and the tensors found in them.
//
// A mapped file that is cut short by someone else while wanrun runs makes its
// lost pages unreadable: touching one raises SIGBUS, which would end the
// process without a word. Everything that reads mapped bytes therefore runs
// under Guard, which makes the fault an error that names the file. Only plain
// Go code may read them: a fault inside C cannot be caught. Sizes are checked
// when a file is opened; a file that is cut within its last page, or overwritten
// in place, is not noticed.
package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// File is the whole content of one file, for reading only. It has one owner,
// who closes it; slices of its bytes must not be used after that.
type File struct {
	name   string
	data   []byte
	mapped bool
}

// New returns a file of the given bytes, which the caller must not change.
func New(name string, data []byte) *File { return &File{name: name, data: data} }

// Name returns the name for messages.
func (f *File) Name() string { return f.name }

// Bytes returns the content. When the file is mapped, read it under Guard.
func (f *File) Bytes() []byte { return f.data }

// Close gives the content's memory back.
func (f *File) Close() error {
	data, mapped := f.data, f.mapped
	f.data, f.mapped = nil, false
	if !mapped {
		return nil
	}
	if err := unix.Munmap(data); err != nil {
		return fmt.Errorf("unmap %s: %w", f.name, err)
	}
	return nil
}

// mapFile maps what r holds. The mapping outlives r.
func mapFile(name string, r *os.File) (*File, error) {
	info, err := r.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty", name)
	case info.Size() > math.MaxInt:
		return nil, fmt.Errorf("%s has %d bytes, too many for this platform", name, info.Size())
	}
	data, err := unix.Mmap(int(r.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return &File{name: name, data: data, mapped: true}, nil
}

// readFile reads all of r, for file systems that have nothing to map.
func readFile(name string, r fs.File) (*File, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s is empty", name)
	}
	return New(name, data), nil
}

// readSmall reads a regular file of at most limit bytes.
func readSmall(name string, r fs.File, limit int64) ([]byte, error) {
	info, err := r.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

// ErrLost marks mapped bytes that could not be read any more.
var ErrLost = errors.New("the file became unreadable while in use: was it cut short, or did its disk fail?")

// Guard runs fn, which reads mapped bytes of the named file, and returns
// ErrLost if they could not be read. fn must do its reading on the calling
// goroutine. Any other panic of fn goes on.
func Guard(name string, fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // what the runtime makes of a fault at an address
			err = fmt.Errorf("read %s: %w", name, ErrLost)
		default:
			panic(r)
		}
	}()
	return fn()
}
