package vram

import (
	"fmt"
	"strconv"
	"strings"
)

// maxVisible bounds how many names of GPUs are read.
const maxVisible = 1024

// Choose returns which of the GPUs a process computes on that takes the local-th of those
// that it sees. visible is CUDA_VISIBLE_DEVICES, nil where that is not set: numbers, or
// UUIDs of which the beginning is enough; of a part of a GPU (MIG) the UUID is returned
// as it is, for no GPU has it. The list ends at the first entry that names no GPU.
//
// Numbers are those of the bus's order. CUDA's own order differs where a node has GPUs of
// several kinds, unless CUDA_DEVICE_ORDER is PCI_BUS_ID.
//
// Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
func Choose(visible *string, local int, all []Facts) (index int, uuid string, err error) {
	if local < 0 {
		return Unknown, "", fmt.Errorf("local rank %d", local)
	}
	if visible == nil {
		if local >= len(all) {
			return Unknown, "", fmt.Errorf("GPU %d wanted, there are %d", local, len(all))
		}
		return local, all[local].UUID, nil
	}
	names := strings.SplitN(*visible, ",", maxVisible+1)
	if len(names) > maxVisible {
		return Unknown, "", fmt.Errorf("CUDA_VISIBLE_DEVICES has more than %d entries", maxVisible)
	}
	for i, name := range names {
		name = strings.TrimSpace(name)
		at, found := named(name, all)
		if !found {
			return Unknown, "", fmt.Errorf("GPU %d wanted of CUDA_VISIBLE_DEVICES=%.100q, which names %d", local, *visible, i)
		}
		if i < local {
			continue
		}
		if at == Unknown {
			return Unknown, name, nil
		}
		return at, all[at].UUID, nil
	}
	return Unknown, "", fmt.Errorf("GPU %d wanted of CUDA_VISIBLE_DEVICES=%.100q, which names %d", local, *visible, len(names))
}

// named finds one GPU; at is Unknown for a part of one.
func named(name string, all []Facts) (at int, found bool) {
	if strings.HasPrefix(name, "MIG-") && len(name) < 100 {
		return Unknown, true
	}
	if strings.HasPrefix(name, "GPU-") {
		at = Unknown
		for i, f := range all {
			if strings.HasPrefix(f.UUID, name) {
				if at != Unknown {
					return Unknown, false // it could be either
				}
				at = i
			}
		}
		return at, at != Unknown
	}
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n >= len(all) {
		return Unknown, false
	}
	return n, true
}
