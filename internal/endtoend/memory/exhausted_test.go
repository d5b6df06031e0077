package memory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// TestExhausted makes each phase in turn the one that needs the most, lets the ranks
// have less than that, and sees the run end there: with the code of host memory, the
// phase's name and a word on what to change.
func TestExhausted(t *testing.T) {
	for _, tc := range []struct {
		phase string
		task  string
		grow  func(*checkpoint.Spec)
	}{
		{"text_encode", "t2v-1.3B", func(s *checkpoint.Spec) { s.T5.FFNDim = 1 << 16 }},
		{"image_encode", "i2v-14B", func(s *checkpoint.Spec) { s.CLIP.Dim, s.CLIP.MLPDim = 1024, 4096 }},
		{"vae_encode", "i2v-14B", nil},
		{"denoise", "t2v-1.3B", func(s *checkpoint.Spec) { s.DiT.FFNDim = 1 << 15 }},
		{"vae_decode", "t2v-1.3B", func(s *checkpoint.Spec) { s.VAE.Dim = 32 }},
	} {
		for _, ranks := range []string{"1", "2"} {
			t.Run(tc.phase+" on "+ranks, func(t *testing.T) {
				s := small(t, tc.task)
				if tc.grow != nil {
					tc.grow(&s)
				}
				args := []string{"--size", "64*64", "--nproc", ranks}
				if tc.task == "i2v-14B" {
					args = append(args, "--image", repo(t, "examples/in.jpg"))
				}
				ckpt := write(t, s, tensor.F32)
				whole := generate(t, ckpt, args...)
				limit := between(t, whole, tc.phase)
				r := generate(t, ckpt, append(args, "--no-refuse", "--mem-limit", fmt.Sprint(limit))...)
				if r.code != 77 || r.report.Exit.Phase != tc.phase {
					t.Fatalf("exit code %d in %q, want 77 in %q, of a limit of %d bytes\n%s", r.code, r.report.Exit.Phase, tc.phase, limit, r.said)
				}
				if !strings.Contains(r.said, tc.phase) || !strings.Contains(r.said, "mem") {
					t.Errorf("neither phase nor cause:\n%s", r.said)
				}
				if tc.phase == "vae_decode" && !strings.Contains(r.said, "wanrun decode ") {
					t.Errorf("nothing on how to decode what was computed:\n%s", r.said)
				}
			})
		}
	}
}

// between returns a limit that the phase exceeds and those before it do not.
func between(t *testing.T, r ran, phase string) int64 {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("exit code %d without a limit:\n%s", r.code, r.said)
	}
	before, here := int64(0), int64(0)
	for _, k := range r.report.Ranks {
		for _, p := range k.Phases {
			sum := int64(0)
			for _, n := range p.Used {
				sum += n
			}
			if p.Name == phase {
				here = max(here, sum)
				break
			}
			before = max(before, sum)
		}
	}
	if here <= before+before/8 {
		t.Fatalf("%s needs %d bytes and a phase before it %d: no limit is between them", phase, here, before)
	}
	return (before + here) / 2
}
