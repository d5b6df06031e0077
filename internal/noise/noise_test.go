package noise

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseKind(t *testing.T) {
	for in, want := range map[string]string{
		"torch-cpu":            "torch-cpu",
		" Torch-CPU ":          "torch-cpu",
		"torch-cuda":           "torch-cuda:h100",
		"torch-cuda:a100":      "torch-cuda:a100",
		"torch-cuda:RTX 4090":  "torch-cuda:rtx4090",
		"torch-cuda:rtx-4090":  "torch-cuda:rtx4090",
		"torch-cuda:h100_pcie": "torch-cuda:h100pcie",
	} {
		k, err := ParseKind(in)
		if err != nil || k.String() != want {
			t.Errorf("ParseKind(%q) = %v, %v; want %s", in, k, err, want)
		}
		if again, err := ParseKind(k.String()); err != nil || again != k {
			t.Errorf("ParseKind(%q) = %v, %v; want the same again", k, again, err)
		}
	}
	for _, in := range []string{"", "torch", "cpu", "torch-cpu:h100", "torch-cuda:", "torch-cuda:h101", "torch-cuda:h100:x", "numpy"} {
		k, err := ParseKind(in)
		if err == nil {
			t.Errorf("ParseKind(%q) = %v, want an error", in, k)
			continue
		}
		for _, name := range []string{"h100", "a100", "l40s", "rtx4090", "rtx3090", "a6000", "v100", "b200"} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("ParseKind(%q): error %q does not list %s", in, err, name)
			}
		}
	}
}

func TestZeroKindIsTheDefault(t *testing.T) {
	named, err := ParseKind("torch-cuda")
	if err != nil {
		t.Fatal(err)
	}
	a, b := make([]float32, 600_000), make([]float32, 600_000)
	Fill(a, 3, Kind{})
	Fill(b, 3, named)
	if !slices.Equal(a, b) || (Kind{}).String() != named.String() {
		t.Errorf("the zero Kind, %v, differs from %v", Kind{}, named)
	}
}

func TestGPUTable(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range GPUs {
		if seen[g.Name] {
			t.Errorf("GPU %q is listed twice", g.Name)
		}
		seen[g.Name] = true
		if _, err := ParseKind("torch-cuda:" + g.Name); err != nil {
			t.Errorf("GPU %q cannot be named: %v", g.Name, err)
		}
		if g.NumSMs < 1 || g.ThreadsPerSM%threadsPerBlock != 0 || g.ThreadsPerSM < 1024 {
			t.Errorf("GPU %+v is impossible", g)
		}
	}
}

func FuzzParseKind(f *testing.F) {
	for _, s := range []string{"torch-cpu", "torch-cuda", "torch-cuda:a100", "torch-cuda:\x00", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKind(s)
		if err != nil {
			return
		}
		if again, err := ParseKind(k.String()); err != nil || again != k {
			t.Errorf("%q gives %v, which gives %v, %v", s, k, again, err)
		}
		k.New(1).Randn(make([]float32, 3))
	})
}

func BenchmarkFill(b *testing.B) {
	dst := make([]float32, 16*21*60*104) // 480p, 81 frames
	for _, name := range []string{"torch-cpu", "torch-cuda"} {
		kind, err := ParseKind(name)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%s/480p_81_frames", name), func(b *testing.B) {
			b.SetBytes(int64(4 * len(dst)))
			for b.Loop() {
				Fill(dst, 42, kind)
			}
		})
	}
}
