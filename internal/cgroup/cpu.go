package cgroup

import (
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Quota returns how many CPUs' time the group may use, as its own limit or an
// ancestor's says, and the folder that says so; +Inf and "" if none does. Half a CPU is 0.5.
func (g Group) Quota(root fs.FS) (cpus float64, limitedBy string) {
	cpus = math.Inf(1)
	if !g.Exists() {
		return cpus, ""
	}
	for _, folder := range g.chain() {
		if q := quota(root, g.Version, folder); q < cpus {
			cpus, limitedBy = q, "/"+folder
		}
	}
	return cpus, limitedBy
}

func quota(root fs.FS, version int, folder string) float64 {
	var fields []string
	if version == 2 {
		data, err := read(root, path.Join(folder, "cpu.max")) // "max 100000" or "150000 100000"
		if err != nil {
			return math.Inf(1)
		}
		fields = strings.Fields(data)
	} else {
		for _, name := range []string{"cpu.cfs_quota_us", "cpu.cfs_period_us"} {
			data, err := read(root, path.Join(folder, name)) // a quota of -1 is none
			if err != nil {
				return math.Inf(1)
			}
			fields = append(fields, strings.TrimSpace(data))
		}
	}
	if len(fields) != 2 {
		return math.Inf(1)
	}
	used, err1 := strconv.ParseInt(fields[0], 10, 64)
	period, err2 := strconv.ParseInt(fields[1], 10, 64)
	if err1 != nil || err2 != nil || used <= 0 || period <= 0 {
		return math.Inf(1)
	}
	return float64(used) / float64(period)
}
