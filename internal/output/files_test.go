package output

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func openFiles(t *testing.T, config FilesConfig) *Files {
	t.Helper()
	config.Now = func() time.Time { return noon }
	if config.Job == "" {
		config.Job = "wan-17"
	}
	f, err := OpenFiles(config)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// tree lists the files below a folder with what is in them.
func tree(t *testing.T, folder string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(folder), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(folder, p))
		all[p] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func writeStream(t *testing.T, f *Files, attempt, rank int, stream, text string) {
	t.Helper()
	w, err := f.Stream(attempt, rank, stream)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFiles writes the logs of 12 ranks: each is found by its number, has exactly its own
// bytes, and is in the index.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	f := openFiles(t, FilesConfig{Dir: filepath.Join(dir, "not", "there"), World: 12})
	var wg sync.WaitGroup
	for rank := range 12 {
		wg.Go(func() {
			writeStream(t, f, 0, rank, Stdout, fmt.Sprintf("out \xff %d\r\n", rank))
			writeStream(t, f, 0, rank, Stderr, fmt.Sprintf("err %d", rank))
			f.Rank(IndexRank{Rank: rank, Local: rank, Host: "gpu-01", Pid: 1000 + rank, Started: &noon})
		})
	}
	wg.Wait()
	if err := f.WriteIndex(); err != nil {
		t.Fatal(err)
	}
	ended := noon.Add(time.Minute)
	f.Rank(IndexRank{Rank: 11, Local: 11, Host: "gpu-01", Pid: 1011, Started: &noon, Ended: &ended, Signal: 9})
	fmt.Fprintln(f.Log(), "bye")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := tree(t, f.Folder())
	want := map[string]string{"launcher.log": "bye\n", "index.json": got["index.json"]}
	for rank := range 12 {
		want[fmt.Sprintf("attempt_0/rank_%03d.out", rank)] = fmt.Sprintf("out \xff %d\r\n", rank)
		want[fmt.Sprintf("attempt_0/rank_%03d.err", rank)] = fmt.Sprintf("err %d", rank)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	index, err := ReadIndex(strings.NewReader(got["index.json"]))
	if err != nil {
		t.Fatal(err)
	}
	if len(index.Ranks) != 12 || index.Job != "wan-17" || index.World != 12 || index.Ended == nil {
		t.Errorf("index is %+v", index)
	}
	for _, r := range index.Ranks {
		want := IndexRank{Rank: r.Rank, Local: r.Rank, Host: "gpu-01", Pid: 1000 + r.Rank, Started: &noon,
			Out: fmt.Sprintf("attempt_0/rank_%03d.out", r.Rank), Err: fmt.Sprintf("attempt_0/rank_%03d.err", r.Rank),
			OutFile: &IndexFile{Bytes: int64(len(got[r.Out]))}, ErrFile: &IndexFile{Bytes: int64(len(got[r.Err]))}}
		if r.Rank == 11 {
			want.Ended, want.Signal = &ended, 9
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("rank %d (-want +got):\n%s", r.Rank, diff)
		}
	}
}

// TestFilesShared has two nodes with one log folder, and then the same job again: nobody's
// file is overwritten.
func TestFilesShared(t *testing.T) {
	dir := t.TempDir()
	for run := range 3 {
		for node := range 2 {
			f := openFiles(t, FilesConfig{Dir: dir, World: 2000, Node: node})
			writeStream(t, f, 1, 1998+node, Stderr, fmt.Sprintf("run %d node %d", run, node))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := tree(t, filepath.Join(dir, "wan-17"))
	for name := range got {
		if strings.Contains(name, ".log") || strings.Contains(name, "index") {
			delete(got, name)
			if !strings.Contains("launcher.log launcher.log.old-1 launcher.log.old-2 node_001.log node_001.log.old-1 node_001.log.old-2 index.json index_node_001.json", name) {
				t.Errorf("unexpected %s", name)
			}
		}
	}
	want := map[string]string{
		"attempt_1/rank_1998.err": "run 2 node 0", "attempt_1/rank_1998.err.old-1": "run 0 node 0", "attempt_1/rank_1998.err.old-2": "run 1 node 0",
		"attempt_1/rank_1999.err": "run 2 node 1", "attempt_1/rank_1999.err.old-1": "run 0 node 1", "attempt_1/rank_1999.err.old-2": "run 1 node 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRotation writes lines in pieces of all sizes: the last bytes remain, no more than
// the bound, in order, and cut between lines.
func TestRotation(t *testing.T) {
	const bound = 8 << 10
	random := rand.New(rand.NewPCG(1, 2))
	for _, longest := range []int{10, 300, 5000, 30000} {
		f := openFiles(t, FilesConfig{Dir: t.TempDir(), World: 1, Max: bound})
		w, err := f.Stream(0, 0, Stdout)
		if err != nil {
			t.Fatal(err)
		}
		var all bytes.Buffer
		for all.Len() < 20*bound {
			fmt.Fprintf(&all, "%d%s\n", all.Len(), strings.Repeat("x", random.IntN(longest)))
		}
		for in := all.Bytes(); len(in) > 0; {
			n := min(len(in), 1+random.IntN(2*bound))
			if got, err := w.Write(in[:n]); got != n || err != nil {
				t.Fatalf("Write of %d bytes: %d, %v", n, got, err)
			}
			in = in[n:]
		}
		f.Rank(IndexRank{})
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		got := tree(t, f.Folder())
		before, now := got["attempt_0/rank_000.out.1"], got["attempt_0/rank_000.out"]
		kept := before + now
		if !strings.HasSuffix(all.String(), kept) || len(kept) > bound {
			t.Errorf("longest %d: %d bytes are kept, want the last ones, at most %d", longest, len(kept), bound)
		}
		if longest <= 300 && (len(kept) < bound/2-longest || !strings.HasSuffix(before, "\n")) {
			t.Errorf("longest %d: %d bytes are kept, want at least %d, cut between lines", longest, len(kept), bound/2)
		}
		index, err := ReadIndex(strings.NewReader(got["index.json"]))
		if err != nil {
			t.Fatal(err)
		}
		want := &IndexFile{Bytes: int64(len(kept)), Before: "attempt_0/rank_000.out.1", Rotated: int64(all.Len() - len(kept))}
		if diff := cmp.Diff(want, index.Ranks[0].OutFile); diff != "" {
			t.Errorf("longest %d: index (-want +got):\n%s", longest, diff)
		}
	}
}

// TestFilesTrouble takes the folder away under a rank: the writer goes on, trouble is told
// once, and the index counts what is missing.
func TestFilesTrouble(t *testing.T) {
	var told []error
	f := openFiles(t, FilesConfig{Dir: t.TempDir(), World: 1, Max: minLogMax, Trouble: func(err error) { told = append(told, err) }})
	w, err := f.Stream(0, 0, Stderr)
	if err != nil {
		t.Fatal(err)
	}
	f.Rank(IndexRank{})
	if err := os.RemoveAll(filepath.Join(f.Folder(), "attempt_0")); err != nil {
		t.Fatal(err)
	}
	block := []byte(strings.Repeat("x", 1000) + "\n")
	for range 10 {
		if n, err := w.Write(block); n != len(block) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || !errors.Is(told[0], fs.ErrNotExist) || !strings.Contains(told[0].Error(), "rank_000.err") {
		t.Errorf("trouble told: %v, want one that names the file", told)
	}
	index, err := ReadIndex(strings.NewReader(tree(t, f.Folder())["index.json"]))
	if err != nil {
		t.Fatal(err)
	}
	if got := index.Ranks[0].ErrFile; got.Failed < 7000 || got.Error == "" {
		t.Errorf("index says %+v, want at least 7000 bytes that could not be written", got)
	}
}

func TestOpenFilesErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		config FilesConfig
		want   string
	}{
		"leads out":      {FilesConfig{Dir: dir, Job: "../x"}, "cannot be a folder's"},
		"parent":         {FilesConfig{Dir: dir, Job: ".."}, "cannot be a folder's"},
		"slash":          {FilesConfig{Dir: dir, Job: "a/b"}, "cannot be a folder's"},
		"empty":          {FilesConfig{Dir: dir, Job: ""}, "cannot be a folder's"},
		"control":        {FilesConfig{Dir: dir, Job: "a\nb"}, "cannot be a folder's"},
		"folder is file": {FilesConfig{Dir: file, Job: "a"}, "not a directory"},
		"small":          {FilesConfig{Dir: dir, Job: "a", Max: 100}, "want at least 4096"},
		"negative":       {FilesConfig{Dir: dir, Job: "a", Max: -1}, "want at least 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.config.World, tc.config.Now = 1, func() time.Time { return noon }
			if _, err := OpenFiles(tc.config); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

// TestFilesNoLink sees that a link in the folder leads nobody's output out of it.
func TestFilesNoLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	f := openFiles(t, FilesConfig{Dir: dir, World: 1})
	if err := os.Symlink(outside, filepath.Join(f.Folder(), "attempt_0")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stream(0, 0, Stdout); err == nil {
		t.Error("a stream is written through a link that leads out")
	}
	if _, err := f.Stream(0, 1, Stdout); err == nil {
		t.Error("a stream of rank 1 of 1 is written")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got := tree(t, outside); len(got) != 0 {
		t.Errorf("outside there is %v", got)
	}
}

// FuzzReadIndex gives any index: those that are taken name no file outside the folder.
func FuzzReadIndex(f *testing.F) {
	f.Add([]byte(`{"schema":1,"world":2,"ranks":[{"rank":1,"out":"a/b","err":"c","out_file":{"before":"d"}}]}`))
	f.Add([]byte(`{"schema":1,"world":1,"ranks":[{"out":"../b","err":"/c"}]}`))
	f.Add([]byte(`{"schema":2}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		index, err := ReadIndex(bytes.NewReader(in))
		if err != nil {
			return
		}
		for _, r := range index.Ranks {
			if !filepath.IsLocal(r.Out) || !filepath.IsLocal(r.Err) || r.Rank >= index.World {
				t.Errorf("taken: %+v", r)
			}
		}
	})
}
