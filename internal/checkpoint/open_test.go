package checkpoint_test

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/pkg/tensor"
)

const (
	i2vDir   = "../../testdata/ckpt_i2v"
	t2vDir   = "../../testdata/ckpt_t2v"
	flf2vDir = "../../testdata/ckpt_flf2v"
	quickDir = "../../testdata/ckpt_t2v_quick"
	demoDir  = "../../examples/demo-model/checkpoint"
)

func openDir(t *testing.T, dir string) *checkpoint.Checkpoint {
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

// TestOpenOfficialLayout reads every tensor of the test checkpoints, mapped and
// from a file system, and compares the transformer's with another reader.
func TestOpenOfficialLayout(t *testing.T) {
	for _, tc := range []struct {
		dir                string
		dit, t5, vae, clip int // tensors
	}{
		{i2vDir, 119, 32, 194, 68}, {t2vDir, 96, 22, 194, 0}, {flf2vDir, 88, 32, 194, 56}, {quickDir, 69, 22, 194, 0}, {demoDir, 151, 22, 194, 68},
	} {
		t.Run(filepath.Base(tc.dir), func(t *testing.T) {
			c := openDir(t, tc.dir)
			embedded, err := checkpoint.OpenFS("embedded", os.DirFS(tc.dir))
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, c.T5, embedded.T5, tc.t5)
			readAll(t, c.VAE, embedded.VAE, tc.vae)
			if tc.clip > 0 {
				readAll(t, c.CLIP, embedded.CLIP, tc.clip)
			} else if _, err := c.CLIP(); !errors.Is(err, checkpoint.ErrCheckpoint) {
				t.Errorf("image encoder of a t2v model: %v", err)
			}
			readAll(t, c.DiT, embedded.DiT, tc.dit)
			checkAgainstGolden(t, c, tc.dir)
			tok, err := c.Tokenizer()
			if err != nil {
				t.Fatal(err)
			}
			if b, err := fs.ReadFile(tok, "tokenizer.json"); err != nil || len(b) == 0 {
				t.Errorf("tokenizer.json: %d bytes, %v", len(b), err)
			}
		})
	}
}

// readAll opens one model in two ways and compares all values.
func readAll(t *testing.T, mapped, read func() (checkpoint.Source, error), count int) {
	t.Helper()
	a, err := mapped()
	if err != nil {
		t.Fatal(err)
	}
	b, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Names()) != count || len(b.Names()) != count {
		t.Errorf("%d and %d tensors, want %d", len(a.Names()), len(b.Names()), count)
	}
	for _, name := range a.Names() {
		x, y := values(t, a, name), values(t, b, name)
		for i, v := range x {
			if v != y[i] || math.IsNaN(float64(v)) {
				t.Fatalf("%s: element %d is %g mapped and %g read", name, i, v, y[i])
			}
		}
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Error(err)
	}
	if _, ok := a.Lookup("patch_embedding.weight"); ok || len(a.Names()) != 0 {
		t.Error("a closed source still has tensors")
	}
}

func values(t *testing.T, src checkpoint.Source, name string) []float32 {
	t.Helper()
	e, ok := src.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	dst := make([]float32, e.NumElements())
	if err := checkpoint.Read(tensor.FloatBytes(dst), tensor.F32, e); err != nil {
		t.Fatal(err)
	}
	return dst
}

func checkAgainstGolden(t *testing.T, c *checkpoint.Checkpoint, dir string) {
	t.Helper()
	src, err := c.DiT()
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	shards, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(shards) == 0 {
		t.Fatalf("no shards in %s: %v", dir, err)
	}
	for _, path := range shards {
		for name, want := range golden.Load(t, path) {
			got := values(t, src, name)
			if len(got) != len(want.F32) {
				t.Fatalf("%s: %d elements, want %d", name, len(got), len(want.F32))
			}
			for i, v := range got {
				if v != want.F32[i] {
					t.Fatalf("%s: element %d is %g, want %g", name, i, v, want.F32[i])
				}
			}
		}
	}
}

