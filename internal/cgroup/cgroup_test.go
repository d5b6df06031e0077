package cgroup

import (
	"io/fs"
	"math"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const (
	mountV2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	mountV1 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n" +
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory\n"
	mountHybrid = mountV1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)

// trees are what machines of each kind show.
var trees = map[string]map[string]string{
	// systemd, a user's job in a slice with a limit.
	"v2": {
		"proc/self/cgroup":                                      "0::/system.slice/job.scope\n",
		"proc/self/mountinfo":                                   "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mountV2,
		"sys/fs/cgroup/cgroup.controllers":                      "cpu memory\n",
		"sys/fs/cgroup/system.slice/memory.max":                 "1073741824\n",
		"sys/fs/cgroup/system.slice/cpu.max":                    "max 100000\n",
		"sys/fs/cgroup/system.slice/cgroup.kill":                "",
		"sys/fs/cgroup/system.slice/job.scope/memory.max":       "max\n",
		"sys/fs/cgroup/system.slice/job.scope/memory.current":   "201326592\n",
		"sys/fs/cgroup/system.slice/job.scope/memory.peak":      "536870912\n",
		"sys/fs/cgroup/system.slice/job.scope/memory.events":    "low 0\nhigh 0\nmax 17\noom 3\noom_kill 2\noom_group_kill 0\n",
		"sys/fs/cgroup/system.slice/job.scope/cpu.max":          "250000 100000\n",
		"sys/fs/cgroup/system.slice/job.scope/cgroup.kill":      "",
		"sys/fs/cgroup/system.slice/job.scope/cgroup.procs":     "42\n",
		"sys/fs/cgroup/system.slice/job.scope/memory.swap.max":  "0\n",
		"sys/fs/cgroup/system.slice/job.scope/memory.oom.group": "0\n",
	},
	// A container with a namespace of its own: its group is the root that it sees.
	"v2 container": {
		"proc/self/cgroup":            "0::/\n",
		"proc/self/mountinfo":         mountV2,
		"sys/fs/cgroup/memory.max":    "201326592\n",
		"sys/fs/cgroup/memory.peak":   "201322496\n",
		"sys/fs/cgroup/cpu.max":       "50000 100000\n",
		"sys/fs/cgroup/memory.events": "low 0\noom 1\noom_kill 1\n",
	},
	// A container that sees the host's path but mounts its own part alone.
	"v2 container, path of the host": {
		"proc/self/cgroup":                  "0::/docker/abc/inner\n",
		"proc/self/mountinfo":               "29 23 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n",
		"sys/fs/cgroup/memory.max":          "400\n",
		"sys/fs/cgroup/inner/memory.max":    "300\n",
		"sys/fs/cgroup/inner/memory.events": "oom_kill 0\n",
	},
	// A process outside its namespace's root.
	"v2 outside the namespace": {
		"proc/self/cgroup":         "0::/../../other\n",
		"proc/self/mountinfo":      mountV2,
		"sys/fs/cgroup/memory.max": "500\n",
	},
	"v1": {
		"proc/self/cgroup":                                                 "5:memory:/slurm/uid_0/job_7\n4:cpu,cpuacct:/slurm\n1:name=systemd:/init\n",
		"proc/self/mountinfo":                                              mountV1,
		"sys/fs/cgroup/memory/memory.limit_in_bytes":                       "9223372036854771712\n",
		"sys/fs/cgroup/memory/slurm/memory.limit_in_bytes":                 "9223372036854771712\n",
		"sys/fs/cgroup/memory/slurm/uid_0/memory.limit_in_bytes":           "8000000000\n",
		"sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.limit_in_bytes":     "4000000000\n",
		"sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.usage_in_bytes":     "1000\n",
		"sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.max_usage_in_bytes": "2000\n",
		"sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.oom_control":        "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
		"sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_quota_us":                 "-1\n",
		"sys/fs/cgroup/cpu,cpuacct/slurm/cpu.cfs_period_us":                "100000\n",
		"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":                       "400000\n",
		"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":                      "100000\n",
	},
	// Version 1 for controllers, version 2 beside it for processes alone.
	"hybrid": {
		"proc/self/cgroup":    "9:name=systemd:/\n4:memory:/process/bed3\n1:cpu,cpuacct:/\n0::/\n",
		"proc/self/mountinfo": mountHybrid,
		"sys/fs/cgroup/memory/process/bed3/memory.limit_in_bytes": "9223372036854771712\n",
		"sys/fs/cgroup/memory/process/bed3/memory.usage_in_bytes": "77\n",
		"sys/fs/cgroup/memory/process/bed3/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
		"sys/fs/cgroup/unified/cgroup.procs":                      "1\n",
		"sys/fs/cgroup/unified/made/cgroup.kill":                  "",
	},
	"space in the mount": {
		"proc/self/cgroup":           "0::/a\n",
		"proc/self/mountinfo":        `29 23 0:26 / /mnt/my\040groups rw - cgroup2 none rw` + "\n",
		"mnt/my groups/a/memory.max": "9\n",
	},
	"no control groups": {
		"proc/self/cgroup":    "",
		"proc/self/mountinfo": "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
	},
	"garbage in the files": {
		"proc/self/cgroup":             "0::/\n",
		"proc/self/mountinfo":          mountV2,
		"sys/fs/cgroup/memory.max":     "lots\n",
		"sys/fs/cgroup/memory.peak":    "-5\n",
		"sys/fs/cgroup/memory.current": "99999999999999999999\n",
		"sys/fs/cgroup/memory.events":  "oom_kill\noom_kill x\n",
		"sys/fs/cgroup/cpu.max":        "100000 0\n",
	},
}

func tree(name string) fs.FS {
	root := fstest.MapFS{}
	for file, text := range trees[name] {
		root[file] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return root
}

func TestTrees(t *testing.T) {
	inf := math.Inf(1)
	for _, tc := range []struct {
		tree      string
		version   int // of the memory controller
		path      string
		limit     int64
		limitedBy string
		current   int64
		peak      int64
		kills     int64
		quota     float64
		quotaBy   string
	}{
		{"v2", 2, "/system.slice/job.scope", 1 << 30, "/sys/fs/cgroup/system.slice", 192 << 20, 512 << 20, 2, 2.5, "/sys/fs/cgroup/system.slice/job.scope"},
		{"v2 container", 2, "/", 192 << 20, "/sys/fs/cgroup", Unknown, 201322496, 1, 0.5, "/sys/fs/cgroup"},
		{"v2 container, path of the host", 2, "/docker/abc/inner", 300, "/sys/fs/cgroup/inner", Unknown, Unknown, 0, inf, ""},
		{"v2 outside the namespace", 2, "/../../other", 500, "/sys/fs/cgroup", Unknown, Unknown, Unknown, inf, ""},
		{"v1", 1, "/slurm/uid_0/job_7", 4000000000, "/sys/fs/cgroup/memory/slurm/uid_0/job_7", 1000, 2000, 1, 4, "/sys/fs/cgroup/cpu,cpuacct"},
		{"hybrid", 1, "/process/bed3", Unknown, "", 77, Unknown, 0, inf, ""},
		{"space in the mount", 2, "/a", 9, "/mnt/my groups/a", Unknown, Unknown, Unknown, inf, ""},
		{"no control groups", 0, "", Unknown, "", Unknown, Unknown, Unknown, inf, ""},
		{"garbage in the files", 2, "/", Unknown, "", Unknown, Unknown, Unknown, inf, ""},
	} {
		t.Run(tc.tree, func(t *testing.T) {
			root := tree(tc.tree)
			groups, err := Of(root)
			if err != nil {
				t.Fatal(err)
			}
			m := groups.Memory.Memory(root)
			if m.Group.Version != tc.version || m.Group.Path != tc.path {
				t.Errorf("memory in group %+v, want version %d, %s", m.Group, tc.version, tc.path)
			}
			want := Memory{Group: m.Group, Limit: tc.limit, LimitedBy: tc.limitedBy, Current: tc.current, Peak: tc.peak, OOMKills: tc.kills}
			if diff := cmp.Diff(want, m, cmp.AllowUnexported(Group{})); diff != "" {
				t.Error(diff)
			}
			if m.Known() != (tc.kills != Unknown) {
				t.Errorf("Known = %v", m.Known())
			}
			if cpus, by := groups.CPU.Quota(root); cpus != tc.quota || by != tc.quotaBy {
				t.Errorf("quota %v by %q, want %v by %q", cpus, by, tc.quota, tc.quotaBy)
			}
		})
	}
}

func TestKill(t *testing.T) {
	owner := func(of uint32) func(fs.FileInfo) (uint32, bool) {
		return func(fs.FileInfo) (uint32, bool) { return of, true }
	}
	v2, hybrid, v1 := tree("v2"), tree("hybrid"), tree("v1")
	group := func(root fs.FS) Groups {
		g, err := Of(root)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, tc := range []struct {
		name  string
		root  fs.FS
		group Group
		uid   uint32
		owner uint32
		want  Kill
	}{
		{"v2, the user's", v2, group(v2).Unified, 1000, 1000, Kill{true, true, "/sys/fs/cgroup/system.slice/job.scope"}},
		{"v2, root's", v2, group(v2).Unified, 1000, 0, Kill{true, false, "/sys/fs/cgroup/system.slice/job.scope"}},
		{"v2, we are root", v2, group(v2).Unified, 0, 1000, Kill{true, true, "/sys/fs/cgroup/system.slice/job.scope"}},
		{"hybrid, the root of the hierarchy", hybrid, group(hybrid).Unified, 0, 0, Kill{false, true, "/sys/fs/cgroup/unified"}},
		{"hybrid, a group made there", hybrid, group(hybrid).Unified.Child("made"), 0, 0, Kill{true, true, "/sys/fs/cgroup/unified/made"}},
		{"v1 has none", v1, group(v1).Unified, 0, 0, Kill{}},
		{"nor does its memory controller", v1, group(v1).Memory, 0, 0, Kill{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.group.Kill(tc.root, tc.uid, owner(tc.owner)); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestOfErrors(t *testing.T) {
	for _, tc := range []struct{ name, cgroup, mountinfo, want string }{
		{"no path", "0::\n", mountV2, `is not ID:CONTROLLERS:PATH`},
		{"no colon", "garbage\n", mountV2, `line "garbage\n" is not`},
		{"mount without a dash", "0::/\n", "29 23 0:26 / /sys rw cgroup2 cgroup2 rw\n", `has not the fields of a mount`},
		{"short mount", "0::/\n", "29 / - cgroup2 cgroup2 rw\n", `has not the fields of a mount`},
	} {
		root := fstest.MapFS{"proc/self/cgroup": {Data: []byte(tc.cgroup)}, "proc/self/mountinfo": {Data: []byte(tc.mountinfo)}}
		if g, err := Of(root); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %+v, %v, want %q", tc.name, g, err, tc.want)
		}
	}
	if _, err := Of(fstest.MapFS{}); err == nil {
		t.Error("no /proc: no error")
	}
}

// TestHere reads this machine, whatever it is.
func TestHere(t *testing.T) {
	root := os.DirFS("/")
	groups, err := Of(root)
	if err != nil {
		t.Skipf("no control groups to read here: %v", err)
	}
	m := groups.Memory.Memory(root)
	cpus, by := groups.CPU.Quota(root)
	t.Logf("memory %+v, quota %v by %q, kill %+v", m, cpus, by, groups.Unified.Kill(root, 1, func(fs.FileInfo) (uint32, bool) { return 0, false }))
	if m.Limit == 0 || m.Current == 0 || !(cpus > 0) {
		t.Error("a limit, use or quota of 0 is none")
	}
}

func FuzzOf(f *testing.F) {
	for _, t := range trees {
		f.Add(t["proc/self/cgroup"], t["proc/self/mountinfo"], t["sys/fs/cgroup/memory.events"], t["sys/fs/cgroup/cpu.max"])
	}
	f.Add("0::/../..\n", `1 2 3 /\057.. /\056\056/x rw - cgroup2 a b`, "oom_kill 1", "1 1")
	f.Fuzz(func(t *testing.T, cgroup, mountinfo, events, quota string) {
		root := fstest.MapFS{
			"proc/self/cgroup": {Data: []byte(cgroup)}, "proc/self/mountinfo": {Data: []byte(mountinfo)},
			"sys/fs/cgroup/memory.events": {Data: []byte(events)}, "sys/fs/cgroup/memory.max": {Data: []byte(events)},
			"sys/fs/cgroup/cpu.max": {Data: []byte(quota)},
		}
		groups, err := Of(root)
		if err != nil {
			return
		}
		for _, g := range []Group{groups.Memory, groups.CPU, groups.Unified} {
			if g.Exists() && !fs.ValidPath(g.Folder) {
				t.Errorf("folder %q leads out of the file system", g.Folder)
			}
			if g.Exists() && g.Folder != g.mount && g.mount != "." && !strings.HasPrefix(g.Folder, g.mount+"/") {
				t.Errorf("folder %q leads out of its mount %q", g.Folder, g.mount)
			}
			m := g.Memory(root)
			if cpus, _ := g.Quota(root); m.Limit < Unknown || m.OOMKills < Unknown || !(cpus > 0) {
				t.Errorf("%+v, %v CPUs", m, cpus)
			}
		}
	})
}
