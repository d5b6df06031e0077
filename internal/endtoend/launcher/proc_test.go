package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// overhead are the launcher and its guard.
func (l *launched) overhead() []process {
	return slices.DeleteFunc(l.processes(), func(p process) bool {
		return p.pid != l.cmd.Process.Pid && !strings.Contains(p.line, "__guard")
	})
}

// statusOf reads a number of /proc/PID/status.
func statusOf(t testing.TB, pid int, name string) int {
	t.Helper()
	return numberIn(t, filepath.Join("/proc", strconv.Itoa(pid), "status"), name)
}

func numberIn(t testing.TB, path, name string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}

// wakeUps counts how often the threads of a process went to sleep by themselves.
func wakeUps(t testing.TB, pid int) int {
	t.Helper()
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "status"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range threads {
		n += numberIn(t, path, "voluntary_ctxt_switches")
	}
	return n
}
