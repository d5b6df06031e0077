package worker

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/vram"
)

// Devices is what DevicesMain prints. null is unknown.
type Devices struct {
	GPUs []DeviceState `json:"gpus"`
	// Problem says why no GPU could be looked at, "" if one could.
	Problem string       `json:"problem"`
	Peers   []DevicePeer `json:"peers"`
}

// DeviceState is a GPU as it is now. Bytes are of its memory.
type DeviceState struct {
	vram.Facts
	Total         *int64          `json:"total_bytes"`
	Used          *int64          `json:"used_bytes"`
	Free          *int64          `json:"free_bytes"`
	Processes     []DeviceProcess `json:"processes"`
	Utilization   *int32          `json:"utilization_percent"`
	Temperature   *int32          `json:"temperature_celsius"`
	Power         *int32          `json:"power_milliwatts"`
	Throttling    []string        `json:"throttling"`
	ECC           *int64          `json:"ecc_uncorrected"`
	LinksUp       *int32          `json:"nvlinks_up"`
	LinksDown     *int32          `json:"nvlinks_down"`
	MemoryProblem string          `json:"memory_problem"`
}

// DeviceProcess is a process with memory on a GPU.
type DeviceProcess struct {
	Pid   int    `json:"pid"`
	Name  string `json:"name"`
	Bytes *int64 `json:"bytes"`
}

// DevicePeer says whether two GPUs, by their places in the list, read each other's memory.
type DevicePeer struct {
	A      int    `json:"a"`
	B      int    `json:"b"`
	Direct bool   `json:"direct"`
	Why    string `json:"why"`
}

// DevicesMain prints the GPUs of this node as JSON, for the launcher, which links no
// NVML. A node without one has none, and a reason.
func DevicesMain(library string, out io.Writer) ends.Code {
	list := listDevices(library)
	data, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", data)
	}
	if err != nil {
		return ends.OutputLost
	}
	return ends.Done
}

func listDevices(library string) Devices {
	list := Devices{GPUs: []DeviceState{}, Peers: []DevicePeer{}}
	if library == "" {
		library = vram.DefaultLibrary
	}
	lib, err := vram.Open(library, os.DirFS("/"), os.Getpid())
	if err != nil {
		list.Problem = err.Error()
		return list
	}
	defer func() { _ = lib.Close() }() // it was only read
	all, err := lib.Devices()
	if err != nil {
		list.Problem = err.Error()
		return list
	}
	for _, d := range all {
		r := d.Read()
		s := DeviceState{Facts: d.Facts, Total: optional(r.Total), Used: optional(r.Used), Free: optional(r.Free), Processes: []DeviceProcess{},
			Utilization: optional32(r.Utilization), Temperature: optional32(r.Temperature), Power: optional32(r.Power), Throttling: append([]string{}, r.Throttling...),
			ECC: optional(r.ECCUncorrected), LinksUp: optional32(r.LinksUp), LinksDown: optional32(r.LinksDown), MemoryProblem: r.Problem}
		for _, p := range r.Others {
			s.Processes = append(s.Processes, DeviceProcess{p.Pid, p.Name, optional(p.Bytes)})
		}
		list.GPUs = append(list.GPUs, s)
	}
	for _, p := range lib.Peers(all) {
		list.Peers = append(list.Peers, DevicePeer(p))
	}
	return list
}
