package watch

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const limitsText = `Limit                     Soft Limit           Hard Limit           Units
Max core file size        0                    unlimited            bytes
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
`

func TestFacts(t *testing.T) {
	root := counters(2, "0", "")
	root["proc/self/cgroup"] = root["proc/10/cgroup"]
	root["proc/self/limits"] = &fstest.MapFile{Data: []byte(limitsText)}
	root["sys/fs/cgroup/x/memory.current"] = &fstest.MapFile{Data: []byte("4096\n")}
	root["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n")}
	f := ReadFacts(root, func(name string) (int64, int64, error) {
		if name != "/dev/shm" {
			t.Errorf("size of %s", name)
		}
		return 64 << 20, 60 << 20, nil
	})
	want := Facts{OpenFiles: 1024, OpenFilesMost: 524288, LockedMemory: 8 << 20, Shm: 64 << 20, ShmFree: 60 << 20,
		MemTotal: 32 << 30, MemAvailable: 16 << 30, MemLimit: 192 << 20, MemLimitedBy: "/sys/fs/cgroup/x", MemUsed: 4096}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if lines := f.Warnings(Need{Ranks: 4, OpenFiles: 1024, Shm: 60 << 20, Memory: 192 << 20, Locked: 8 << 20}); len(lines) != 0 {
		t.Errorf("enough of all, but %q", lines)
	}
	if lines := f.Warnings(Need{}); len(lines) != 0 {
		t.Errorf("nothing needed, but %q", lines)
	}
	lines := strings.Join(f.Warnings(Need{Ranks: 4, OpenFiles: 4096, Shm: 1 << 30, Memory: 1 << 30, Locked: 1 << 30}), "\n")
	for _, want := range []string{
		"a process may open 1024 files (hard limit 524288), 4096 are needed: raise it by ulimit -n 4096",
		"a process may lock 8 MiB of memory, 1 GiB are needed",
		"/dev/shm has 60 MiB free of 64 MiB, 4 ranks need 1 GiB",
		"4 ranks need 1 GiB of memory, cgroup /sys/fs/cgroup/x allows 192 MiB",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in:\n%s", want, lines)
		}
	}
	f.MemLimit = Unknown
	if lines := f.Warnings(Need{Ranks: 2, Memory: 20 << 30}); len(lines) != 1 || lines[0] != "2 ranks need 20 GiB of memory, the machine has available 16 GiB" {
		t.Errorf("%q", lines)
	}
}

func TestFactsUnknown(t *testing.T) {
	f := ReadFacts(fstest.MapFS{}, func(string) (int64, int64, error) { return 0, 0, errors.New("no") })
	if lines := f.Warnings(Need{Ranks: 4, OpenFiles: 1, Shm: 1, Memory: 1, Locked: 1}); len(lines) != 0 {
		t.Errorf("nothing is known, but %q", lines)
	}
}

func TestFactsHere(t *testing.T) {
	f := ReadFacts(os.DirFS("/"), Statfs)
	t.Logf("%+v", f)
	if f.OpenFiles < 1 || f.MemTotal < 1<<20 || f.MemAvailable > f.MemTotal {
		t.Errorf("%+v", f)
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 192 << 20: "192 MiB", 1536: "1.50 KiB", 12<<30 + 1<<29: "12.5 GiB", 1<<63 - 1: "8 EiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
