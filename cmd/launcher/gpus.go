package main

import (
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/environ"
)

// visibleGPUs says what CUDA_VISIBLE_DEVICES each local rank gets, so that it sees one GPU
// of those that this process may use: numbers, UUIDs and MIG devices alike. It returns nil
// unless that is wanted. More ranks than GPUs share them in turn.
func (j *job) visibleGPUs() ([]string, error) {
	if !j.launch.OneGPU {
		return nil, nil
	}
	var devices []string
	if text, ok := environ.List(j.env)("CUDA_VISIBLE_DEVICES"); ok {
		for _, device := range strings.Split(text, ",") {
			if device = strings.TrimSpace(device); device != "" {
				devices = append(devices, device)
			}
		}
	} else {
		for i := range max(j.launch.Where.GPUs, installedGPUs()) {
			devices = append(devices, strconv.Itoa(i))
		}
	}
	if len(devices) == 0 {
		return nil, ends.Errorf(ends.Usage, "--gpu-visibility one: there is no GPU here, or CUDA_VISIBLE_DEVICES hides them all")
	}
	visible := make([]string, j.nproc)
	for i := range visible {
		visible[i] = devices[(i+j.launch.Where.LocalRank)%len(devices)]
	}
	return visible, nil
}
