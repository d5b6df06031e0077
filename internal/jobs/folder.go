package jobs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	socketSuffix = ".sock"
	lockName     = "lock"
	newPrefix    = ".new-" // of sockets that nobody listens on yet
	// maxFileName is what unix(7)'s 107 bytes of a socket's path leave beside
	// "/proc/self/fd/1234567/" and the suffix.
	maxFileName = 80
	// lockPatience is how long another process may be busy in the folder: its work takes
	// less than a millisecond, unless it is stopped.
	lockPatience = 2 * time.Second
)

// Folder is where a user's jobs register: below XDG_RUNTIME_DIR (runtimeDir), which the
// system empties when the user has left, else below the folder for temporary files.
func Folder(runtimeDir, tempDir string, uid int) string {
	if filepath.IsAbs(runtimeDir) {
		return filepath.Join(runtimeDir, "wanrun")
	}
	return filepath.Join(tempDir, "wanrun-"+strconv.Itoa(uid))
}

// folder is an open folder of sockets that is known to be this user's alone. Its files
// are named relative to it, so that nobody can put another folder in its place, and so
// that its path may be longer than a socket's may be.
type folder struct {
	path string
	file *os.File
}

// openFolder opens the folder at path, and with create makes it if it is not there.
// Errors: fs.ErrNotExist; a folder that others own or may enter.
func openFolder(path string, create bool) (*folder, error) {
	if create {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("%s is no folder; remove it", path)
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := &folder{path, os.NewFile(uintptr(fd), path)}
	st, err := f.file.Stat()
	if err == nil {
		err = checkOwn(path, st)
	}
	if err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// checkOwn sees that a folder is this user's, and that nobody else may enter it.
func checkOwn(path string, st fs.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told", path)
	}
	if uid := os.Geteuid(); int(sys.Uid) != uid {
		return fmt.Errorf("%s belongs to user %d, want %d; remove it or set XDG_RUNTIME_DIR", path, sys.Uid, uid)
	}
	if mode := st.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o, want 0700; run chmod 700 on it if its content is yours", path, mode)
	}
	return nil
}

func (f *folder) close() { f.file.Close() }

// at returns a path of the file name. It holds while the folder is open.
func (f *folder) at(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.file.Fd(), name)
}

// lock keeps other processes from changing which sockets there are. Closing what it
// returns, as the kernel does for a process that dies, ends it.
func (f *folder) lock() (*os.File, error) {
	l, err := os.OpenFile(f.at(lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.path, err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Flock(int(l.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			l.Close()
			return nil, fmt.Errorf("lock %s, which another process may hold: %w", f.path, err)
		}
	}
}

// jobs returns the ids of all sockets, dead or alive, in order.
func (f *folder) jobs() ([]string, error) {
	entries, err := fs.ReadDir(os.DirFS(f.at(".")), ".")
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if id, ok := idOf(e.Name()); ok && e.Type() == fs.ModeSocket {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// fileName is the name of a job's socket. All bytes but a few are written as %XX, so that
// no id leaves the folder, hides, or is another's.
func fileName(id string) (string, error) {
	var b strings.Builder
	for i := range len(id) {
		if c := id[i]; plain(c) && (c != '.' || i > 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() == 0 || b.Len() > maxFileName {
		return "", fmt.Errorf("job id %.40q has %d bytes as a file's name, want 1 to %d", id, b.Len(), maxFileName)
	}
	return b.String() + socketSuffix, nil
}

// idOf is the inverse of fileName; ok is false for a name that it does not make.
func idOf(name string) (id string, ok bool) {
	base, ok := strings.CutSuffix(name, socketSuffix)
	if !ok {
		return "", false
	}
	var b []byte
	for i := 0; i < len(base); i++ {
		c := base[i]
		if c == '%' {
			if len(base) < i+3 {
				return "", false
			}
			n, err := strconv.ParseUint(base[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			c, i = byte(n), i+2
		}
		b = append(b, c)
	}
	made, err := fileName(string(b))
	return string(b), err == nil && made == name
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
