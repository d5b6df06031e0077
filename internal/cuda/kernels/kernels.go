// Package kernels holds the GPU's own kernels as PTX, and how each is launched.
//
// A constructor such as RMSNorm turns shapes and device addresses into a Launch; it
// touches no device, so that the same launches run on a driver, on an emulated one, and
// in the tests here, which compile the kernels' sources for the host and compare them with
// float64. Constructors expect shapes that tensor.Ops has checked.
//
// Sources are the .cu files beside; generate.sh makes ptx/ of them. docs/gpu.md says how.
package kernels

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed ptx/*.ptx
var ptx embed.FS

// Module is a file of kernels.
type Module string

// The modules.
const (
	Attention Module = "attention"
	Conv      Module = "conv"
	Move      Module = "move"
	Norm      Module = "norm"
	Pointwise Module = "pointwise"
	Rope      Module = "rope"
	Sampler   Module = "sampler"
	Softmax   Module = "softmax"
)

// Modules returns all modules.
func Modules() []Module {
	return []Module{Attention, Conv, Move, Norm, Pointwise, Rope, Sampler, Softmax}
}

// PTX returns the module's text for sm_80 and later, which a driver compiles when it loads it.
func (m Module) PTX() string {
	text, err := ptx.ReadFile("ptx/" + string(m) + ".ptx")
	if err != nil {
		panic(fmt.Sprintf("module %q is not embedded", m)) // the constants above are all there are
	}
	return string(text)
}

// Entries returns the names of the module's kernels, in the order of its source.
func (m Module) Entries() []string {
	var names []string
	for line := range strings.Lines(m.PTX()) {
		if name, ok := strings.CutPrefix(line, ".visible .entry "); ok {
			names = append(names, strings.TrimRight(name, "(\n"))
		}
	}
	return names
}
