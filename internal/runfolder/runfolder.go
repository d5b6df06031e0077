// Package runfolder keeps a run that is not finished: what was asked for, and the
// numbers between two denoising steps from which another process goes on.
//
// A folder holds one file, replaced as a whole: whoever reads it finds the state after
// some step, or none, but never parts of two.
package runfolder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// stateName is the file with the state, tempName the one that becomes it.
const (
	stateName = "state.wanrun"
	tempName  = "state.wanrun.new"
)

// Beside returns the folder of a run whose output is path: hidden, in the same folder.
func Beside(output string) string {
	dir, base := filepath.Split(output)
	return filepath.Join(dir, "."+base+".wanrun")
}

// Folder is a run folder that this process writes. No other process can, until Close.
type Folder struct {
	path string
	dir  *os.File // open and locked
	made bool     // by Create
}

// Create opens the folder for writing and makes it if it is not there; the folder that
// it lies in must be.
func Create(path string) (*Folder, error) {
	made := true
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		made, err = false, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another run uses it")
		}
		return nil, errors.Join(fmt.Errorf("run folder %q: %w", path, err), dir.Close())
	}
	return &Folder{path: path, dir: dir, made: made}, nil
}

// Path is the folder's name.
func (f *Folder) Path() string { return f.path }

// Write replaces the state. It is on disk when Write returns; if Write fails, the state
// before is still there.
func (f *Folder) Write(s State) (err error) {
	temp := filepath.Join(f.path, tempName)
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save the run: %w", err)
	}
	if err := errors.Join(s.encode(file), file.Sync(), file.Close()); err != nil {
		return errors.Join(fmt.Errorf("save the run in %q: %w", f.path, err), os.Remove(temp))
	}
	if err := os.Rename(temp, filepath.Join(f.path, stateName)); err != nil {
		return errors.Join(fmt.Errorf("save the run: %w", err), os.Remove(temp))
	}
	if err := f.dir.Sync(); err != nil {
		return fmt.Errorf("save the run in %q: %w", f.path, err)
	}
	return nil
}

// Close lets others write.
func (f *Folder) Close() error { return f.dir.Close() }

// Remove removes the state, and the folder if nothing else is in it. What is not there
// needs no removing.
func Remove(path string) error {
	var errs []error
	for _, name := range []string{stateName, tempName} {
		if err := os.Remove(filepath.Join(path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			errs = append(errs, fmt.Errorf("remove the saved run: %w", err))
		}
	}
	err := os.Remove(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("remove the run folder: %w", err))
	}
	return errors.Join(errs...)
}

// open opens the state file of a folder. A folder without one is fs.ErrNotExist.
func open(path string) (*os.File, int64, error) {
	// A pipe of that name must not hold us up.
	file, err := os.OpenFile(filepath.Join(path, stateName), os.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, fmt.Errorf("%q holds no saved run: %w", path, fs.ErrNotExist)
	case err != nil:
		return nil, 0, fmt.Errorf("saved run: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("saved run in %q: %w", path, err), file.Close())
	}
	return file, info.Size(), nil
}

// Read returns the state of a folder, whole and checked.
// Errors: fs.ErrNotExist if there is none.
func Read(path string) (State, error) {
	file, size, err := open(path)
	if err != nil {
		return State{}, err
	}
	defer file.Close()
	s, err := decode(file, size, true)
	if err != nil {
		return State{}, fmt.Errorf("saved run in %q: %w", path, err)
	}
	return s, nil
}

// ReadHeader is Read without the numbers, of which only the size is checked.
func ReadHeader(path string) (Header, error) {
	file, size, err := open(path)
	if err != nil {
		return Header{}, err
	}
	defer file.Close()
	s, err := decode(file, size, false)
	if err != nil {
		return Header{}, fmt.Errorf("saved run in %q: %w", path, err)
	}
	return s.Header, nil
}

// Differences says in words what of a run is not as it was when the state was saved, ""
// if all is. Only facts decide what the video becomes.
func (h Header) Differences(build string, facts map[string]string) string {
	var parts []string
	if h.Build != build {
		parts = append(parts, fmt.Sprintf("the build is %q and was %q", build, h.Build))
	}
	names := make([]string, 0, len(facts)+len(h.Facts))
	for name := range facts {
		names = append(names, name)
	}
	for name := range h.Facts {
		if _, ok := facts[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if now, then := facts[name], h.Facts[name]; now != then {
			parts = append(parts, fmt.Sprintf("%s is %s and was %s", name, shortened(now), shortened(then)))
		}
	}
	return strings.Join(parts, "; ")
}

func shortened(s string) string {
	const longest = 60
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return fmt.Sprintf("%q", s)
}
