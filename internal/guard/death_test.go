package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Scripts of ranks. Each process that they leave writes its number into $PIDS.
const (
	stubborn = `trap "" TERM INT HUP QUIT; `
	// stray leaves a process in a session of its own, ignoring signals, too.
	stray = `setsid sh -c 'trap "" TERM INT HUP QUIT; echo $$ >>$PIDS; while :; do sleep 100; done' & `
	// daemon leaves one whose parent is dead, in a session of its own, that knows no variable.
	daemon = `(setsid env -i sh -c "echo \$\$ >>$PIDS; exec sleep 1000" &); `
	stay   = `while :; do sleep 100; done`
)

// TestLauncherKilled kills launchers in all ways: all that their ranks started is gone
// within a second.
func TestLauncherKilled(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ranks  int
		more   int // processes besides the rank, for each
		script string
		kill   func(t *testing.T, l *launched)
	}{
		{"ranks that ignore signals", 4, 0, stubborn + stay, nil},
		{"16 ranks with children", 16, 1, stubborn + stray + stay, nil},
		{"children in sessions of their own", 2, 2, stubborn + stray + stray + stay, nil},
		{"daemons without variables", 2, 1, stubborn + daemon + stay, nil},
		{"ranks that are stopped", 2, 1, stray + `kill -STOP $$; ` + stay, nil},
		{"guard that is stopped", 2, 1, stubborn + stray + stay, func(t *testing.T, l *launched) {
			sendSignal(t, l.guard.pid, syscall.SIGSTOP)
			until(t, time.Second, func() string {
				if p, err := readProc(l.guard.pid); err != nil || p.state != 'T' {
					return fmt.Sprintf("guard is in state %c (%v)", p.state, err)
				}
				return ""
			})
		}},
		{"launcher that is stopped", 2, 1, stubborn + stray + stay, func(t *testing.T, l *launched) {
			sendSignal(t, l.cmd.Process.Pid, syscall.SIGSTOP)
		}},
		{"guard that got signals", 2, 1, stubborn + stray + stay, func(t *testing.T, l *launched) {
			for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGPIPE} {
				sendSignal(t, l.guard.pid, sig)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := launch(t, tc.ranks, tc.more, "", tc.script)
			if tc.kill != nil {
				tc.kill(t, l)
			}
			for _, p := range append(l.all, l.guard) {
				if !runs(p) {
					t.Fatalf("%d (%s) is gone before the launcher", p.pid, p.name)
				}
			}
			sendSignal(t, l.cmd.Process.Pid, syscall.SIGKILL)
			took := gone(t, time.Second, append(l.all, l.guard)...)
			t.Logf("%d processes and the guard gone after %v", len(l.all), took)
		})
	}
}

// TestParentDeathSignalAlone kills launcher and guard at once: ranks die by the kernel.
func TestParentDeathSignalAlone(t *testing.T) {
	l := launch(t, 4, 0, "", stubborn+"exec sleep 100")
	sendSignal(t, l.cmd.Process.Pid, syscall.SIGSTOP)
	sendSignal(t, l.guard.pid, syscall.SIGKILL)
	t.Logf("ranks gone after %v", gone(t, time.Second, l.ranks...))
}

// TestGuardKilled loses the guard: the launcher is told, learns how the ranks ended, and
// sweeps what they left.
func TestGuardKilled(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	t.Setenv("PIDS", pids)
	g := startGuard(t, Options{})
	other := startGuard(t, Options{}) // another job of the same launcher, which stays
	startShell(t, other, "setsid sleep 100 & exec sleep 100")
	var ps []*Process
	for range 4 {
		ps = append(ps, startShell(t, g, stubborn+stray+daemon+stay))
	}
	var all []proc
	until(t, 5*time.Second, func() string {
		b, _ := os.ReadFile(pids)
		if words := strings.Fields(string(b)); len(words) == 8 {
			for _, w := range words {
				all = append(all, find(t, w))
			}
			return ""
		}
		return "not all have started: " + string(b)
	})
	begin := time.Now()
	sendSignal(t, g.Pid(), syscall.SIGKILL)
	if err := <-g.Lost(); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("lost with %v, want ErrLost and how it ended", err)
	}
	for _, p := range ps {
		if x := exitOfProcess(t, p); x.Signal != 9 || x.At.Before(begin) {
			t.Errorf("rank ended by signal %d at %v, want 9 after %v", x.Signal, x.At, begin)
		}
	}
	if left := g.Sweep(); len(left) > 0 {
		t.Errorf("the sweep left %+v", left)
	}
	gone(t, time.Millisecond, all...)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("swept after %v, want 1 s", took)
	}
	if _, err := g.Start(Spec{Path: "/bin/true"}); !errors.Is(err, ErrLost) {
		t.Errorf("a start without a guard: %v, want ErrLost", err)
	}
	if ps[0].Signal(syscall.SIGTERM) {
		t.Error("a rank is told to be alive after its guard")
	}
	if left, err := other.Left(); err != nil || len(left) != 2 {
		t.Errorf("of the other guard's two processes %+v are left (%v)", left, err)
	}
	if list := zombies(t); len(list) > 0 {
		t.Errorf("zombies are left: %+v", list)
	}
}

