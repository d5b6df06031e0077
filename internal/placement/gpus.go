package placement

import (
	"strings"

	"github.com/wanrun/wanrun/internal/environ"
)

// gpus returns how many GPUs the environment shows to this process, -1 if it says
// nothing. CUDA_VISIBLE_DEVICES goes before what the scheduler counts on the node.
// A list ends, as for CUDA, at its first entry that is no device.
func gpus(lookup environ.Lookup, onNode int) int {
	list, set := lookup("CUDA_VISIBLE_DEVICES")
	if !set {
		if onNode > 0 {
			return onNode
		}
		return -1
	}
	n := 0
	for entry := range strings.SplitSeq(list, ",") {
		switch entry = strings.TrimSpace(entry); entry {
		case "", "-1", "NoDevFiles", "none", "void":
			return n
		}
		n++
	}
	return n
}

func gpusFrom(b base) string {
	if b.gpus > 0 {
		return "CUDA_VISIBLE_DEVICES or " + b.label
	}
	return "CUDA_VISIBLE_DEVICES"
}
