package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// killGroup is a control group of version 2 that holds all ranks and what they start, to
// be killed at once.
type killGroup struct{ dir string }

// makeGroup makes a group below parent.
func makeGroup(parent string) (*killGroup, error) {
	g := &killGroup{filepath.Join(parent, fmt.Sprintf("wanrun-%d", os.Getpid()))}
	if err := os.Mkdir(g.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(g.dir, "cgroup.kill")); err != nil {
		_ = os.Remove(g.dir)
		return nil, fmt.Errorf("no cgroup.kill (Linux 5.14): %w", err)
	}
	return g, nil
}

// open returns the folder for CLONE_INTO_CGROUP.
func (g *killGroup) open() (int, error) {
	return unix.Open(g.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

func (g *killGroup) kill() error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
}

// remove waits a little: a group is busy until the last process of it was reaped.
func (g *killGroup) remove() {
	for range 20 {
		if err := unix.Rmdir(g.dir); err != unix.EBUSY {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
