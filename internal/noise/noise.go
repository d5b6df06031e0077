// Package noise draws the starting noise of a run: the same standard normal
// values as torch.randn for the same seed, from torch's CPU generator or from
// its CUDA generator, on any machine and without a GPU.
//
// The values come flat, in the row-major order of the shape that the official
// code draws, [channels, frames, height, width].
package noise

import (
	"fmt"
	"slices"
	"strings"
)

// Kind says which of torch's generators is followed. Get one from ParseKind;
// the zero Kind is the default, torch-cuda:h100.
type Kind struct {
	name string
	gpu  GPU // unused for torch-cpu
}

const (
	cpuName    = "torch-cpu"
	cudaName   = "torch-cuda"
	defaultGPU = "h100" // what the official runs are most often made on
)

// ParseKind reads "torch-cpu", "torch-cuda" (which is torch-cuda:h100) or
// "torch-cuda:GPU" with the name of a GPU in GPUs. Letter case, blanks, dashes and
// underscores in the GPU's name do not matter. The error lists what is known.
func ParseKind(s string) (Kind, error) {
	name := strings.ToLower(strings.TrimSpace(s))
	base, gpuName, hasGPU := strings.Cut(name, ":")
	switch {
	case base == cpuName && !hasGPU:
		return Kind{name: cpuName}, nil
	case base == cudaName && !hasGPU:
		gpuName = defaultGPU
	case base != cudaName:
		return Kind{}, fmt.Errorf("unknown noise generator %q; known: %s, %s, %s:GPU with GPU one of %s",
			s, cpuName, cudaName, cudaName, strings.Join(gpuNames(), ", "))
	}
	gpuName = strings.NewReplacer(" ", "", "-", "", "_", "").Replace(gpuName)
	i := slices.IndexFunc(GPUs, func(g GPU) bool { return g.Name == gpuName })
	if i < 0 {
		return Kind{}, fmt.Errorf("unknown GPU %q in noise generator %q; known: %s; for small noise all give the same values",
			gpuName, s, strings.Join(gpuNames(), ", "))
	}
	return Kind{name: cudaName + ":" + gpuName, gpu: GPUs[i]}, nil
}

// String is the name that ParseKind reads back, with the GPU spelled out.
func (k Kind) String() string {
	if k.name == "" {
		return cudaName + ":" + defaultGPU
	}
	return k.name
}

// Generator is a torch generator: consecutive calls continue one sequence.
type Generator interface {
	// Randn fills dst with what torch.randn(len(dst)) would give next.
	Randn(dst []float32)
}

// New returns the generator of this kind, seeded as torch.manual_seed does it.
// "Random" seeds, which the command line writes as negative numbers, are the caller's business.
func (k Kind) New(seed int64) Generator {
	switch {
	case k.name == cpuName:
		return NewCPU(seed)
	case k.name == "":
		return NewCUDA(seed, GPUs[slices.IndexFunc(GPUs, func(g GPU) bool { return g.Name == defaultGPU })])
	default:
		return NewCUDA(seed, k.gpu)
	}
}

// Fill draws len(dst) values from a fresh generator: the whole noise of a run,
// which is the only thing that the official code draws.
func Fill(dst []float32, seed int64, kind Kind) {
	kind.New(seed).Randn(dst)
}

func gpuNames() []string {
	names := make([]string, len(GPUs))
	for i, g := range GPUs {
		names[i] = g.Name
	}
	return names
}
