package worker

import (
	"testing"
	"testing/fstest"
)

func TestWideThreads(t *testing.T) {
	for _, tc := range []struct{ own, local, processors, want int }{
		{1, 1, 1, 1},
		{2, 4, 8, 8},
		{2, 3, 8, 8}, // what does not divide is lost to no one
		{1, 4, 8, 4}, // --threads 1: the user keeps the others free
		{1, 8, 2, 2}, // more ranks than processors
		{4, 4, 8, 8}, // --threads 4 asks for more than there are
		{16, 2, 8, 16},
	} {
		if got := wideThreads(tc.own, tc.local, tc.processors); got != tc.want {
			t.Errorf("%d ranks of %d threads on %d processors: %d, want %d", tc.local, tc.own, tc.processors, got, tc.want)
		}
	}
}

func TestLocalSize(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want int
	}{
		{Config{Size: 5}, 5},
		{Config{Rank: 1, Size: 3, Nodes: []int{0, 1, 1}}, 2},
		{Config{Rank: 0, Size: 3, Nodes: []int{0, 1, 1}}, 1},
	} {
		if got := tc.c.localSize(); got != tc.want {
			t.Errorf("%+v: %d, want %d", tc.c, got, tc.want)
		}
	}
}

func TestAvailable(t *testing.T) {
	const gib = 1 << 30
	meminfo := "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"
	mounts := "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
	group := func(limit string) map[string]string {
		return map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/job\n", "proc/self/mountinfo": mounts,
			"sys/fs/cgroup/job/memory.max": limit + "\n"}
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		ranks int
		want  int64
	}{
		{"nothing is told", nil, 2, 0},
		{"free memory", map[string]string{"proc/meminfo": meminfo}, 1, 8*gib - processBytes},
		{"among ranks", map[string]string{"proc/meminfo": meminfo}, 4, 2*gib - processBytes},
		{"a group allows less", group("4294967296"), 2, 2*gib - processBytes},
		{"a group allows more", group("17179869184"), 2, 4*gib - processBytes},
		{"a group without a limit", group("max"), 1, 8*gib - processBytes},
		{"less than a process takes", group("1048576"), 1, 1},
		{"not a number", map[string]string{"proc/meminfo": "MemAvailable: many kB\n"}, 1, 0},
	} {
		root := fstest.MapFS{}
		for name, text := range tc.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := available(root, tc.ranks); got != tc.want {
			t.Errorf("%s: %d bytes, want %d", tc.name, got, tc.want)
		}
	}
}
