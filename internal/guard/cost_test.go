package guard

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// threads counts a process' threads.
func threads(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNothingAddsUp starts 1,000 ranks one after the other, of which each tenth leaves a
// child: no file, thread or zombie stays in the launcher or in the guard.
func TestNothingAddsUp(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	g := startGuard(t, Options{})
	round := func(i int) {
		s := Spec{Path: "/bin/false"}
		if i%10 == 0 {
			s = Spec{Path: "/bin/sh", Args: []string{"sh", "-c", "setsid sleep 1000 & exit 1"}, Env: []string{"PATH=/usr/bin:/bin"}}
		}
		p, err := g.Start(s)
		if err != nil {
			t.Fatal(err)
		}
		if x := exitOfProcess(t, p); x.Code != 1 {
			t.Fatalf("code %d, want 1", x.Code)
		}
	}
	for i := range 20 { // until both have all that they ever have
		round(i)
	}
	pids := []int{os.Getpid(), g.Pid()}
	var filesBefore, threadsBefore []int
	for _, pid := range pids {
		filesBefore = append(filesBefore, len(openFiles(t, pid)))
		threadsBefore = append(threadsBefore, threads(t, pid))
	}
	for i := range n {
		round(i)
	}
	for i, pid := range pids {
		// One more is that the runtime wanted one: 1,000 rounds have not added up.
		if got := len(openFiles(t, pid)); got > filesBefore[i]+1 {
			t.Errorf("process %d of launcher, guard: %d files, were %d", i, got, filesBefore[i])
		}
		if got := threads(t, pid); got > threadsBefore[i]+4 {
			t.Errorf("process %d of launcher, guard: %d threads, were %d", i, got, threadsBefore[i])
		}
	}
	until(t, time.Second, func() string {
		all, err := readTree()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.parent == g.Pid() {
				return fmt.Sprintf("%+v is left", p)
			}
		}
		return ""
	})
	if list := zombies(t); len(list) > 0 {
		t.Errorf("zombies are left: %+v", list)
	}
	if len(g.procs) > 0 || len(g.calls) > 0 {
		t.Errorf("the launcher still knows %d ranks and waits for %d answers", len(g.procs), len(g.calls))
	}
}

// TestIdle sees that a guard with nothing to do does nothing.
func TestIdle(t *testing.T) {
	g := startGuard(t, Options{})
	p := startShell(t, g, "exec sleep 100")
	time.Sleep(200 * time.Millisecond) // the runtime settles
	before := switches(t, g.Pid())
	time.Sleep(time.Second)
	if n := switches(t, g.Pid()) - before; n > 5 {
		t.Errorf("the guard was awake %d times in a second, want 0", n)
	}
	p.Signal(9)
	exitOfProcess(t, p)
}

// switches counts how often a process' threads have waited.
func switches(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, e := range entries {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/status", pid, e.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			var n int
			if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}

// BenchmarkGuard is a guard's start and end.
func BenchmarkGuard(b *testing.B) {
	for b.Loop() {
		g, err := Start("/proc/self/exe", Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := g.Close(time.Second); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRank is a rank's start and end, of a program that does nothing.
func BenchmarkRank(b *testing.B) {
	g := startGuard(b, Options{})
	for b.Loop() {
		p, err := g.Start(Spec{Path: "/bin/true"})
		if err != nil {
			b.Fatal(err)
		}
		exitOfProcess(b, p)
	}
}

// BenchmarkTree is a look at all processes of the machine.
func BenchmarkTree(b *testing.B) {
	n := 0
	for b.Loop() {
		t, err := readTree()
		if err != nil {
			b.Fatal(err)
		}
		n = len(t)
	}
	b.ReportMetric(float64(n), "processes")
	runtime.KeepAlive(n)
}
