package endtoend

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
)

// TestRanksEqualOne runs the launcher with real worker processes in every kind of
// plan and compares all that was computed with one rank's, byte for byte; a ring
// adds in another order, and its frames may differ by one level.
func TestRanksEqualOne(t *testing.T) {
	dir := t.TempDir()
	make := func(t *testing.T, name string, args ...string) []byte {
		t.Helper()
		got := wanrun(t, dir, append([]string{"--image", repo(t, "examples/in.jpg"), "--prompt", "the red ball moves right", "--seed", "42",
			"--frames", "5", "--steps", "3", "-o", name + ".mp4", "--dump", name + ".safetensors"}, args...)...)
		if got.code != 0 {
			t.Fatalf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
		}
		data, err := os.ReadFile(filepath.Join(dir, name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	one := make(t, "one")
	for name, args := range map[string][]string{
		"ulysses alone":     {"--ulysses", "8"},
		"nproc alone":       {"--nproc", "4"},
		"official flags":    {"--nproc_per_node", "8", "--ulysses_size", "8", "--dit_fsdp", "--t5_fsdp", "--t5_cpu", "--offload_model", "True"},
		"guidance halves":   {"--nproc", "2", "--cfg-parallel", "2"},
		"all axes, sharded": {"--nproc", "8", "--cfg-parallel", "2", "--ulysses", "4", "--dit-fsdp", "--offload", "dit=file"},
		"branches apart":    {"--nproc", "2", "--dit-fsdp", "--cfg-batch", "False"},
		"uneven heads":      {"--nproc", "3", "--ulysses", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			if !bytes.Equal(make(t, strings.ReplaceAll(name, " ", "_"), args...), one) {
				t.Error("another result than one rank's")
			}
		})
	}
	t.Run("ring", func(t *testing.T) {
		make(t, "ring", "--nproc", "4", "--ring", "2", "--ulysses", "2")
		want, got := golden.Load(t, filepath.Join(dir, "one.safetensors")), golden.Load(t, filepath.Join(dir, "ring.safetensors"))
		golden.Compare(t, "final_latent", got["final_latent"].F32, want["final_latent"].F32, 5e-4)
		for i, b := range got["video_uint8_FHWC"].U8 {
			if d := int(b) - int(want["video_uint8_FHWC"].U8[i]); d < -1 || d > 1 {
				t.Fatalf("frame byte %d is %d, want %d", i, b, want["video_uint8_FHWC"].U8[i])
			}
		}
	})
}
