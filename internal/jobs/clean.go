package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/jobs/owner"
)

// Kind is what a leftover is.
type Kind string

// The kinds.
const (
	LeftProcess Kind = "process" // that a job started, whose guard is dead
	LeftFolder  Kind = "folder"  // for temporary files, whose owner is dead
	LeftSocket  Kind = "socket"  // of a launcher that is dead
)

// Leftover is something that a dead job left.
type Leftover struct {
	Kind  Kind   `json:"kind"`
	Path  string `json:"path,omitempty"`
	Pid   int    `json:"pid,omitempty"`
	Job   string `json:"job"`   // "" if unknown
	Bytes int64  `json:"bytes"` // of memory or in files
	Text  string `json:"text"`  // one line for people

	process marked
	inode   uint64
}

// Kept is something with wanrun's name that stays.
type Kept struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Find returns what this user's dead jobs have left on this machine, in the order in
// which to remove it, and what looks like it and stays. Processes are found by the mark
// in their environment, folders "wanrun-*" in tempDir by their owner's file (see package
// owner), sockets in dir (see Folder) by that nobody listens. Nothing is changed.
func Find(dir, tempDir string) (found []Leftover, kept []Kept, err error) {
	if found, err = findProcesses(); err != nil {
		return nil, nil, err
	}
	folders, kept, err := findFolders(tempDir, dir)
	if err != nil {
		return nil, nil, err
	}
	sockets, err := findSockets(dir)
	if err != nil {
		return nil, nil, err
	}
	return append(append(found, folders...), sockets...), kept, nil
}

// Remove removes what Find found, if it is still what it was: a job that has begun since
// is left alone. It waits for processes to be dead.
func (l Leftover) Remove(ctx context.Context) error {
	switch l.Kind {
	case LeftProcess:
		return l.process.kill(ctx)
	case LeftFolder:
		return removeFolder(l.Path, l.inode)
	case LeftSocket:
		return removeSocket(l.Path, l.inode)
	}
	return fmt.Errorf("leftover of kind %q, want one that Find returned", l.Kind)
}

func findFolders(tempDir, dir string) (found []Leftover, kept []Kept, err error) {
	entries, err := os.ReadDir(tempDir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		path := filepath.Join(tempDir, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), "wanrun-") || path == filepath.Clean(dir) {
			continue
		}
		info, err := e.Info()
		if err != nil || checkOwn(path, info) != nil {
			continue // gone, or another's
		}
		o, lock, why := examine(path)
		if why != "" {
			kept = append(kept, Kept{path, why})
			continue
		}
		lock.Close()
		inode, err := inodeOf(path)
		if err != nil {
			continue
		}
		l := Leftover{Kind: LeftFolder, Path: path, Job: printable(o.Job), Bytes: diskBytes(path), inode: inode}
		l.Text = fmt.Sprintf("folder %s of job %s, %s: its process %d is dead", printable(path), jobText(l.Job), mebibytes(l.Bytes), o.Pid)
		found = append(found, l)
	}
	return found, kept, nil
}

// examine reads a folder's owner. If that is dead, it returns the owner's file, locked;
// else why the folder stays.
func examine(path string) (o owner.Owner, lock *os.File, why string) {
	f, err := os.OpenFile(filepath.Join(path, owner.FileName), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil, "it does not say whose it is"
	}
	if err != nil {
		return o, nil, err.Error()
	}
	keep := func(why string) (owner.Owner, *os.File, string) {
		f.Close()
		return o, nil, why
	}
	// Reading comes after the lock: who makes the file writes it with the lock held.
	lockErr := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	data, err := readBounded(f, 4<<10)
	if err == nil {
		o, err = owner.Parse(data)
	}
	if err != nil {
		return keep("it does not say whose it is: " + err.Error())
	}
	if lockErr != nil && !errors.Is(lockErr, unix.EWOULDBLOCK) && o.Locked {
		return keep("its lock cannot be tried: " + lockErr.Error())
	}
	self, err := owner.Self("")
	if err != nil {
		return keep(err.Error())
	}
	if dead, why := o.Dead(self, errors.Is(lockErr, unix.EWOULDBLOCK)); !dead {
		return keep(why)
	}
	return o, f, ""
}

// removeFolder removes the folder and all in it, without following links out of it.
func removeFolder(path string, inode uint64) error {
	now, err := inodeOf(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && now != inode {
		return nil
	}
	if err != nil {
		return err
	}
	_, lock, why := examine(path)
	if why != "" {
		return fmt.Errorf("%s stays: %s", path, why)
	}
	defer lock.Close()
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(filepath.Base(path))
}

// diskBytes is the size of the files in a folder, of the first 10,000.
func diskBytes(path string) (sum int64) {
	left := 10_000
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if left--; left < 0 {
			return filepath.SkipAll
		}
		if err != nil {
			return nil // it is only a sum
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

func findSockets(dir string) ([]Leftover, error) {
	f, err := openFolder(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.close()
	entries, err := os.ReadDir(f.at("."))
	if err != nil {
		return nil, err
	}
	var found []Leftover
	for _, e := range entries {
		name := e.Name()
		if e.Type() != fs.ModeSocket || !f.stale(name) {
			continue
		}
		inode, err := inodeOf(f.at(name))
		if err != nil {
			continue
		}
		id, _ := idOf(name)
		path := filepath.Join(dir, name)
		found = append(found, Leftover{Kind: LeftSocket, Path: path, Job: printable(id), inode: inode,
			Text: fmt.Sprintf("socket %s of job %s: nobody listens", printable(path), jobText(printable(id)))})
	}
	return found, nil
}

// stale says whether a socket is one of ours on which nobody listens. One that is being
// made has its maker's number in its name.
func (f *folder) stale(name string) bool {
	if number, ok := strings.CutPrefix(name, newPrefix); ok {
		pid, err := strconv.Atoi(number)
		return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	if _, ok := idOf(name); !ok {
		return false
	}
	alive, err := f.alive(name)
	return err == nil && !alive
}

func removeSocket(path string, inode uint64) error {
	f, err := openFolder(filepath.Dir(path), false)
	if err != nil {
		return err
	}
	defer f.close()
	lock, err := f.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	name := filepath.Base(path)
	now, err := inodeOf(f.at(name))
	if errors.Is(err, fs.ErrNotExist) || err == nil && (now != inode || !f.stale(name)) {
		return nil // it is gone, or another job of this name has begun
	}
	if err != nil {
		return err
	}
	return os.Remove(f.at(name))
}