// TestUnkillable has the kernel hold a rank, as a dead disk or GPU does: the guard leaves
// in time and says what is left.
func TestUnkillable(t *testing.T) {
	dir, err := os.MkdirTemp("/sys/fs/cgroup/freezer", "guard-test-")
	if err != nil {
		t.Skip("no freezer of version 1, whose prisoners do not die: ", err)
	}
	defer func() {
		until(t, time.Second, func() string {
			if err := unix.Rmdir(dir); err != nil {
				return err.Error()
			}
			return ""
		})
	}()
	set := func(file, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	g := startGuard(t, Options{})
	p := startShell(t, g, "exec sleep 100")
	other := startShell(t, g, stubborn+stay)
	held := find(t, fmt.Sprint(p.Pid()))
	free := find(t, fmt.Sprint(other.Pid()))
	set("cgroup.procs", fmt.Sprint(p.Pid()))
	set("freezer.state", "FROZEN")
	defer func() {
		set("freezer.state", "THAWED")
		gone(t, time.Second, held)
		reapForeign(t)
	}()
	begin := time.Now()
	left, err := g.Close(200 * time.Millisecond)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("close took %v, want 200 ms and a little", took)
	}
	if err != nil || len(left) != 1 || left[0].Pid != p.Pid() || left[0].Of != p || left[0].State != "D" {
		t.Errorf("left %+v (%v), want process %d in state D", left, err, p.Pid())
	}
	if runs(free) {
		t.Error("the rank that can die lives")
	}
}

// TestWhatARankLeaves ends one rank of two: what it left goes, what the other started
// stays.
func TestWhatARankLeaves(t *testing.T) {
	for _, tc := range []struct{ name, script string }{
		{"in its group", `sh -c 'echo $$ >>$PIDS; exec sleep 1000' & `},
		{"in a session of its own", stray},
		{"in a session of its own, by fork and exit", `(` + stray + `); `},
		{"in a group of a session of its own", `setsid sh -mc 'sh -c "echo \$\$ >>$PIDS; exec sleep 1000" & sleep 1000' & `},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			g := startGuard(t, Options{})
			var ps []*Process
			var left []proc
			for _, name := range []string{"0", "1"} {
				pids := filepath.Join(dir, name)
				t.Setenv("PIDS", pids)
				ps = append(ps, startShell(t, g, tc.script+stay))
				until(t, 5*time.Second, func() string {
					if b, _ := os.ReadFile(pids); len(b) > 1 {
						left = append(left, find(t, string(b)))
						return ""
					}
					return "its child has not started"
				})
			}
			sendSignal(t, ps[0].Pid(), syscall.SIGKILL)
			exitOfProcess(t, ps[0])
			t.Logf("gone %v after the rank's end was told", gone(t, time.Second, left[0]))
			if !runs(left[1]) {
				t.Error("the other rank's child is gone, too")
			}
			sendSignal(t, ps[1].Pid(), syscall.SIGKILL)
			exitOfProcess(t, ps[1])
			gone(t, time.Second, left[1])
			until(t, time.Second, func() string {
				if rest, err := g.Left(); err != nil || len(rest) > 0 {
					return fmt.Sprintf("left: %+v (%v)", rest, err)
				}
				return ""
			})
		})
	}
}

