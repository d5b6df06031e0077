package synthetic

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/tokenizer"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// shapes lists the tensors of one model of a checkpoint.
func shapes(t *testing.T, open func() (checkpoint.Source, error)) map[string]string {
	t.Helper()
	src, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	all := map[string]string{}
	for _, name := range src.Names() {
		e, _ := src.Lookup(name)
		all[name] = fmt.Sprint(e.Shape, e.Strides)
	}
	return all
}

func open(t *testing.T, dir string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestSameAsOriginal writes what the official code's own tiny checkpoints are, and
// compares every name and shape with them.
func TestSameAsOriginal(t *testing.T) {
	for _, name := range []string{"t2v", "i2v", "flf2v"} {
		t.Run(name, func(t *testing.T) {
			original := open(t, "../../testdata/ckpt_"+name)
			dir := filepath.Join(t.TempDir(), "new")
			if err := Write(t.Context(), dir, Options{Spec: original.Spec, DType: tensor.BF16, Shard: 300_000, Seed: 1}); err != nil {
				t.Fatal(err)
			}
			written := open(t, dir)
			if d := cmp.Diff(original.Spec, written.Spec); d != "" {
				t.Errorf("hyper-parameters (-original +written)\n%s", d)
			}
			for what, pair := range map[string][2]func() (checkpoint.Source, error){
				"DiT": {original.DiT, written.DiT}, "T5": {original.T5, written.T5}, "VAE": {original.VAE, written.VAE}} {
				if d := cmp.Diff(shapes(t, pair[0]), shapes(t, pair[1])); d != "" {
					t.Errorf("%s (-original +written)\n%s", what, d)
				}
			}
			if name != "t2v" { // the original has a text tower, too
				want := shapes(t, original.CLIP)
				for name, shape := range shapes(t, written.CLIP) {
					if want[name] != shape {
						t.Errorf("CLIP: %s is %s, the original's %s", name, shape, want[name])
					}
				}
			}
			compareKeys(t, filepath.Join(dir, "config.json"), "../../testdata/ckpt_"+name+"/config.json")
			shards, err := filepath.Glob(filepath.Join(dir, "*-of-*.safetensors"))
			if err != nil || len(shards) < 2 {
				t.Errorf("shards %v (%v)", shards, err)
			}
			for _, s := range shards {
				if info, err := os.Stat(s); err != nil || info.Size() > 320_000 {
					t.Errorf("shard %s has %d bytes (%v)", s, info.Size(), err)
				}
			}
			files, err := written.Tokenizer()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tokenizer.Open(files); err != nil {
				t.Error(err)
			}
		})
	}
}

func compareKeys(t *testing.T, got, want string) {
	t.Helper()
	keys := func(path string) []string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(m))
	}
	if d := cmp.Diff(keys(want), keys(got)); d != "" {
		t.Errorf("keys of config.json (-original +written)\n%s", d)
	}
}

// small returns a model of a few MiB of random weights.
func small(t *testing.T) Options {
	t.Helper()
	spec, err := Official("t2v-1.3B")
	if err != nil {
		t.Fatal(err)
	}
	spec.DiT.Dim, spec.DiT.FFNDim, spec.DiT.NumHeads, spec.DiT.NumLayers = 256, 512, 4, 2
	spec.T5.Dim, spec.T5.AttnDim, spec.T5.FFNDim, spec.T5.NumHeads, spec.T5.NumLayers, spec.T5.VocabSize = 128, 128, 256, 4, 1, 8192
	spec.VAE.Dim = 8
	return Options{Spec: Fit(spec), DType: tensor.F32, Seed: 7}
}

// read returns all files below dir.
func read(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"*", "google/umt5-xxl/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if info, err := os.Stat(p); err != nil || info.IsDir() {
				continue
			}
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			all[p[len(dir):]] = data
		}
	}
	return all
}

// TestSeed: a seed gives the same bytes, another one others.
func TestSeed(t *testing.T) {
	dirs := []string{}
	for _, seed := range []uint64{1, 1, 2} {
		o := small(t)
		o.Seed = seed
		dir := filepath.Join(t.TempDir(), "c")
		written := int64(0)
		o.Progress = func(n int64) { written += n }
		if err := Write(t.Context(), dir, o); err != nil {
			t.Fatal(err)
		}
		if n := o.Bytes(); written < n || written > n+n/20 {
			t.Errorf("wrote %d bytes for %d of weights", written, n)
		}
		dirs = append(dirs, dir)
	}
	a, b, c := read(t, dirs[0]), read(t, dirs[1]), read(t, dirs[2])
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			t.Errorf("%s differs with the same seed", name)
		}
		random := filepath.Ext(name) == ".pth" || filepath.Ext(name) == ".safetensors"
		if random == bytes.Equal(a[name], c[name]) {
			t.Errorf("%s: equal with another seed: %v", name, !random)
		}
	}
}

