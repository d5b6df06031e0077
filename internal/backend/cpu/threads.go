package cpu

import (
	"io/fs"
	"math"
	"os"
	"runtime"

	"github.com/wanrun/wanrun/internal/cgroup"
)

// Threads returns how many threads this process should compute with: the CPUs of
// its affinity mask, or fewer if a cgroup's quota gives it less time than that.
func Threads() int {
	return threads(runtime.NumCPU(), os.DirFS("/")) // NumCPU counts the affinity mask
}

// threads bounds cpus, the number in the affinity mask, by the process's quota,
// rounded up: half a CPU is worth a thread. What cannot be read does not limit.
func threads(cpus int, root fs.FS) int {
	limit := float64(cpus)
	if groups, err := cgroup.Of(root); err == nil {
		quota, _ := groups.CPU.Quota(root)
		limit = min(limit, math.Ceil(quota))
	}
	return max(int(limit), 1)
}
