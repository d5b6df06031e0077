package launch

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// memoryEvents is what the kernel says of this process's control group: how many of its
// processes the out-of-memory killer has ended, and its limit.
type memoryEvents struct {
	known  bool
	kills  int64
	limit  int64 // bytes; 0: none, or not known
	cgroup string
}

// readMemoryEvents reads cgroup v2's memory.events, or v1's memory.oom_control, below
// root, which is the file system's. A container often sees its own group as "/".
func readMemoryEvents(root fs.FS) memoryEvents {
	list, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return memoryEvents{}
	}
	for line := range strings.Lines(string(list)) {
		// hierarchy-ID:controllers:path
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, group := range []string{parts[2], "/"} {
			e := memoryEvents{cgroup: group}
			switch {
			case parts[0] == "0" && parts[1] == "":
				e.read(root, "sys/fs/cgroup", "memory.events", "memory.max")
			case strings.Contains(","+parts[1]+",", ",memory,"):
				e.read(root, "sys/fs/cgroup/memory", "memory.oom_control", "memory.limit_in_bytes")
			}
			if e.known {
				return e
			}
		}
	}
	return memoryEvents{}
}

// read takes the count from the line "oom_kill N" of the file events, and the limit.
func (e *memoryEvents) read(root fs.FS, mount, events, limit string) {
	folder := path.Join(mount, path.Join("/", e.cgroup)) // never above the mount
	data, err := fs.ReadFile(root, path.Join(folder, events))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		n, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill ")
		if kills, err := strconv.ParseInt(n, 10, 64); ok && err == nil {
			e.known, e.kills = true, kills
		}
	}
	e.limit = readLimit(root, path.Join(folder, limit))
}

func readLimit(root fs.FS, name string) int64 {
	const noLimit = 1 << 62 // v1 writes a number near 2^63 for none
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || n >= noLimit {
		return 0 // "max"
	}
	return n
}

// killer says who sent a SIGKILL, as far as the counters before and after tell.
func killer(before, after memoryEvents) (byOOM bool, words string) {
	switch {
	case !before.known || !after.known:
		return false, "whether it was the kernel's out-of-memory killer is not known here"
	case after.kills > before.kills:
		words = "the kernel's out-of-memory killer did it"
		if after.limit > 0 {
			words += fmt.Sprintf(": the control group may use %s", formatBytes(after.limit))
		}
		return true, words + "; give more memory, or make a smaller video (--max-area, --frames)"
	default:
		return false, "not by the kernel's out-of-memory killer, whose count is unchanged: someone or something sent it"
	}
}
