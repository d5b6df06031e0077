package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// write makes a file of the given size, whose bytes count up.
func write(t *testing.T, path string, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i % 251)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

func openDir(t *testing.T, dir string) *Folder {
	t.Helper()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestOpenMapsOrReads(t *testing.T) {
	dir := t.TempDir()
	want := write(t, filepath.Join(dir, "a"), 10_000)
	for name, d := range map[string]*Folder{
		"directory":   openDir(t, dir),
		"file system": OpenFS("embedded", fstest.MapFS{"a": {Data: want}}),
	} {
		f, err := d.Open("a")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(f.Bytes(), want) {
			t.Errorf("%s: other bytes than written", name)
		}
		if f.mapped != (name == "directory") {
			t.Errorf("%s: mapped is %v", name, f.mapped)
		}
		if err := f.Close(); err != nil || f.Bytes() != nil {
			t.Errorf("%s: close: %v, bytes %d", name, err, len(f.Bytes()))
		}
	}
}

// TestTruncated cuts a mapped file and reads what is no longer there.
func TestTruncated(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "weights")
	write(t, path, 1<<20)
	f, err := openDir(t, dir).Open("weights")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := 0
	read := func() error {
		for _, b := range f.Bytes() {
			sum += int(b)
		}
		return nil
	}
	if err := Guard(f.Name(), read); err != nil {
		t.Fatalf("before: %v", err)
	}
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	err = Guard(f.Name(), read)
	if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), path) {
		t.Errorf("after: got %v, want ErrLost with the name of the file", err)
	}
	err = Guard(f.Name(), func() error { copy(make([]byte, 1<<20), f.Bytes()); return nil })
	if !errors.Is(err, ErrLost) {
		t.Errorf("copy after: got %v, want ErrLost", err)
	}
}

func TestGuardLetsOtherPanicsThrough(t *testing.T) {
	defer func() {
		if r := recover(); r != "other" {
			t.Errorf("recovered %v, want the panic of fn", r)
		}
	}()
	_ = Guard("x", func() error { panic("other") })
}

func TestOpenRefuses(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "secret"), 10)
	dir := filepath.Join(base, "model")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "real"), 10)
	write(t, filepath.Join(dir, "empty"), 0)
	for link, target := range map[string]string{
		"up": "../secret", "absolute": filepath.Join(base, "secret"), "inside": "real", "loop": "loop", "hop": "sub/../../secret",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, dir)
	for _, name := range []string{"", ".", "..", "../secret", "../../etc/passwd", "/etc/passwd", "sub/../real", `..\secret`, "a\x00b", "c:x",
		"a\nb", strings.Repeat("x", 256), "up", "absolute", "loop", "hop", "sub", "pipe", "empty", "none"} {
		if f, err := d.Open(name); err == nil {
			t.Errorf("Open(%q) gave %d bytes, want an error", name, len(f.Bytes()))
		}
	}
	for _, name := range []string{"up", "absolute", "hop", "none", "../secret"} {
		if d.Has(name) {
			t.Errorf("Has(%q) is true", name)
		}
		if _, err := d.ReadSmall(name, 100); err == nil {
			t.Errorf("ReadSmall(%q) read it", name)
		}
	}
	if _, err := d.ReadSmall("pipe", 100); err == nil {
		t.Error("ReadSmall of a pipe read it")
	}
	if _, err := d.ReadSmall("real", 9); err == nil {
		t.Error("ReadSmall(9) read 10 bytes")
	}
	if b, err := d.ReadSmall("real", 10); err != nil || len(b) != 10 {
		t.Errorf("ReadSmall(10) = %d bytes, %v", len(b), err)
	}
	if f, err := d.Open("inside"); err != nil {
		t.Errorf("a link within the folder: %v", err)
	} else if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestHubCache opens the layout in which the hub's client keeps its downloads.
func TestHubCache(t *testing.T) {
	model := filepath.Join(t.TempDir(), "models--Wan-AI--Wan2.1")
	snapshot := filepath.Join(model, "snapshots", "abc")
	for _, dir := range []string{snapshot, filepath.Join(model, "blobs")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(model, "blobs", "1234"), 10)
	write(t, filepath.Join(model, "..", "outside"), 10)
	for link, target := range map[string]string{"config.json": "../../blobs/1234", "bad": "../../../outside"} {
		if err := os.Symlink(target, filepath.Join(snapshot, link)); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, snapshot)
	f, err := d.Open("config.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Open("bad"); err == nil {
		t.Error("a link out of the model was followed")
	}
}

func TestOpenDirRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, 1)
	for _, dir := range []string{path, path + "none", ""} {
		if d, err := OpenDir(dir); err == nil {
			t.Errorf("OpenDir(%q) = %v, want an error", dir, d.Name())
		}
	}
}
