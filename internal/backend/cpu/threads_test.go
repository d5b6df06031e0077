package cpu

import (
	"testing"
	"testing/fstest"
)

func TestThreads(t *testing.T) {
	const (
		v2     = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
		v1     = "33 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
		hybrid = v1 + "34 25 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	for _, tc := range []struct {
		name   string
		cpus   int
		mounts string
		files  map[string]string
		want   int
	}{
		{"nothing to read", 6, "", nil, 6},
		{"no cpu at all", 0, "", nil, 1},
		{"no mounts to read", 6, "", map[string]string{
			"proc/self/cgroup":      "0::/\n",
			"sys/fs/cgroup/cpu.max": "100000 100000\n",
		}, 6},
		{"v2 unlimited", 8, v2, map[string]string{
			"proc/self/cgroup":                     "0::/user.slice/job\n",
			"sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n",
		}, 8},
		{"v2 quota", 8, v2, map[string]string{
			"proc/self/cgroup":          "0::/job\n",
			"sys/fs/cgroup/job/cpu.max": "300000 100000\n",
		}, 3},
		{"v2 quota rounded up", 8, v2, map[string]string{
			"proc/self/cgroup":          "0::/job\n",
			"sys/fs/cgroup/job/cpu.max": "50000 100000\n",
		}, 1},
		{"v2 quota of the parent", 8, v2, map[string]string{
			"proc/self/cgroup":                  "0::/outer/inner\n",
			"sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
			"sys/fs/cgroup/outer/cpu.max":       "250000 100000\n",
		}, 3},
		{"v2 container, path outside its namespace", 8, v2, map[string]string{
			"proc/self/cgroup":      "0::/../../docker/abc\n",
			"sys/fs/cgroup/cpu.max": "200000 100000\n",
		}, 2},
		{"v2 container, path of the host", 8, "29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n", map[string]string{
			"proc/self/cgroup":      "0::/docker/abc\n",
			"sys/fs/cgroup/cpu.max": "200000 100000\n",
		}, 2},
		{"v1 quota", 8, v1, map[string]string{
			"proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n",
			"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us":  "400000\n",
			"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
		}, 4},
		{"v1 unlimited", 8, v1, map[string]string{
			"proc/self/cgroup":                            "4:cpu,cpuacct:/\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":  "-1\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, 8},
		// The kernel binds a controller to one hierarchy: what looks like a limit in
		// the other is none.
		{"hybrid, the controller in v1", 8, hybrid, map[string]string{
			"proc/self/cgroup": "1:cpu,cpuacct:/a\n0::/b\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":  "600000\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/unified/b/cpu.max":               "500000 100000\n",
		}, 6},
		{"hybrid, the controller in v2", 8, hybrid, map[string]string{
			"proc/self/cgroup":                "1:memory:/a\n0::/b\n",
			"sys/fs/cgroup/unified/b/cpu.max": "500000 100000\n",
		}, 5},
		{"affinity below the quota", 2, v2, map[string]string{
			"proc/self/cgroup":      "0::/\n",
			"sys/fs/cgroup/cpu.max": "500000 100000\n",
		}, 2},
		{"nonsense", 4, v2, map[string]string{
			"proc/self/cgroup":      "garbage\n0::/\n::\n",
			"sys/fs/cgroup/cpu.max": "100000 100000\n",
		}, 4},
		{"nonsense in the quota", 4, v2, map[string]string{
			"proc/self/cgroup":      "0::/\n",
			"sys/fs/cgroup/cpu.max": "many 0\n",
		}, 4},
		{"period 0", 4, v2, map[string]string{
			"proc/self/cgroup":      "0::/\n",
			"sys/fs/cgroup/cpu.max": "1000 0\n",
		}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := fstest.MapFS{}
			if tc.mounts != "" {
				root["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte(tc.mounts)}
			}
			for name, data := range tc.files {
				root[name] = &fstest.MapFile{Data: []byte(data)}
			}
			if got := threads(tc.cpus, root); got != tc.want {
				t.Errorf("threads(%d) = %d, want %d", tc.cpus, got, tc.want)
			}
		})
	}
	if got := Threads(); got < 1 {
		t.Errorf("Threads() = %d", got)
	}
}
