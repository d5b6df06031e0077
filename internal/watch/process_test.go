package watch

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const statLine = "1234 (py (x) y) S 1 1234 1200 0 -1 4194560 100 200 0 0 250 50 300 7 20 0 8 0 987654 1000000 500 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"

func TestParseStat(t *testing.T) {
	p, err := parseStat(statLine)
	want := process{pid: 1234, parent: 1, group: 1234, session: 1200, name: "py (x) y", state: "S", start: 987654, own: 3 * time.Second, reaped: 3070 * time.Millisecond}
	if err != nil || p != want {
		t.Errorf("%+v, %v, want %+v", p, err, want)
	}
	for _, line := range []string{"", "1 (x", "1 x) S", "(x) S 1", "1 (x) S 1 2 3", "x" + statLine, strings.Replace(statLine, " 987654", " -1", 1), strings.Replace(statLine, ") S", ") SS", 1)} {
		if p, err := parseStat(line); err == nil {
			t.Errorf("%q: %+v, no error", line, p)
		}
	}
}

// proc is a /proc of processes "PID PPID PGRP SESSION STATE TICKS".
func proc(files map[string]string, processes ...string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, text := range files {
		root[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for _, line := range processes {
		var pid, parent, group, session, ticks int
		var state string
		if _, err := fmt.Sscan(line, &pid, &parent, &group, &session, &state, &ticks); err != nil {
			panic(err)
		}
		stat := fmt.Sprintf("%d (p%d) %s %d %d %d 0 0 0 0 0 0 0 %d 0 0 0 20 0 1 0 %d 0 0\n", pid, pid, state, parent, group, session, ticks, pid)
		root[fmt.Sprintf("proc/%d/stat", pid)] = &fstest.MapFile{Data: []byte(stat)}
	}
	return root
}

func TestTrees(t *testing.T) {
	root := proc(nil,
		"10 1 10 10 S 0", "11 10 10 10 S 0", "12 11 12 12 S 0", // a rank, its child, a grandchild in a session of its own
		"13 1 10 10 S 0", // an orphan of the rank's group
		"14 13 14 14 S 0",
		"20 1 20 20 S 0", "21 20 20 20 S 0", // another rank
		"30 1 30 30 S 0", "31 30 30 30 S 0", // no rank
		"40 41 40 40 S 0", "41 40 41 41 S 0") // a loop, which cannot be
	all, err := readProcesses(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := trees(all, []int{10, 20, 99})
	for pid, want := range map[int][]int{10: {10, 11, 12, 13, 14}, 20: {20, 21}, 99: nil} {
		var got []int
		for _, p := range found[pid] {
			got = append(got, p.pid)
		}
		if len(got) > 0 && got[0] != pid {
			t.Errorf("tree of %d begins with %d", pid, got[0])
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("tree of %d is %v, want %v", pid, got, want)
		}
	}
}

func TestReadStatus(t *testing.T) {
	s := readStatus(proc(map[string]string{"proc/7/status": "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n", "proc/8/status": "VmHWM: 99999999999999999999 kB\nVmRSS: 5 MB\n"}), 7)
	if s.rss != 1<<20 || s.peak != 2<<20 {
		t.Errorf("%+v", s)
	}
	if s := readStatus(proc(map[string]string{"proc/8/status": "VmHWM: 99999999999999999999 kB\nVmRSS: 5 MB\n"}), 8); s.rss != Unknown || s.peak != Unknown {
		t.Errorf("nonsense is %+v, want unknown", s)
	}
	if s := readStatus(os.DirFS("/"), os.Getpid()); s.rss < 1<<20 || s.peak < s.rss {
		t.Errorf("this process: %+v", s)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"a\x1b[31mb": "a?[31mb", " x\n": "x", "\xff": "?", "12345678901": "1234567890…"} {
		if got := printable(in, 10); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestReadProcessesHere finds this process below its parent.
func TestReadProcessesHere(t *testing.T) {
	all, err := readProcesses(os.DirFS("/"), nil)
	if err != nil {
		t.Fatal(err)
	}
	me, ok := all[os.Getpid()]
	if !ok || me.parent != os.Getppid() || me.name == "" {
		t.Errorf("this process is %+v, want parent %d", me, os.Getppid())
	}
}

func BenchmarkReadProcesses(b *testing.B) {
	root := os.DirFS("/")
	var n int
	for b.Loop() {
		all, err := readProcesses(root, nil)
		if err != nil {
			b.Fatal(err)
		}
		n = len(all)
	}
	b.ReportMetric(float64(n), "processes")
}

func FuzzParseStat(f *testing.F) {
	f.Add(statLine)
	f.Add("1 () R 0 0 0 0 0 0 0 0 0 0 99999999999999999999 0 0 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, line string) {
		p, err := parseStat(line)
		if err == nil && (len(p.state) != 1 || p.own < 0 || p.reaped < 0) {
			t.Errorf("%+v", p)
		}
	})
}

func FuzzProcFiles(f *testing.F) {
	f.Add("Max open files            1024                 4096                 files\n", "|/usr/lib/systemd/systemd-coredump %P")
	f.Add("VmHWM:\t  2048 kB\noom_kill 7\nMemTotal: 8 kB\n", "core.%p.%e%")
	f.Fuzz(func(t *testing.T, text, pattern string) {
		root := proc(map[string]string{"proc/7/status": text, "proc/7/limits": text, "proc/vmstat": text, "proc/meminfo": text, "w/core": ""})
		s := readStatus(root, 7)
		if s.rss < Unknown || s.peak < Unknown || machineKills(root) < Unknown || readMemInfo(root)["MemTotal"] < Unknown {
			t.Errorf("%+v", s)
		}
		if l, err := readLimits(root, "proc/7"); err != nil || parseLimit(l.files) < Unknown {
			t.Errorf("%+v, %v", l, err)
		}
		_ = coreOf{pid: 7, folder: "/w"}.find(root, pattern, true)
		for _, line := range []string{describeCall(text), printable(text, 64)} {
			if strings.ContainsAny(line, "\n\x1b") {
				t.Errorf("%q is not one printable line", line)
			}
		}
	})
}
