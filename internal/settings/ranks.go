package settings

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/ends"
)

// maxThreads bounds --threads.
const maxThreads = 1024

// ranks settles how many ranks there are and what they run on.
func (r *resolver) ranks() {
	r.s.Nproc = r.number("nproc", 1, "default", atLeastOne)
	ulysses := r.number("ulysses", 1, "default", atLeastOne)
	ring := r.number("ring", 1, "default", atLeastOne)
	ditFSDP, t5FSDP, t5CPU := r.truth("dit-fsdp", false), r.truth("t5-fsdp", false), r.truth("t5-cpu", false)
	offload := r.truth("offload-model", true) // the official default for one rank
	device := r.choice("device", "auto", "default")
	dtype := r.choice("dtype", "auto", "default")
	r.s.ScanWeights = r.truth("scan-weights", false)
	r.s.Threads = r.number("threads", 0, "default: the processors that a rank may use", func(n int) error {
		if n < 0 || n > maxThreads {
			return fmt.Errorf("threads are %d, want 0 to %d; nearest is %d", n, maxThreads, min(max(n, 0), maxThreads))
		}
		return nil
	})
	r.oneRank(r.s.Nproc, ulysses, ring, device)
	r.s.Device, r.s.DType = device, dtype
	if device == "auto" {
		r.s.Device = "cpu"
		r.record("device", r.s.Device, "auto: this build's only one")
	}
	if dtype == "auto" {
		r.s.DType = "fp32"
		r.record("dtype", r.s.DType, "auto on a CPU")
	}
	if ditFSDP || t5FSDP {
		r.notice("--dit-fsdp and --t5-fsdp shard weights over ranks: with one rank they change nothing")
	}
	if t5CPU {
		r.notice("--t5-cpu: all runs on the CPU here")
	}
	if g, given := r.given["offload-model"]; given && !offload {
		r.notice("%s: each model's weights are released after its phase all the same", g.From)
	}
}

// oneRank refuses what this build cannot do yet: more than one rank, and GPUs.
// All of that is decided here.
func (r *resolver) oneRank(nproc, ulysses, ring int, device string) {
	switch {
	case nproc > 1 || ulysses > 1 || ring > 1:
		r.fail(ends.Usage, fmt.Errorf("this build runs one rank: --nproc %d, --ulysses %d and --ring %d must all be 1, or be left out",
			nproc, ulysses, ring))
	case device == "cuda":
		r.fail(ends.Usage, fmt.Errorf("this build runs on the CPU: --device cuda is not there yet; use --device cpu, or leave it out"))
	}
}

func atLeastOne(n int) error {
	const most = 1 << 16
	if n < 1 || n > most {
		return fmt.Errorf("%d, want 1 to %d; nearest is %d", n, most, min(max(n, 1), most))
	}
	return nil
}
