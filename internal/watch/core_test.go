package watch

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestCore(t *testing.T) {
	file := func(at time.Duration) *fstest.MapFile { return &fstest.MapFile{ModTime: epoch.Add(at)} }
	root := fstest.MapFS{
		"w/core":               file(5 * time.Second),
		"w/core.10":            file(6 * time.Second),
		"w/core.11":            file(7 * time.Second),
		"cores/core-x.10.old":  file(-time.Hour),
		"cores/core-x.10.new":  file(time.Second),
		"cores/core-x.10.best": file(2 * time.Second),
		"w/100%-11":            file(time.Second),
		"a*b/core":             file(time.Second),
	}
	for _, tc := range []struct {
		pattern, folder string
		usesPID         bool
		want            string
	}{
		{"core", "/w", false, "core file /w/core"},
		{"core", "/w", true, "core file /w/core.10"},
		{"core.%p", "/w", true, "core file /w/core.10"},
		{"/cores/core-%e.%p.%t", "/w", false, "core file /cores/core-x.10.best"},
		{"100%%-%s%", "/w", false, "core file /w/100%-11"},
		{"core", "/a*b", false, "core file /a*b/core"},
		{"core", "/elsewhere", false, ""},
		{"core", "", false, ""},
		{"none.%p", "/w", false, ""},
		{"|/usr/lib/systemd/systemd-coredump %P %u", "/w", false, "core handed to /usr/lib/systemd/systemd-coredump (coredumpctl info 10)"},
		{"|/usr/share/apport/apport -p%p", "/w", true, "core handed to /usr/share/apport/apport"},
	} {
		c := coreOf{pid: 10, signal: 11, folder: tc.folder, since: epoch}
		if got := c.find(root, tc.pattern, tc.usesPID); got != tc.want {
			t.Errorf("%s in %s: %q, want %q", tc.pattern, tc.folder, got, tc.want)
		}
	}
}

// TestRealCore lets a process dump core, where the kernel writes it into a folder.
func TestRealCore(t *testing.T) {
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.HasPrefix(string(pattern), "|") {
		t.Skip("core files go to a program here")
	}
	for _, limit := range []string{"0", "unlimited"} {
		r := start(t, shell(`ulimit -c `+limit+` && cd "$0" && echo ready && read line; kill -SEGV $$`, t.TempDir()))
		w := newWatcher(Options{Root: os.DirFS("/")})
		w.Add(Target{Attempt: 1, Pid: r.Process.Pid}, time.Now())
		r.signal(t, 11)
		r.Wait()
		dumped := r.ProcessState.Sys().(interface{ CoreDump() bool }).CoreDump()
		got := w.Core(1, 0, 11, dumped)
		t.Logf("limit %s: %q", limit, got)
		if limit == "0" && got != "no core file: the limit is 0 (ulimit -c unlimited allows one)" {
			t.Errorf("%q", got)
		}
		if dumped && !strings.HasPrefix(got, "core file /") {
			t.Errorf("a core was dumped, but %q", got)
		}
		if got := w.Core(9, 9, 11, true); got != "" {
			t.Errorf("not watched: %q", got)
		}
	}
}
