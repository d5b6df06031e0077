package guard

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep waits until, after a loss, all that the guard left is ended, and returns what the
// kernel holds. Without a loss it returns nothing before Close.
func (g *Guard) Sweep() []Remains {
	<-g.ended
	return g.left
}

// reapInherited reaps, in a launcher that is process 1 of a container, children that we
// did not start: those of other sessions. What we start ourselves is waited for where
// it was started.
func (g *Guard) reapInherited() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGCHLD)
	defer signal.Stop(c)
	self := os.Getpid()
	for {
		if t, err := readTree(); err == nil {
			for _, p := range t {
				if p.parent == self && !p.alive() && p.session != t[self].session && p.session != g.hello.session {
					_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
				}
			}
		}
		select {
		case <-c:
		case <-g.ended:
			return
		}
	}
}

// sweep kills and reaps what a guard left when it died. This process is a subreaper: what
// lost its parents is a child of ours.
func (g *Guard) sweep(most time.Duration) []Remains {
	if g.hello.cgroup != "" {
		k := killGroup{g.hello.cgroup}
		_ = k.kill() // the guard has removed it if it ended well
		defer k.remove()
	}
	var list []Remains
	for deadline, pause := time.Now().Add(most), time.Millisecond; ; {
		g.reapRanks()
		t, err := readTree()
		if err != nil {
			return nil // without /proc, the parent-death signal is all there is
		}
		list = list[:0]
		for _, p := range g.orphans(t) {
			_ = signalProc(p, unix.SIGKILL)
			if !p.alive() && p.parent == os.Getpid() {
				_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
				continue
			}
			list = append(list, Remains{Pid: p.pid, State: string(p.state), Name: p.name})
		}
		g.mu.Lock()
		waiting := len(g.procs)
		g.mu.Unlock()
		if len(list) == 0 && waiting == 0 || time.Now().After(deadline) {
			return list
		}
		time.Sleep(pause)
		pause = min(2*pause, 50*time.Millisecond)
	}
}

// reapRanks waits for the ranks, which are our children now, and hands their ends on.
func (g *Guard) reapRanks() {
	g.mu.Lock()
	ranks := map[uint64]int{}
	for id, p := range g.procs {
		ranks[id] = p.pid
	}
	g.mu.Unlock()
	for id, pid := range ranks {
		if pid == 0 {
			g.exited(id, Exit{Signal: int(unix.SIGKILL), At: time.Now()}) // never said to have started
			continue
		}
		var status unix.WaitStatus
		var usage unix.Rusage
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, &usage)
		if err == unix.ECHILD {
			// The guard had reaped it and died before it could say how it ended.
			g.exited(id, Exit{Signal: int(unix.SIGKILL), At: time.Now()})
		}
		if got == pid {
			x := exitOf(status, usage)
			g.exited(id, Exit{Code: x.code, Signal: x.signal, CoreDumped: x.core, MaxRSS: x.maxRSS, At: time.Now()})
		}
	}
}

// orphans returns what descends from the guard that is gone. A process is known by the
// ranks' variable in its environment, by the guard's session, or because it became our
// child in a session that is not ours although it was not there before the guard; and
// then with all that descends from it.
func (g *Guard) orphans(t tree) []proc {
	self := os.Getpid()
	own, err := readProc(self)
	if err != nil {
		return nil
	}
	pids := map[int]bool{}
	g.mu.Lock()
	for _, p := range g.procs {
		pids[p.pid] = true
	}
	g.mu.Unlock()
	mine := func(p proc) bool {
		if pids[p.pid] || p.session == g.hello.session {
			return true
		}
		if p.start < g.start {
			return false
		}
		if mark := markOf(p.pid); mark != "" {
			return strings.HasPrefix(mark, g.hello.mark)
		}
		// As process 1 we inherit what others started, too.
		return self != 1 && p.parent == self && p.session != own.session && !isGuard(p.pid)
	}
	var found []proc
	for _, p := range t {
		if p.pid == self {
			continue
		}
		chain := t.above(p, self)
		for _, q := range chain {
			if mine(q) {
				found = append(found, p)
				break
			}
		}
	}
	return found
}

// exitOf reads what wait4 says.
func exitOf(status unix.WaitStatus, usage unix.Rusage) exit {
	x := exit{maxRSS: usage.Maxrss * 1024}
	if status.Signaled() {
		x.signal, x.core = int(status.Signal()), status.CoreDump()
	} else {
		x.code = status.ExitStatus()
	}
	return x
}

// isGuard says whether a child of ours is a guard, whose only argument says so.
func isGuard(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && strings.HasSuffix(string(b), "\x00"+argument+"\x00")
}