// TestSignalReachesAll sends to a rank whose child has left its group.
func TestSignalReachesAll(t *testing.T) {
	g := startGuard(t, Options{})
	pids := filepath.Join(t.TempDir(), "pids")
	t.Setenv("PIDS", pids)
	p := startShell(t, g, `trap "exit 3" TERM; setsid sh -c 'trap "echo term >>$PIDS; exit" TERM; echo up >>$PIDS; while :; do :; done' & while :; do :; done`)
	said := func(want string) {
		t.Helper()
		until(t, 5*time.Second, func() string {
			if b, _ := os.ReadFile(pids); string(b) != want {
				return fmt.Sprintf("the child says %q, want %q", b, want)
			}
			return ""
		})
	}
	said("up\n")
	if !p.Signal(syscall.SIGSTOP) {
		t.Error("a rank that runs is told to be dead")
	}
	until(t, time.Second, func() string {
		left, err := g.Left()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range left {
			if r.State != "T" {
				return fmt.Sprintf("not all are stopped: %+v", left)
			}
			if r.Of != p {
				t.Errorf("%+v is of another rank", r)
			}
		}
		return ""
	})
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGCONT)
	if x := exitOfProcess(t, p); x.Code != 3 && x.Signal != 0 {
		t.Errorf("code %d, signal %d, want 3 by its handler", x.Code, x.Signal)
	}
	if p.Signal(syscall.SIGTERM) {
		t.Error("a rank that has ended is told to be alive")
	}
}

// TestForkStorm closes a guard while a rank forks into new sessions as fast as it can.
func TestForkStorm(t *testing.T) {
	g := startGuard(t, Options{})
	_, _ = firstLine(t, g, `echo up; while :; do setsid sleep 1000 & done`)
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	left, err := g.Close(5 * time.Second)
	if err != nil || len(left) > 0 {
		t.Errorf("left %+v (%v)", left, err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v, want 1 s", took)
	}
}

// TestGarbage sends the guard what no launcher sends: it ends all and leaves.
func TestGarbage(t *testing.T) {
	for _, tc := range []struct {
		name    string
		packets [][]byte
	}{
		{"short", [][]byte{{1}}},
		{"unknown", [][]byte{newPacket('?', 1).b}},
		{"start without a body", [][]byte{newPacket(kindStart, 99).b}},
		{"signal without a body", [][]byte{newPacket(kindSignal, 1).b}},
		{"too large", [][]byte{make([]byte, maxPacket+1)}},
		{"file that is missing", [][]byte{append(newPacket(kindStart, 99).b, wireSpec{Path: "/bin/true", Present: []int{1}}.encode()...)}},
		{"number in use", [][]byte{append(newPacket(kindStart, 1).b, wireSpec{Path: "/bin/true"}.encode()...)}},
		{"number 0", [][]byte{append(newPacket(kindStart, 0).b, wireSpec{Path: "/bin/true"}.encode()...)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := Start("/proc/self/exe", Options{})
			if err != nil {
				t.Fatal(err)
			}
			p := startShell(t, g, stubborn+stay)
			for _, b := range tc.packets {
				if err := sendPacket(g.sock, b, nil); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-g.Lost(); !errors.Is(err, ErrLost) {
				t.Errorf("lost with %v, want ErrLost", err)
			}
			if x := exitOfProcess(t, p); x.Signal != int(unix.SIGKILL) {
				t.Errorf("rank ended with code %d, signal %d, want 9", x.Code, x.Signal)
			}
			if _, err := g.Close(time.Second); !errors.Is(err, ErrLost) {
				t.Errorf("close: %v, want ErrLost", err)
			}
		})
	}
}

func TestNotAGuard(t *testing.T) {
	for _, exe := range []string{"/bin/true", "/bin/missing"} {
		if _, err := Start(exe, Options{}); err == nil {
			t.Errorf("%s became a guard", exe)
		}
	}
	t.Setenv(fdVariable, "3")
	if _, err := Start("/proc/self/exe", Options{}); err == nil || !strings.Contains(err.Error(), "guard.Main") {
		t.Errorf("a guard started one: %v, want that main must call guard.Main", err)
	}
}
