package memory

import (
	"os"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// TestResident compares the plan of a model with more than 1 GB of weights with the memory
// that its ranks really took, within 3 %. The process's own memory is measured with a
// model of a few MiB, run in the same way; the buffer that weights pass through on their
// way from the file is known from their shapes.
func TestResident(t *testing.T) {
	if os.Getenv("WANRUN_TEST_MEMORY") == "" {
		t.Skip("writes and loads 1.1 GB: set WANRUN_TEST_MEMORY=1 (make test-memory)")
	}
	tiny := write(t, small(t, "t2v-1.3B"), tensor.F32)
	s := small(t, "t2v-1.3B")
	s.DiT.Dim, s.DiT.FFNDim, s.DiT.NumHeads, s.DiT.NumLayers = 1536, 8960, 12, 6
	big := write(t, s, tensor.F32)
	for _, args := range []string{
		"--size 64*64",
		"--size 64*64 --dtype bf16",
		"--size 64*64 --offload dit=host --nproc 1",
		"--size 64*64 --nproc 2 --ulysses 2 --dit-fsdp",
		"--size 64*64 --nproc 2 --ulysses 2 --dit-fsdp --offload dit=host",
	} {
		t.Run(args, func(t *testing.T) {
			base, run := generate(t, tiny, strings.Fields(args)...), generate(t, big, strings.Fields(args)...)
			if base.code != 0 || run.code != 0 || len(run.peaks) != len(run.report.Ranks) || len(base.peaks) != len(run.peaks) {
				t.Fatalf("exit codes %d and %d; ranks seen %v, %v\n%s%s", base.code, run.code, base.peaks, run.peaks, base.said, run.said)
			}
			for rank, k := range run.report.Ranks {
				own := base.peaks[rank] - base.report.Ranks[rank].Bytes.Used - base.report.Ranks[rank].Bytes.HostUsed
				planned := k.Bytes.Predicted + k.Bytes.HostPredicted + own + staging(s, strings.Contains(args, "fsdp"))
				measured := run.peaks[rank]
				off := float64(measured-planned) / float64(planned)
				t.Logf("rank %d: planned %.1f MiB (of which %.1f the process), measured %.1f, %+.2f %%", rank, mib(planned), mib(own), mib(measured), 100*off)
				if off < -0.03 || off > 0.03 {
					t.Errorf("rank %d: %d bytes measured, %d planned: %+.2f %%, want within 3 %%", rank, measured, planned, 100*off)
				}
			}
		})
	}
}

// staging returns the bytes of that buffer: the largest of the DiT's weights that the
// backend packs, of which shards need 16 MiB at most. The largest are those of the FFN
// and, in F32 whatever the compute type, the projection of the timestep.
func staging(s checkpoint.Spec, shards bool) int64 {
	largest := int64(s.DiT.Dim) * int64(max(6*s.DiT.Dim, s.DiT.FFNDim)) * tensor.F32.Size()
	if shards {
		return min(largest, 16<<20)
	}
	return largest
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
