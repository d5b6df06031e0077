package guard

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// reapRank sees a rank's end: what is left of its group dies while the number is still
// its own.
func (k *keeper) reapRank(r *rank) {
	if k.ranks[r.id] == nil {
		return
	}
	at := max(monotonic(), k.stamp+1)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, r.pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil || info.Signo == 0 {
		return // not yet
	}
	_ = unix.Kill(-r.pid, unix.SIGKILL) // ESRCH: it left nothing
	var status unix.WaitStatus
	var usage unix.Rusage
	for {
		if _, err := unix.Wait4(r.pid, &status, 0, &usage); err != unix.EINTR {
			break
		}
	}
	r.exit = exitOf(status, usage)
	r.exit.at, k.stamp = at, at
	if r.pidfd >= 0 {
		_ = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_DEL, r.pidfd, nil)
		unix.Close(r.pidfd)
		delete(k.byPidfd, r.pidfd)
	}
	delete(k.ranks, r.id)
	k.sweeping[r.id] = r
	k.pause = 0
	k.ended = append(k.ended, r)
}

// reapOthers reaps what we inherited, and ranks without a pidfd.
func (k *keeper) reapOthers() {
	k.reapWatched()
	byPid := map[int]*rank{}
	for _, r := range k.ranks {
		byPid[r.pid] = r
	}
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		pid := childOf(&info)
		if err != nil || pid == 0 {
			return
		}
		r := byPid[pid]
		if r == nil || k.ranks[r.id] == nil {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			continue
		}
		if r.pidfd >= 0 {
			k.reapWatched() // in the order of their ends, and r among them
		}
		if k.ranks[r.id] != nil {
			k.reapRank(r)
		}
	}
}

// reapWatched reaps ranks whose pidfd tells of their end, without waiting.
func (k *keeper) reapWatched() {
	for {
		var events [64]unix.EpollEvent
		n, err := unix.EpollWait(k.epoll, events[:], 0)
		if err == unix.EINTR {
			continue
		}
		some := false
		for _, e := range events[:max(n, 0)] {
			if r := k.byPidfd[int(e.Fd)]; r != nil {
				k.reapRank(r)
				some = true
			}
		}
		if !some {
			return
		}
	}
}

// settle kills what ended ranks left outside their groups, and tells of their ends.
func (k *keeper) settle() {
	if len(k.sweeping) > 0 {
		k.sweepEnded()
	}
	for _, r := range k.ended {
		r.exit.strays = r.strays
		k.say(r.exit.encode(r.id))
	}
	k.ended = k.ended[:0]
}

// noChildren says whether nothing descends from us.
func noChildren() bool {
	var info unix.Siginfo
	return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil) == unix.ECHILD
}

// sweepEnded kills descendants of ranks that have ended. Those that were killed are
// seen to the end: what they forked meanwhile becomes our child when they die, their
// death wakes us, and the next round finds it.
func (k *keeper) sweepEnded() {
	if noChildren() {
		clear(k.sweeping) // every descendant is a child's
		return
	}
	found, err := k.descendants()
	if err != nil {
		clear(k.sweeping) // no /proc: nothing to go by
		return
	}
	rest := false
	for _, d := range found {
		// When no rank lives, whatever there is was left by one that has ended.
		left := d.id != 0 && k.ranks[d.id] == nil || len(k.ranks) == 0
		if !left || !d.alive() {
			continue
		}
		rest = true
		if signalProc(d.proc, unix.SIGKILL) == nil {
			if r := k.sweeping[d.id]; r != nil && d.group != r.pid {
				r.strays++
			}
		}
	}
	if !rest {
		clear(k.sweeping)
	}
}

// descendant is a process that descends from us.
type descendant struct {
	proc
	id   uint64 // the rank that it is or descends from, 0 if unknown
	self bool   // it is the rank
}

