package watch

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/cgroup"
)

func procFolder(pid int) string { return "proc/" + strconv.Itoa(pid) }

// learn refreshes what cannot be read any more when the process has ended. What cannot be
// read now stays as it was.
func (w *watched) learn(root fs.FS) {
	if groups, err := read(root, procFolder(w.Pid)+"/cgroup"); err == nil && groups != w.groups {
		g, err := cgroup.Of(processFS{root, w.Pid})
		// Version 1 shows a process that ends in the root group, wherever it was.
		// Source: Linux, kernel/cgroup/cgroup.c, proc_cgroup_show.
		if p, gone := readProcess(root, w.Pid); err == nil && gone == nil && !p.exiting && (w.start == 0 || p.start == w.start) {
			w.groups, w.group = groups, g.Memory
		}
	}
	if folder, err := fs.ReadLink(root, procFolder(w.Pid)+"/cwd"); err == nil {
		w.folder = folder
	}
	if w.core == "" {
		if limits, err := readLimits(root, procFolder(w.Pid)); err == nil {
			w.core = limits.core
		}
	}
}

// processFS shows the control groups of another process where a process finds its own. The
// mounts stay those of this process: they say where this process can read.
type processFS struct {
	fs.FS
	pid int
}

// Open opens a file of the root.
func (p processFS) Open(name string) (fs.File, error) {
	if name == "proc/self/cgroup" {
		name = procFolder(p.pid) + "/cgroup"
	}
	return p.FS.Open(name)
}

// reading is what the counters of out-of-memory kills said at one moment.
type reading struct {
	at    time.Time
	kills int64
}

// readings are those of one control group, or of the machine, the oldest first.
type readings []reading

const (
	keptReadings = 16
	// A process that uses much memory takes some time to die: what is counted this long
	// before the end that was seen may belong to it.
	dyingTime = 5 * time.Second
)

func (r readings) add(at time.Time, kills int64) readings {
	if kills == Unknown || len(r) > 0 && !r[len(r)-1].at.Before(at) {
		return r
	}
	if len(r) == keptReadings {
		r = slices.Delete(r, 0, 1)
	}
	return append(r, reading{at, kills})
}

// before returns the counter as it was before something that ended at the time end had
// begun to die; Unknown if it was not read.
func (r readings) before(end time.Time) int64 {
	kills := Unknown
	for _, x := range r {
		if kills == Unknown || end.Sub(x.at) >= dyingTime {
			kills = x.kills
		}
	}
	return kills
}

// machine is the name under which the machine's own counter is kept.
const machine = ""

// count reads the counters, once for all ranks of a group.
func (s *Sampler) count(g cgroup.Group, now time.Time) {
	known := func(name string) bool {
		r := s.shared[name]
		return len(r) > 0 && !r[len(r)-1].at.Before(now)
	}
	if name := groupName(g); g.Exists() && !known(name) {
		s.shared[name] = s.shared[name].add(now, g.Memory(s.Root).OOMKills)
	}
	if !known(machine) {
		s.shared[machine] = s.shared[machine].add(now, machineKills(s.Root))
	}
}

func groupName(g cgroup.Group) string { return fmt.Sprint(g.Version, " ", g.Folder) }

// machineKills returns how many processes of the whole machine the kernel has killed for
// memory.
func machineKills(root fs.FS) int64 {
	text, err := read(root, "proc/vmstat")
	if err != nil {
		return Unknown
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 63); err == nil {
				return int64(n)
			}
		}
	}
	return Unknown
}