// TestValues: matrices have the deviation that keeps activations as they are, norms are
// ones, biases zeros, in every type.
func TestValues(t *testing.T) {
	for _, dt := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		o := small(t)
		o.DType = dt
		dir := filepath.Join(t.TempDir(), "c")
		if err := Write(t.Context(), dir, o); err != nil {
			t.Fatal(err)
		}
		src, err := open(t, dir).DiT()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct{ middle, deviation float64 }{
			"blocks.0.ffn.0.weight": {0, 1.0 / 16}, "blocks.1.ffn.2.weight": {0, 1 / math.Sqrt(512)}, "blocks.0.norm3.weight": {1, 0},
			"blocks.0.self_attn.q.bias": {0, 0}, "blocks.1.modulation": {0, 1.0 / 16}, "patch_embedding.weight": {0, 1.0 / 8},
		} {
			e, ok := src.Lookup(name)
			if !ok || e.DType != dt {
				t.Fatalf("%s: %v of type %v", name, ok, e.DType)
			}
			data := make([]byte, 4*e.NumElements())
			if err := checkpoint.Read(data, tensor.F32, e); err != nil {
				t.Fatal(err)
			}
			sum, squares, n := 0.0, 0.0, float64(e.NumElements())
			for i := 0; i < len(data); i += 4 {
				v := float64(math.Float32frombits(uint32(data[i]) | uint32(data[i+1])<<8 | uint32(data[i+2])<<16 | uint32(data[i+3])<<24))
				sum, squares = sum+v, squares+v*v
			}
			middle := sum / n
			deviation := math.Sqrt(max(0, squares/n-middle*middle))
			if math.Abs(middle-want.middle) > 0.1*want.deviation || math.Abs(deviation-want.deviation) > 0.05*want.deviation {
				t.Errorf("%s as %v: mean %g and deviation %g, want %g and %g", name, dt, middle, deviation, want.middle, want.deviation)
			}
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTorchAlignment: the data of storages begin where torch.save begins them, and
// every checksum is right.
func TestTorchAlignment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	if err := Write(t.Context(), dir, small(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{t5File, vaeFile} {
		r, err := zip.OpenReader(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			if at, err := f.DataOffset(); err != nil || at%alignment != 0 || f.Method != zip.Store {
				t.Errorf("%s: %s begins at %d by method %d (%v)", name, f.Name, at, f.Method, err)
			}
			data, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bytes.NewBuffer(nil).ReadFrom(data); err != nil { // compares the checksum
				t.Errorf("%s: %s: %v", name, f.Name, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSparse: a sparse folder has the sizes of a whole one, little of it on disk, and
// is read as a checkpoint.
func TestSparse(t *testing.T) {
	whole, sparse := small(t), small(t)
	sparse.Sparse = true
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	if err := errors.Join(Write(t.Context(), a, whole), Write(t.Context(), b, sparse)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ditStem + ".safetensors", t5File} {
		var w, s syscall.Stat_t
		if err := errors.Join(syscall.Stat(filepath.Join(a, name), &w), syscall.Stat(filepath.Join(b, name), &s)); err != nil {
			t.Fatal(err)
		}
		if w.Size != s.Size || s.Blocks*512 > w.Size/3 {
			t.Errorf("%s: %d bytes with %d on disk, whole %d", name, s.Size, s.Blocks*512, w.Size)
		}
	}
	c := open(t, b)
	for _, source := range []func() (checkpoint.Source, error){c.DiT, c.T5, c.VAE} {
		if len(shapes(t, source)) == 0 {
			t.Error("no tensors")
		}
	}
}

// TestRefused: what cannot be written is said before anything is, and what was begun
// leaves no file that looks whole.
func TestRefused(t *testing.T) {
	bad := small(t)
	bad.Spec.DiT.NumHeads = 7
	wrongType := small(t)
	wrongType.DType = tensor.I64
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		dir string
		o   Options
	}{"heads": {filepath.Join(t.TempDir(), "c"), bad}, "type": {filepath.Join(t.TempDir(), "c"), wrongType}, "not empty": {full, small(t)}} {
		if err := Write(t.Context(), tc.dir, tc.o); err == nil {
			t.Errorf("%s: written", name)
		}
		if files, err := filepath.Glob(filepath.Join(tc.dir, "*.*")); err != nil || len(files) > 0 {
			t.Errorf("%s: left %v (%v)", name, files, err)
		}
	}
	if _, err := Official("t2v-5B"); err == nil {
		t.Error("t2v-5B is known")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	o := small(t)
	o.Progress = func(int64) { cancel(stopped) }
	dir := filepath.Join(t.TempDir(), "c")
	if err := Write(ctx, dir, o); !errors.Is(err, stopped) {
		t.Errorf("%v, want %v", err, stopped)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left %v (%v)", files, err)
	}
}

// TestOfficialSizes compares with the official files: 5,676,070,424 and 11,361,920,418
// bytes of the DiT and T5 of t2v-1.3B, of which the headers are small.
func TestOfficialSizes(t *testing.T) {
	spec, err := Official("t2v-1.3B")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models(spec, tensor.F32)[:2] {
		want := map[string]int64{ditStem: 5_676_070_424, t5File: 11_361_920_418}[m.name]
		got := int64(0)
		for _, w := range m.weights() {
			got += w.bytes()
		}
		if got > want || want-got > 300_000 {
			t.Errorf("%s: %d bytes of weights, the official file has %d", m.name, got, want)
		}
	}
}