// descendants looks at all processes that descend from us. The chain of parents says whose
// a process is; where it is broken, because one that started it has ended, the mark in
// its environment, the group, and what an earlier look has seen.
func (k *keeper) descendants() ([]descendant, error) {
	t, err := readTree()
	if err != nil {
		return nil, err
	}
	byPid, byGroup := map[int]uint64{}, map[int]uint64{}
	for id, r := range k.sweeping {
		byGroup[r.pid] = id
	}
	for id, r := range k.ranks {
		byPid[r.pid], byGroup[r.pid] = id, id
	}
	known := map[identity]uint64{}
	of := func(p proc, chain []proc) uint64 {
		if id := byPid[chain[len(chain)-1].pid]; id != 0 {
			return id
		}
		for _, q := range chain {
			who := identity{q.pid, q.start}
			id := known[who]
			if id == 0 {
				id = k.known[who]
			}
			if id == 0 && q.alive() {
				id = k.rankOf(markOf(q.pid))
			}
			if id == 0 {
				id = byGroup[q.group]
			}
			if id != 0 {
				return id
			}
		}
		return 0
	}
	var found []descendant
	for _, p := range t {
		chain := t.above(p, k.self)
		if chain == nil {
			continue
		}
		id := of(p, chain)
		if id != 0 {
			known[identity{p.pid, p.start}] = id
		}
		found = append(found, descendant{proc: p, id: id, self: byPid[p.pid] != 0})
	}
	k.known = known
	slices.SortFunc(found, func(a, b descendant) int { return cmp.Compare(a.pid, b.pid) })
	return found, nil
}

// signal sends to ranks' groups and to what left them, and says which ranks were alive.
func (k *keeper) signal(sig unix.Signal, ids []int) []int {
	alive := make([]int, len(ids))
	asked := map[uint64]*rank{}
	for i, id := range ids {
		r := k.ranks[uint64(id)]
		if r == nil {
			continue
		}
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, r.pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err == nil && info.Signo == 0 {
			alive[i] = 1
		}
		_ = unix.Kill(-r.pid, sig)
		asked[r.id] = r
	}
	found, err := k.descendants()
	if err != nil {
		return alive
	}
	for _, d := range found {
		if r := asked[d.id]; r != nil && d.group != r.pid && d.alive() {
			_ = signalProc(d.proc, sig) // ESRCH: it has just ended
		}
	}
	return alive
}

// left lists what lives.
func (k *keeper) left() []Remains {
	found, err := k.descendants()
	if err != nil {
		return nil
	}
	var list []Remains
	for _, d := range found {
		if d.alive() {
			list = append(list, Remains{Pid: d.pid, State: string(d.state), Name: d.name, id: d.id})
		}
	}
	return list
}

// endAll kills all that descends from us until none is left, or only what the kernel holds.
func (k *keeper) endAll(most time.Duration) {
	if k.close != 0 {
		most = min(max(k.end, 0), most)
	}
	deadline := monotonic() + int64(most)
	// A closed end is ready for ever.
	_ = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_DEL, k.sock, nil)
	for pause := 1; ; pause = min(2*pause, 50) {
		if k.group != nil {
			_ = k.group.kill()
		}
		for _, r := range k.ranks {
			_ = unix.Kill(-r.pid, unix.SIGKILL)
		}
		k.reapOthers()
		found, err := k.descendants()
		for _, d := range found {
			if d.alive() {
				_ = signalProc(d.proc, unix.SIGKILL)
			}
		}
		k.reapOthers()
		k.settle()
		if noChildren() || err != nil && len(k.ranks) == 0 || monotonic() > deadline {
			break
		}
		// A child's end wakes us; the time is for grandchildren, and for what escaped this look.
		if _, err := k.wait(pause); err != nil {
			break
		}
	}
	if k.group != nil {
		k.group.remove()
	}
	if k.close == 0 {
		return
	}
	k.say(encodeLeft(k.close, k.left()))
	for range 100 { // a launcher that wants to know reads
		if len(k.out) == 0 {
			break
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(k.sock), Events: unix.POLLOUT}}, 10)
		k.flush()
	}
}
