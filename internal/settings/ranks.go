package settings

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/pkg/sharding"
)

// maxThreads bounds --threads.
const maxThreads = 1024

// How the branches of guidance run: Auto is Together if that fits into memory.
const (
	Auto     = "auto"
	Together = "together"
	Apart    = "apart"
)

// Where the DiT's weights rest between uses, as --offload dit=... names it.
const (
	OnDevice = "device"
	OnHost   = "host"
	InFile   = "file"
)

// machine settles the ranks, how they share the work, and what they run on.
func (r *resolver) machine() {
	r.mesh()
	r.weights()
	r.branches()
	r.s.CompatPadding = r.truth("compat-padding", false)
	t5CPU := r.truth("t5-cpu", false)
	device := r.choice("device", "auto", "default")
	dtype := r.choice("dtype", "auto", "default")
	r.s.ScanWeights = r.truth("scan-weights", false)
	r.threads()
	if device == "cuda" && !r.in.Planning {
		r.fail(ends.Usage, fmt.Errorf("this build runs on the CPU: --device cuda is not there yet; use --device cpu, or leave it out"))
	}
	r.s.Device, r.s.DType = device, dtype
	if device == "auto" {
		r.s.Device = "cpu"
		r.record("device", r.s.Device, "auto: this build's only one")
	}
	if dtype == "auto" && r.s.GPU != "" {
		r.s.DType = "bf16"
		r.record("dtype", r.s.DType, "auto on a GPU")
	} else if dtype == "auto" {
		r.s.DType = "fp32"
		r.record("dtype", r.s.DType, "auto on a CPU")
	}
	if t5CPU {
		r.notice("--t5-cpu: all runs on the CPU here")
	}
	r.loneRank()
	if r.err == nil {
		r.plan()
	}
}

// threads divides the processors among the ranks, unless it is said how many
// threads each has.
func (r *resolver) threads() {
	r.s.Threads = r.number("threads", 0, "default: the processors that a rank may use", func(n int) error {
		if n < 0 || n > maxThreads {
			return fmt.Errorf("threads are %d, want 0 to %d; nearest is %d", n, maxThreads, min(max(n, 0), maxThreads))
		}
		return nil
	})
	if r.s.Threads == 0 && r.s.Nproc > 1 && r.in.Processors > 0 {
		r.s.Threads = max(1, r.in.Processors/r.s.Nproc)
		r.record("threads", strconv.Itoa(r.s.Threads), fmt.Sprintf("%d processors for %d ranks", r.in.Processors, r.s.Nproc))
	}
}

// branches reads --cfg-batch: auto, or a truth.
func (r *resolver) branches() {
	g, given := r.given["cfg-batch"]
	if !given || strings.EqualFold(strings.TrimSpace(g.Text), Auto) {
		r.s.CFGBranches = Auto
		from := "default"
		if given {
			from = g.From
		}
		r.record("cfg-batch", Auto, from)
		return
	}
	r.s.CFGBranches = Apart
	if r.truth("cfg-batch", true) {
		r.s.CFGBranches = Together
	}
}

// weights settles which weights are sharded, over how many ranks, and where the DiT's
// rest. What stays in the file is sharded, unless that is turned off: each rank then
// converts its part alone.
func (r *resolver) weights() {
	r.s.DiTFSDP, r.s.T5FSDP = r.truth("dit-fsdp", false), r.truth("t5-fsdp", false)
	r.fsdpSize()
	r.s.OffloadDiT = OnDevice
	r.record("offload", "dit="+OnDevice, "default")
	if g, given := r.given["offload"]; given {
		place, err := parseOffload(g.Text)
		if err != nil {
			r.failAt(g, err)
			return
		}
		r.s.OffloadDiT = place
		r.record("offload", "dit="+place, g.From)
		if _, said := r.given["dit-fsdp"]; place == InFile && !said {
			r.s.DiTFSDP = true
			r.record("dit-fsdp", "true", "follows from "+g.From)
		}
	}
	r.offloadModel()
	if g, given := r.given["fsdp-size"]; given && r.s.World > 1 && !r.s.DiTFSDP && !r.s.T5FSDP {
		r.notice("%s: without --dit-fsdp or --t5-fsdp no weights are sharded", g.From)
	}
}

// fsdpSize settles how many ranks share one copy of sharded weights.
func (r *resolver) fsdpSize() {
	ranks := max(r.s.World, 1)
	r.s.FSDPSize = r.number("fsdp-size", ranks, "default: all ranks", func(n int) error {
		if n >= 0 && n <= ranks && (n == 0 || ranks%n == 0) {
			return nil
		}
		var near []string
		for _, d := range sharding.Nearest(ranks, min(max(n, 1), ranks)) {
			near = append(near, strconv.Itoa(d))
		}
		return fmt.Errorf("groups of %d do not divide %d ranks; nearest: %s", n, ranks, strings.Join(near, " or "))
	})
	if r.s.FSDPSize <= 0 {
		r.s.FSDPSize = ranks
	}
}

// offloadModel reads the official switch, which is on by default for one rank and
// off for several. A phase's weights are released after it whatever it says; with
// several ranks and a sharded DiT it means that the shards rest in host memory.
func (r *resolver) offloadModel() {
	on := r.truth("offload-model", r.s.World <= 1)
	g, given := r.given["offload-model"]
	_, offload := r.given["offload"]
	switch {
	case !given:
	case r.s.World <= 1:
		if !on {
			r.notice("%s: each model's weights are released after its phase all the same", g.From)
		}
	case on && offload:
		r.notice("%s: --offload says more, and counts", g.From)
	case on && r.s.DiTFSDP:
		r.s.OffloadDiT = OnHost
		r.record("offload", "dit="+OnHost, "follows from "+g.From+" with --dit-fsdp")
	case on:
		r.notice("%s: each model's weights are released after its phase in any case; --offload dit=host lets the DiT's rest in host memory too", g.From)
	}
}

// parseOffload reads MODEL=PLACE.
func parseOffload(text string) (string, error) {
	model, place, ok := strings.Cut(strings.TrimSpace(text), "=")
	if !ok || !strings.EqualFold(model, "dit") {
		return "", fmt.Errorf("%q: want dit=%s, dit=%s or dit=%s; other models' weights are released after their phase", text, OnDevice, OnHost, InFile)
	}
	return parseChoice(place, []string{OnDevice, OnHost, InFile})
}

// loneRank tells what is without effect where there is one rank.
func (r *resolver) loneRank() {
	if r.s.World > 1 {
		return
	}
	var idle []string
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"dit-fsdp", r.s.DiTFSDP && r.s.OffloadDiT == OnDevice}, {"t5-fsdp", r.s.T5FSDP}, {"compat-padding", r.s.CompatPadding},
	} {
		if f.on {
			idle = append(idle, "--"+f.name)
		}
	}
	if len(idle) > 0 {
		r.notice("%s: for several ranks, without effect on one", strings.Join(idle, ", "))
	}
}
