package file

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Folder is where a checkpoint's files lie: a directory of the machine, whose
// files are mapped, or a file system such as an embedded one, whose files are
// read.
type Folder struct {
	name string
	fsys fs.FS
	root *os.Root // nil when there is nothing to map
}

// OpenDir opens a directory. Links that lead out of it are not followed, so that
// what a checkpoint names stays within the checkpoint. One layout is let
// through: a download cache of the Hugging Face hub, MODEL/snapshots/REVISION,
// whose files are links to MODEL/blobs.
func OpenDir(dir string) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	base, inside := abs, "."
	if snapshots := filepath.Dir(abs); filepath.Base(snapshots) == "snapshots" {
		model := filepath.Dir(snapshots)
		if blobs, err := os.Stat(filepath.Join(model, "blobs")); err == nil && blobs.IsDir() {
			base, inside = model, "snapshots/"+filepath.Base(abs)
		}
	}
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	return &Folder{name: dir, fsys: rootFS{root, inside}, root: root}, nil
}

// OpenFS returns the folder of fsys; name is for messages.
func OpenFS(name string, fsys fs.FS) *Folder { return &Folder{name: name, fsys: fsys} }

// rootFS is the folder inside of root. Unlike root's own file system, it does
// not wait for a writer when asked to open a pipe.
type rootFS struct {
	root   *os.Root
	inside string
}

// Open implements fs.FS.
func (f rootFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return f.root.OpenFile(path.Join(f.inside, name), os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// Name returns the folder's name for messages.
func (d *Folder) Name() string { return d.name }

// FS returns the folder as a file system, for files that are read whole.
func (d *Folder) FS() fs.FS { return d.fsys }

// IsPlain reports whether name is that of a file right in a folder: no path, no
// parent, no control characters.
func IsPlain(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 255 {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r == '/' || r == '\\' || r == ':' || r < ' ' || r == 0x7f || r == 0xfffd
	})
}

// Has reports whether there is an entry of that name, of whatever kind.
func (d *Folder) Has(name string) bool {
	_, err := fs.Stat(d.fsys, name)
	return err == nil
}

// Open maps or reads the named file.
func (d *Folder) Open(name string) (*File, error) {
	shown := path.Join(d.name, name)
	if !IsPlain(name) {
		return nil, fmt.Errorf("%q is not a plain file name", name)
	}
	r, err := d.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if osFile, ok := r.(*os.File); ok && d.root != nil {
		return mapFile(shown, osFile)
	}
	return readFile(shown, r)
}

// ReadSmall returns the content of the named file, of at most limit bytes.
func (d *Folder) ReadSmall(name string, limit int64) ([]byte, error) {
	r, err := d.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readSmall(path.Join(d.name, name), r, limit)
}

// Close lets go of the directory; files that were opened stay.
func (d *Folder) Close() error {
	if d.root == nil {
		return nil
	}
	return d.root.Close()
}
