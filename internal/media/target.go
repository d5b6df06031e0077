package media

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unicode/utf8"
)

// target is a file in the making: a temporary file beside it, locked for as
// long as it is written.
type target struct {
	path string // symbolic links followed
	temp string
	file *os.File
	mode fs.FileMode // what the finished file gets
}

// maxName is the length in bytes of a file's name on all usual file systems.
const maxName = 255

// createTarget checks that path can become a file and makes the temporary one.
// The temporary name follows from path, so that two runs with one output see
// each other, and what a killed run left behind is taken over by the next.
func createTarget(path string) (*target, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	dir, base := filepath.Split(abs)
	if len(base) > maxName {
		return nil, fmt.Errorf("the name is %d bytes long, at most %d are possible", len(base), maxName)
	}
	switch st, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("folder %q does not exist; make it first or choose another", dir)
	case err != nil:
		return nil, err
	case !st.IsDir():
		return nil, fmt.Errorf("%q is not a folder", dir)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
		dir, base = filepath.Split(abs)
	}
	switch st, err := os.Stat(abs); {
	case err == nil && st.IsDir():
		return nil, errors.New("it is a folder; add a file name")
	case err == nil && !st.Mode().IsRegular():
		return nil, errors.New("it is there and not a regular file")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	t := &target{path: abs, temp: filepath.Join(dir, tempName(base))}
	return t, t.open()
}

// tempName hides the name with a dot and marks it, within maxName.
func tempName(base string) string {
	const suffix = ".wanrun-part"
	if room := maxName - len(suffix) - 1; len(base) > room {
		h := fnv.New32a()
		h.Write([]byte(base))
		cut := room - 9
		for cut > 0 && !utf8.RuneStart(base[cut]) {
			cut--
		}
		base = fmt.Sprintf("%s-%08x", base[:cut], h.Sum32())
	}
	return "." + base + suffix
}

// open makes the temporary file and locks it.
func (t *target) open() error {
	for range 3 {
		f, err := os.OpenFile(t.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) {
			if err := t.removeStale(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("make the temporary file: %w", err)
		}
		// File systems without locks still have the exclusive creation.
		if err := lock(f); errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return t.busy()
		}
		if !samePlace(f, t.temp) { // another run took it for a stale one
			f.Close()
			continue
		}
		t.file = f
		return t.hide()
	}
	return t.busy()
}

func (t *target) busy() error {
	return errors.New("another run is writing this file now; choose another name or wait for it")
}

// hide makes the file private until it is whole, and remembers the mode that
// the process's umask gave it.
func (t *target) hide() error {
	st, err := t.file.Stat()
	if err == nil {
		t.mode = st.Mode().Perm()
		err = t.file.Chmod(0o600)
	}
	if err != nil {
		t.discard()
		return fmt.Errorf("prepare the temporary file: %w", err)
	}
	return nil
}

// removeStale removes the temporary file of a run that is gone, which is known
// by its lock.
func (t *target) removeStale() error {
	f, err := os.OpenFile(t.temp, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("a temporary file is in the way; remove it if no other run uses it: %w", err)
	}
	defer f.Close()
	switch err := lock(f); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return t.busy()
	case err != nil:
		return fmt.Errorf("temporary file %q is in the way; remove it if no other run uses it: %w", t.temp, err)
	case !samePlace(f, t.temp):
		return nil
	}
	if err := os.Remove(t.temp); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return nil
}

func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func samePlace(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Lstat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// commit gives the whole file its name. kept says that the temporary file holds
// all and must stay although err says that it could not be renamed.
func (t *target) commit() (kept bool, err error) {
	st, err := os.Lstat(t.temp)
	if err != nil {
		return false, fmt.Errorf("the temporary file is gone: %w", err)
	}
	if st.Size() == 0 {
		return false, errors.New("the encoder left an empty file")
	}
	if err := t.file.Sync(); err != nil {
		return false, fmt.Errorf("write to disk: %w", err)
	}
	if err := t.file.Chmod(t.mode); err != nil {
		return false, fmt.Errorf("set the file's mode: %w", err)
	}
	if err := os.Rename(t.temp, t.path); err != nil {
		t.file.Close()
		return true, fmt.Errorf("the whole file is in %q but cannot be renamed: %w", t.temp, err)
	}
	// The name is on disk for certain only after this; not all file systems
	// can, and the file is there either way.
	if dir, err := os.Open(filepath.Dir(t.path)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
	return false, t.file.Close()
}

// discard removes the temporary file.
func (t *target) discard() {
	os.Remove(t.temp)
	t.file.Close()
}
