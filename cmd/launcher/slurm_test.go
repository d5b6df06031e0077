package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParentOf(t *testing.T) {
	for _, c := range []struct {
		text, name string
		parent     int
		ok         bool
	}{
		{"17 (slurmstepd) S 3 17 17 0", "slurmstepd", 3, true},
		{"17 (a) b (c)) R 42 1", "a) b (c)", 42, true},
		{"17 (slurmstepd) S", "", 0, false},
		{"17 (slurmstepd) S x 1", "", 0, false},
		{"17 )( S 3", "", 0, false},
		{"", "", 0, false},
	} {
		proc := t.TempDir()
		if err := os.Mkdir(filepath.Join(proc, "17"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, "17", "stat"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		parent, name, ok := parentOf(proc, 17)
		if ok != c.ok || ok && (parent != c.parent || name != c.name) {
			t.Errorf("%q: %d %q %v, want %d %q %v", c.text, parent, name, ok, c.parent, c.name, c.ok)
		}
	}
	if _, _, ok := parentOf(t.TempDir(), 17); ok {
		t.Error("a process that is not there has a parent")
	}
}

func TestOpenAncestor(t *testing.T) {
	_, name, ok := parentOf("/proc", os.Getppid())
	if !ok {
		t.Skip("/proc hides other processes")
	}
	fd, ok := openAncestor("/proc", os.Getpid(), name)
	if !ok {
		t.Fatalf("no ancestor %q", name)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil {
		t.Errorf("the ancestor's descriptor: %v", err)
	}
	if fd, ok := openAncestor("/proc", os.Getpid(), "no such name "+strconv.Itoa(os.Getpid())); ok {
		unix.Close(fd)
		t.Error("an ancestor was found that is none")
	}
}
