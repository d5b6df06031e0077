package media

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTwoRunsWithOneOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.mp4")
	first := mustCreate(t, path, options(1, EncoderBuiltin))
	if _, err := Create(path, options(1, EncoderBuiltin)); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "another run") {
		t.Errorf("a second run with the same output gives %v", err)
	}
	writeAll(t, first, options(1, EncoderBuiltin))
	mustCreate(t, path, options(1, EncoderBuiltin))
}

func TestKilledRunIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, tempName("v.mp4"))
	if err := os.WriteFile(stale, []byte("half a video"), 0o600); err != nil {
		t.Fatal(err)
	}
	opt := options(1, EncoderBuiltin)
	writeAll(t, mustCreate(t, filepath.Join(dir, "v.mp4"), opt), opt)
	wantNames(t, dir, "v.mp4")
}

func TestForeignTemporaryNameIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, filepath.Join(dir, tempName("v.mp4"))); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(filepath.Join(dir, "v.mp4"), options(1, EncoderBuiltin)); !errors.Is(err, ErrOutput) {
		t.Errorf("a link in the place of the temporary file gives %v, want ErrOutput", err)
	}
	if got, _ := os.ReadFile(precious); string(got) != "x" {
		t.Errorf("the link's file holds %q now", got)
	}
}

func TestSymbolicLinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "link.mp4"), filepath.Join(dir, "file.mp4")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	opt := options(1, EncoderBuiltin)
	writeAll(t, mustCreate(t, link, opt), opt)
	wantNames(t, dir, "file.mp4", "link.mp4")
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v now", st.Mode(), err)
	}
	if _, err := ReadMetadata(file); err != nil {
		t.Error(err)
	}
}

func TestNamesAtTheLimit(t *testing.T) {
	for _, base := range []string{
		strings.Repeat("a", 251) + ".mp4", strings.Repeat("ü", 125) + "x.mp4", "v.mp4",
	} {
		if got := tempName(base); len(got) > maxName || got == base {
			t.Errorf("tempName of %d bytes has %d", len(base), len(got))
		}
		dir := t.TempDir()
		opt := options(1, EncoderBuiltin)
		writeAll(t, mustCreate(t, filepath.Join(dir, base), opt), opt)
		wantNames(t, dir, base)
	}
	long := strings.Repeat("a", 250)
	if tempName(long+"1.mp4") == tempName(long+"2.mp4") {
		t.Error("two long names share a temporary one")
	}
}

func TestNothingIsLostWhenTheRenameFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "v.mp4")
	opt := options(1, EncoderBuiltin)
	w := mustCreate(t, path, opt)
	if err := w.WriteFrame(frame(64, 48, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o777); err != nil {
		t.Fatal(err)
	}
	err := w.Close()
	if !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), tempName("v.mp4")) {
		t.Errorf("Close gives %v, want ErrOutput and the name of the whole file", err)
	}
	w.Abort()
	if got, err := ReadMetadata(filepath.Join(dir, tempName("v.mp4"))); err != nil || string(got) != settings {
		t.Errorf("the whole file: %q, %v", got, err)
	}
}

func TestVanishedTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	w := mustCreate(t, filepath.Join(dir, "v.mp4"), options(1, EncoderBuiltin))
	if err := w.WriteFrame(frame(64, 48, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, tempName("v.mp4"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("Close gives %v", err)
	}
}
