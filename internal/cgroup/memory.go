package cgroup

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Unknown stands for a number that could not be read.
const Unknown int64 = -1

// Memory is what a group's memory controller says at one moment, in bytes.
type Memory struct {
	Group Group
	// Limit is the smallest of the group's and its ancestors', LimitedBy the folder that
	// sets it, with a leading slash; Unknown and "" if nothing does.
	Limit     int64
	LimitedBy string
	Current   int64 // used now by the group, page cache included
	Peak      int64 // most used so far
	// OOMKills counts processes of the group, and in version 2 of the groups below it,
	// that the kernel has killed for memory. Take it before a run and after.
	OOMKills int64
}

// Known returns whether the counter of kills could be read.
func (m Memory) Known() bool { return m.OOMKills != Unknown }

// Memory reads the group's memory controller.
func (g Group) Memory(root fs.FS) Memory {
	m := Memory{Group: g, Limit: Unknown, Current: Unknown, Peak: Unknown, OOMKills: Unknown}
	names := struct{ limit, current, peak, events string }{"memory.max", "memory.current", "memory.peak", "memory.events"}
	switch g.Version {
	case 0:
		return m
	case 1:
		names.limit, names.current = "memory.limit_in_bytes", "memory.usage_in_bytes"
		names.peak, names.events = "memory.max_usage_in_bytes", "memory.oom_control"
	}
	for _, folder := range g.chain() {
		if n := number(root, path.Join(folder, names.limit)); n != Unknown && n < noLimit && (m.Limit == Unknown || n < m.Limit) {
			m.Limit, m.LimitedBy = n, "/"+folder
		}
	}
	m.Current = number(root, path.Join(g.Folder, names.current))
	m.Peak = number(root, path.Join(g.Folder, names.peak))
	m.OOMKills = keyed(root, path.Join(g.Folder, names.events), "oom_kill")
	return m
}

// noLimit and above is how version 1 writes no limit: 2^63 less a page.
const noLimit = math.MaxInt64 - 1<<20

// number returns a file's one number, Unknown for "max" and what is none.
func number(root fs.FS, name string) int64 {
	data, err := read(root, name)
	if err != nil {
		return Unknown
	}
	return parse(strings.TrimSpace(data))
}

// keyed returns the number behind a key, from lines "key number".
func keyed(root fs.FS, name, key string) int64 {
	data, err := read(root, name)
	if err != nil {
		return Unknown
	}
	for line := range strings.Lines(data) {
		if k, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			return parse(strings.TrimSpace(value))
		}
	}
	return Unknown
}

func parse(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return Unknown
	}
	return int64(n)
}
