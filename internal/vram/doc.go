// Package vram reads what NVML knows of a node's GPUs: memory, who has how much of it,
// errors, links, and why a GPU is slow.
//
// The library is opened at run time, and each of its functions is looked up before it is
// called: a driver that lacks one makes a figure unknown and does not end the process.
// What cannot be read is Unknown, "" or nil, never zero. A build without cgo has none of
// it: Open returns ErrNotBuilt.
package vram

import "errors"

// Unknown stands for a number that could not be read.
const Unknown = -1

// ErrNotBuilt is returned by Open in a build without cgo.
var ErrNotBuilt = errors.New("this worker was built without cgo, and so without NVML")

// DefaultLibrary is NVML's name, as drivers install it.
const DefaultLibrary = "libnvidia-ml.so.1"

// Facts are what does not change of a GPU.
type Facts struct {
	Index  int    `json:"index"` // NVML's, in the order of the bus; Unknown for a part of a GPU (MIG)
	UUID   string `json:"uuid"`
	Name   string `json:"name"`
	PCI    string `json:"pci"`  // "0000:3b:00.0"
	NUMA   int    `json:"numa"` // node; Unknown
	Driver string `json:"driver"`
	// Problem says why nothing else is known, "" if something is.
	Problem string `json:"problem,omitempty"`
}

// Reading is a GPU at one moment. Bytes are of the GPU's memory.
type Reading struct {
	Total, Used, Free int64
	Own               int64 // of this process; Unknown if others have memory and it is not among them, as in a container with its own numbers of processes
	Others            []Process
	Utilization       int // percent
	Temperature       int // degrees Celsius
	Power             int // milliwatts
	Throttling        []string
	ECCUncorrected    int64 // since the driver was loaded
	LinksUp           int   // of NVLink
	LinksDown         int
	// Problem says why the memory is not known, "" if it is.
	Problem string
}

// Process is a process with memory on a GPU.
type Process struct {
	Pid   int
	Bytes int64
	Name  string
}

// unread is a Reading of which nothing is known.
func unread(problem string) Reading {
	return Reading{Total: Unknown, Used: Unknown, Free: Unknown, Own: Unknown, Utilization: Unknown, Temperature: Unknown, Power: Unknown,
		ECCUncorrected: Unknown, LinksUp: Unknown, LinksDown: Unknown, Problem: problem}
}

// Peer is how two GPUs of a node reach each other.
type Peer struct {
	A, B   int    // of the list of devices
	Direct bool   // they read each other's memory
	Why    string // not
}
