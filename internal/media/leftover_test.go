package media

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRemoveLeftover(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.mp4")
	if err := RemoveLeftover(path); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	w, err := Create(path, Options{W: 16, H: 16, FPS: 8, NumFrames: 1, Encoder: EncoderBuiltin})
	if err != nil {
		t.Fatal(err)
	}
	if err := RemoveLeftover(path); err == nil {
		t.Error("the file of a run that goes on was removed")
	}
	w.Abort()
	if err := os.WriteFile(filepath.Join(dir, tempName("x.mp4")), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RemoveLeftover(path); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
}
