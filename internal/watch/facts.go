package watch

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/cgroup"
)

// Facts are what a node allows to a process that this one starts. Sizes are bytes, Unknown
// where they cannot be read; Unlimited is a limit that is none.
type Facts struct {
	OpenFiles, OpenFilesMost int64 // soft limit and hard limit
	LockedMemory             int64
	Shm, ShmFree             int64 // /dev/shm
	MemTotal, MemAvailable   int64 // of the machine
	MemLimit                 int64 // of the control group
	MemLimitedBy             string
	MemUsed                  int64 // by the control group
}

// Unlimited is a limit that is none.
const Unlimited int64 = math.MaxInt64

// ReadFacts reads a node's facts. statfs is Statfs outside tests.
func ReadFacts(root fs.FS, statfs func(name string) (total, free int64, err error)) Facts {
	f := Facts{OpenFiles: Unknown, OpenFilesMost: Unknown, LockedMemory: Unknown, Shm: Unknown, ShmFree: Unknown, MemLimit: Unknown, MemUsed: Unknown}
	if l, err := readLimits(root, "proc/self"); err == nil {
		f.OpenFiles, f.OpenFilesMost, f.LockedMemory = parseLimit(l.files), parseLimit(l.filesMost), parseLimit(l.locked)
	}
	if total, free, err := statfs("/dev/shm"); err == nil {
		f.Shm, f.ShmFree = total, free
	}
	memory := readMemInfo(root)
	f.MemTotal, f.MemAvailable = memory["MemTotal"], memory["MemAvailable"]
	if groups, err := cgroup.Of(root); err == nil {
		m := groups.Memory.Memory(root)
		f.MemLimit, f.MemLimitedBy, f.MemUsed = m.Limit, m.LimitedBy, m.Current
	}
	return f
}

// Statfs returns the size of a file system and what a user may still write there.
func Statfs(name string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(name, &s); err != nil {
		return 0, 0, fmt.Errorf("size of the file system of %s: %w", name, err)
	}
	return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
}

// Need is what a node's ranks are expected to use; 0 where it is not known.
type Need struct {
	Ranks     int
	OpenFiles int64 // of one process
	Shm       int64 // bytes of all ranks
	Memory    int64 // bytes of all ranks, mapped files apart
	Locked    int64 // bytes that one rank locks
}

// Memory returns how much memory can still be used, Unknown if that is.
func (f Facts) Memory() int64 {
	free := f.MemAvailable
	if f.MemLimit != Unknown {
		// What the group has used includes files' pages, which the kernel would drop.
		rest := f.MemLimit
		if f.MemAvailable == Unknown || rest < f.MemAvailable {
			free = rest
		}
	}
	return free
}

// Warnings returns a line for each thing that is not enough.
func (f Facts) Warnings(n Need) []string {
	var lines []string
	short := func(have, need int64, format string, args ...any) {
		if have != Unknown && need > 0 && have < need {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	short(f.OpenFiles, n.OpenFiles, "a process may open %d files (hard limit %s), %d are needed: raise it by ulimit -n %d",
		f.OpenFiles, formatCount(f.OpenFilesMost), n.OpenFiles, n.OpenFiles)
	short(f.LockedMemory, n.Locked, "a process may lock %s of memory, %s are needed: raise it by ulimit -l (unlimited is usual)",
		formatBytes(f.LockedMemory), formatBytes(n.Locked))
	short(f.ShmFree, n.Shm, "/dev/shm has %s free of %s, %d ranks need %s: mount it larger (docker run --shm-size, an emptyDir of medium Memory)",
		formatBytes(f.ShmFree), formatBytes(f.Shm), n.Ranks, formatBytes(n.Shm))
	by := "the machine has available"
	if f.MemLimit != Unknown && f.Memory() == f.MemLimit {
		by = fmt.Sprintf("cgroup %s allows", f.MemLimitedBy)
	}
	short(f.Memory(), n.Memory, "%d ranks need %s of memory, %s %s", n.Ranks, formatBytes(n.Memory), by, formatBytes(f.Memory()))
	return lines
}

func formatCount(n int64) string {
	switch n {
	case Unknown:
		return "unknown"
	case Unlimited:
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

// limits are some of /proc/PID/limits, as written there.
type limits struct{ core, files, filesMost, locked string }

// readLimits reads lines "Max open files            1024                 4096                 files".
func readLimits(root fs.FS, folder string) (limits, error) {
	text, err := read(root, folder+"/limits")
	if err != nil {
		return limits{}, err
	}
	var l limits
	for line := range strings.Lines(text) {
		if fields, ok := limitOf(line, "Max core file size"); ok {
			l.core = fields[0]
		} else if fields, ok := limitOf(line, "Max open files"); ok {
			l.files, l.filesMost = fields[0], fields[1]
		} else if fields, ok := limitOf(line, "Max locked memory"); ok {
			l.locked = fields[0]
		}
	}
	return l, nil
}

func limitOf(line, name string) (fields []string, ok bool) {
	rest, ok := strings.CutPrefix(line, name)
	fields = strings.Fields(rest)
	return fields, ok && len(fields) >= 2
}

func parseLimit(s string) int64 {
	if s == "unlimited" {
		return Unlimited
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return Unknown
	}
	return int64(n)
}

// readMemInfo reads MemTotal and MemAvailable of /proc/meminfo, in bytes; Unknown for both
// where they are not there.
func readMemInfo(root fs.FS) map[string]int64 {
	found := map[string]int64{"MemTotal": Unknown, "MemAvailable": Unknown}
	text, err := read(root, "proc/meminfo")
	if err != nil {
		return found
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if _, wanted := found[name]; wanted {
			found[name] = kibibytes(value)
		}
	}
	return found
}