// copyOf copies dir, for changing it.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantError checks that err is one of the checkpoint and names everything in want.
func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, checkpoint.ErrCheckpoint) {
		t.Fatalf("got %v, want ErrCheckpoint", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

func TestOpenWrongFolder(t *testing.T) {
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	add := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { write(t, dir, name, "x") }
	}
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   []string
	}{
		{"no config", remove("config.json"), []string{"there is no config.json"}},
		{"no weights", remove("diffusion_pytorch_model.safetensors"), []string{"diffusion_pytorch_model.safetensors"}},
		{"several files gone", remove("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google"),
			[]string{"Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl"}},
		{"Wan2.2 A14B", add("high_noise_model/config.json"), []string{"Wan2.2 A14B"}},
		{"Wan2.2", add("Wan2.2_VAE.pth"), []string{"Wan2.2"}},
		{"diffusers", add("model_index.json"), []string{"diffusers layout", "-Diffusers"}},
		{"LoRA", add("adapter_config.json"), []string{"LoRA"}},
		{"another LoRA", add("pytorch_lora_weights.safetensors"), []string{"LoRA"}},
		{"config is not JSON", add("config.json"), []string{"config.json"}},
		{"spec is not JSON", add("model_spec.json"), []string{"model_spec.json"}},
		{"config too large", func(t *testing.T, dir string) { write(t, dir, "config.json", strings.Repeat(" ", 2<<20)) }, []string{"more than 1048576 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := copyOf(t, quickDir)
			tc.change(t, dir)
			c, err := checkpoint.OpenDir(dir)
			if err == nil {
				t.Fatalf("opened: %+v", c.Spec)
			}
			wantError(t, err, append(tc.want, dir)...)
		})
	}
	_, err := checkpoint.OpenDir(filepath.Join(t.TempDir(), "none"))
	wantError(t, err, "none")
	_, err = checkpoint.OpenDir(filepath.Join(quickDir, "config.json"))
	wantError(t, err, "not a directory")
}

func TestOpenDamagedModels(t *testing.T) {
	dir := copyOf(t, quickDir)
	for _, name := range []string{"diffusion_pytorch_model.safetensors", "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, name), info.Size()-1); err != nil {
			t.Fatal(err)
		}
	}
	c := openDir(t, dir)
	for name, open := range map[string]func() (checkpoint.Source, error){
		"diffusion_pytorch_model.safetensors": c.DiT, "Wan2.1_VAE.pth": c.VAE, "models_t5_umt5-xxl-enc-bf16.pth": c.T5,
	} {
		src, err := open()
		wantError(t, err, name, "is the download complete?")
		if src != nil {
			t.Errorf("%s: a source beside the error", name)
		}
	}
}

func TestCheckTask(t *testing.T) {
	for _, tc := range []struct {
		dir, task string
		want      string
	}{
		{i2vDir, "i2v-14B", ""},
		{t2vDir, "t2v-14B", ""},
		{t2vDir, "t2v-1.3B", ""},
		{t2vDir, "t2i-14B", ""},
		{flf2vDir, "flf2v-14B", ""},
		{demoDir, "i2v-14B", ""},
		{t2vDir, "i2v-14B", "this is a t2v checkpoint, you asked for i2v-14B"},
		{i2vDir, "t2v-14B", "this is an i2v checkpoint, you asked for t2v-14B"},
		{i2vDir, "flf2v-14B", "this is an i2v checkpoint, you asked for flf2v-14B"},
		{flf2vDir, "i2v-14B", "this is a flf2v checkpoint, you asked for i2v-14B"},
		{i2vDir, "t2i-14B", "this is an i2v checkpoint, you asked for t2i-14B"},
	} {
		err := openDir(t, tc.dir).CheckTask(tc.task)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s for %s: %v", tc.dir, tc.task, err)
			}
			continue
		}
		wantError(t, err, tc.want, tc.dir)
	}
}
