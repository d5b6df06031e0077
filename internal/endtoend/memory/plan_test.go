package memory

import (
	"maps"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// TestPlannedIsUsed runs tasks, sizes, types, ranks, places of rest and shardings, and
// compares what each phase of each rank used with its plan, byte for byte.
func TestPlannedIsUsed(t *testing.T) {
	picture := []string{"--image", repo(t, "examples/in.jpg")}
	pictures := []string{"--first-frame", repo(t, "examples/in.jpg"), "--last-frame", repo(t, "examples/demo-model/inputs/red_ball.png")}
	for task, inputs := range map[string][]string{"t2v-1.3B": nil, "i2v-14B": picture, "flf2v-14B": pictures} {
		ckpt := write(t, small(t, task), tensor.BF16)
		for _, args := range []string{
			"--size 64*64",
			"--size 128*96 --frames 9 --dtype bf16",
			"--size 96*64 --frames 1 --dtype fp16 --cfg-batch False",
			"--size 64*64 --nproc 1 --offload dit=host",
			"--size 64*64 --nproc 1 --offload dit=file --dtype bf16",
			"--size 96*96 --nproc 2 --ulysses 2 --dit-fsdp --t5-fsdp",
			"--size 64*64 --nproc 2 --cfg-parallel 2 --offload dit=host",
			"--size 64*96 --nproc 3 --ulysses 3 --frames 13 --offload dit=file",
			"--size 64*64 --nproc 4 --ring 2 --ulysses 2 --dit-fsdp --fsdp-size 2 --offload dit=host --dtype bf16",
			"--size 80*48 --nproc 4 --cfg-parallel 2 --ulysses 2 --t5-fsdp --cfg-batch True",
		} {
			t.Run(task+" "+args, func(t *testing.T) {
				r := generate(t, ckpt, append(strings.Fields(args), inputs...)...)
				if r.code != 0 {
					t.Fatalf("exit code %d:\n%s", r.code, r.said)
				}
				compared := 0
				for rank, k := range r.report.Ranks {
					if k.Bytes.Used == 0 || k.Bytes.Used != k.Bytes.Predicted || k.Bytes.HostUsed != k.Bytes.HostPredicted {
						t.Errorf("rank %d: %+v", rank, k.Bytes)
					}
					for _, p := range k.Phases {
						if !maps.Equal(p.Used, p.Predicted) || p.HostUsed != p.HostPredicted {
							t.Errorf("rank %d, %s: used %v and %d of host memory, planned %v and %d", rank, p.Name, p.Used, p.HostUsed, p.Predicted, p.HostPredicted)
						}
						if len(p.Used) > 0 {
							compared++
						}
					}
				}
				if compared < 3*len(r.report.Ranks) {
					t.Errorf("only %d phases had anything to compare", compared)
				}
				for _, n := range r.report.Notices {
					if strings.Contains(n, "please report") {
						t.Error(n)
					}
				}
			})
		}
	}
}
