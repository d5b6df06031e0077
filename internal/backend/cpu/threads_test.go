package cpu

import (
	"testing"
	"testing/fstest"
)

func TestThreads(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cpus  int
		files map[string]string
		want  int
	}{
		{"nothing to read", 6, nil, 6},
		{"no cpu at all", 0, nil, 1},
		{"v2 unlimited", 8, map[string]string{
			"proc/self/cgroup":                     "0::/user.slice/job\n",
			"sys/fs/cgroup/user.slice/job/cpu.max": "max 100000\n",
		}, 8},
		{"v2 quota", 8, map[string]string{
			"proc/self/cgroup":          "0::/job\n",
			"sys/fs/cgroup/job/cpu.max": "300000 100000\n",
		}, 3},
		{"v2 quota rounded up", 8, map[string]string{
			"proc/self/cgroup":          "0::/job\n",
			"sys/fs/cgroup/job/cpu.max": "50000 100000\n",
		}, 1},
		{"v2 quota of the parent", 8, map[string]string{
			"proc/self/cgroup":                  "0::/outer/inner\n",
			"sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
			"sys/fs/cgroup/outer/cpu.max":       "250000 100000\n",
		}, 3},
		{"v2 container, path of the host", 8, map[string]string{
			"proc/self/cgroup":      "0::/../../docker/abc\n",
			"sys/fs/cgroup/cpu.max": "200000 100000\n",
		}, 2},
		{"v1 quota", 8, map[string]string{
			"proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n",
			"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us":  "400000\n",
			"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
		}, 4},
		{"v1 unlimited", 8, map[string]string{
			"proc/self/cgroup":                    "4:cpu:/\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":  "-1\n",
			"sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}, 8},
		{"hybrid", 8, map[string]string{
			"proc/self/cgroup":                      "1:cpu,cpuacct:/a\n0::/b\n",
			"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us":  "600000\n",
			"sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/unified/b/cpu.max":       "500000 100000\n",
		}, 5},
		{"affinity below the quota", 2, map[string]string{
			"proc/self/cgroup":      "0::/\n",
			"sys/fs/cgroup/cpu.max": "500000 100000\n",
		}, 2},
		{"nonsense", 4, map[string]string{
			"proc/self/cgroup":      "garbage\n0::/\n::\n",
			"sys/fs/cgroup/cpu.max": "many 0\n",
		}, 4},
		{"period 0", 4, map[string]string{
			"proc/self/cgroup":      "0::/\n",
			"sys/fs/cgroup/cpu.max": "1000 0\n",
		}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := fstest.MapFS{}
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
