package runfolder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sampleState is one after 3 of 5 steps; its arrays are longer than a chunk.
func sampleState() State {
	s := State{Header: Header{Build: "b", Args: []string{"--steps=5"}, Facts: map[string]string{"seed": "7"}, Next: 3, Steps: 5, Kind: "unipc", Shift: "3"}}
	for i, name := range []string{Latent, X0, PrevX0, Sample} {
		data := make([]float32, 20_000)
		for k := range data {
			data[k] = float32(i*1000+k) / 7
		}
		s.Add(name, data)
	}
	s.Add("none", nil)
	return s
}

func TestWriteRead(t *testing.T) {
	path := Beside(filepath.Join(t.TempDir(), "out.mp4"))
	if filepath.Base(path) != ".out.mp4.wanrun" {
		t.Errorf("folder %q", path)
	}
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(path); err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("a second writer: %v", err)
	}
	first, second := State{Header: Header{Steps: 5}}, sampleState()
	for _, want := range []State{first, second} {
		if err := f.Write(want); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		header, err := ReadHeader(path)
		if diff := cmp.Diff(want.Header, header); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
	}
	if second.Get(Sample)[1] != float32(3001)/7 || second.Get("none") != nil {
		t.Error("Get returns another array")
	}
	bad := sampleState()
	bad.Next = 6
	if err := f.Write(bad); err == nil {
		t.Error("step 6 of 5 was saved")
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 1 {
		t.Errorf("files %v (%v), want the state alone", entries, err)
	}
	if got, err := Read(path); err != nil || got.Next != 3 {
		t.Errorf("the failed write took the state before with it: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
}

func TestRemoveKeepsOthersFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Write(sampleState()), f.Close(), Remove(dir)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v (%v)", left, err)
	}
}

func encoded(t testing.TB, s State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDamaged: a file that is cut at any of many places, or has any of many bits
// flipped, is refused with one line.
func TestDamaged(t *testing.T) {
	small := sampleState()
	small.Arrays, small.Data = nil, nil
	small.Add(Latent, []float32{1, 2, 3})
	good := encoded(t, small)
	dir := t.TempDir()
	refused := func(what string, at int, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, stateName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || strings.Contains(err.Error(), "\n") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s at %d: %v", what, at, err)
		}
	}
	for i := range good {
		refused("cut", i, good[:i])
		flipped := bytes.Clone(good)
		flipped[i] ^= 1 << (i % 8)
		refused("bit flipped", i, flipped)
	}
	refused("one byte more", len(good), append(bytes.Clone(good), 0))
	huge := binary.LittleEndian.AppendUint64([]byte(magic), 1<<62)
	refused("header size", 0, huge)
	if err := os.WriteFile(filepath.Join(dir, stateName), good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, stateName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a folder was read")
	}
}

func TestDifferences(t *testing.T) {
	h := Header{Build: "a", Facts: map[string]string{"seed": "1", "old": "x"}}
	if got := h.Differences("a", map[string]string{"seed": "1", "old": "x"}); got != "" {
		t.Errorf("the same: %q", got)
	}
	const want = `the build is "b" and was "a"; new is "y" and was ""; old is "" and was "x"; seed is "2" and was "1"`
	if got := h.Differences("b", map[string]string{"seed": "2", "new": "y"}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	small := State{Header: Header{Next: 1, Steps: 2, Kind: "unipc"}}
	small.Add(Latent, []float32{1, 2, 3})
	f.Add(encoded(f, small))
	f.Add(encoded(f, State{Header: Header{Steps: 2}}))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decode(bytes.NewReader(data), int64(len(data)), true)
		if err != nil {
			return
		}
		again, err := decode(bytes.NewReader(encoded(t, s)), int64(len(encoded(t, s))), true)
		if err != nil || again.Next != s.Next || len(again.Data) != len(s.Data) {
			t.Errorf("what was read cannot be written and read: %v", err)
		}
	})
}
