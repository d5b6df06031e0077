package cpu

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Threads returns how many threads this process should compute with: the CPUs of
// its affinity mask, or fewer if a cgroup's quota gives it less time than that.
func Threads() int {
	return threads(runtime.NumCPU(), os.DirFS("/")) // NumCPU counts the affinity mask
}

// threads bounds cpus, the number in the affinity mask, by the smallest quota of
// the process's cgroups (versions 1 and 2) and their parents, rounded up: half a
// CPU of quota is worth a thread. What cannot be read does not limit.
func threads(cpus int, root fs.FS) int {
	limit := float64(max(cpus, 1))
	for _, line := range lines(root, "proc/self/cgroup") {
		// "0::/path" is version 2; "4:cpu,cpuacct:/path" is version 1.
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, dir := range cgroupDirs(parts[1], parts[2]) {
			limit = min(limit, quota(root, dir))
		}
	}
	return max(int(math.Ceil(limit)), 1)
}

// cgroupDirs returns the folders whose quotas bind a process of the cgroup at
// path. Inside a container the path often names folders of the host that are not
// there; the mounted root is then the container's own and is looked at as well.
func cgroupDirs(controllers, cgroup string) (dirs []string) {
	var mounts []string
	switch {
	case controllers == "":
		mounts = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}
	case slices.Contains(strings.Split(controllers, ","), "cpu"):
		mounts = []string{"sys/fs/cgroup/" + controllers, "sys/fs/cgroup/cpu"}
	}
	for _, mount := range mounts {
		for p := path.Clean("/" + cgroup); ; p = path.Dir(p) {
			dirs = append(dirs, mount+strings.TrimSuffix(p, "/"))
			if p == "/" {
				break
			}
		}
	}
	return dirs
}

// quota returns the CPUs that the cgroup folder allows, +Inf if it sets no limit.
func quota(root fs.FS, dir string) float64 {
	var fields []string
	if v2 := lines(root, dir+"/cpu.max"); len(v2) > 0 {
		fields = strings.Fields(v2[0]) // "max 100000" or "150000 100000"
	} else {
		fields = append(lines(root, dir+"/cpu.cfs_quota_us"), lines(root, dir+"/cpu.cfs_period_us")...)
	}
	if len(fields) != 2 {
		return math.Inf(1)
	}
	used, err1 := strconv.ParseFloat(fields[0], 64) // -1 or "max": no limit
	period, err2 := strconv.ParseFloat(fields[1], 64)
	if err1 != nil || err2 != nil || !(used > 0) || !(period > 0) {
		return math.Inf(1)
	}
	return used / period
}

// lines returns the lines of a small file, none if it cannot be read.
func lines(root fs.FS, name string) []string {
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}
