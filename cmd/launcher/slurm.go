package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/slurm"
)

// slurmAddress finds node 0's addresses in a step of Slurm: names of its nodes need not be
// in DNS, and where they are, that may be another network than Slurm's own.
func slurmAddress(ctx context.Context, node string) ([]netip.Addr, error) {
	address, slurmErr := slurm.Address(ctx, runCommand, node)
	if slurmErr != nil {
		address = node
	}
	if addr, err := netip.ParseAddr(address); err == nil {
		return []netip.Addr{addr}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", address)
	if err != nil && slurmErr != nil {
		return nil, fmt.Errorf("%w; %w", slurmErr, err)
	}
	return addrs, err
}

// timeLimit is when the scheduler will end the job; zero: not known, or never.
func (j *job) timeLimit(say func(string)) time.Time {
	where := j.launch.Where
	if !where.End.IsZero() || where.Source != placement.FromSlurm {
		return where.End
	}
	// Older Slurms do not put it into the environment.
	id, _ := environ.List(j.w.env)("SLURM_JOB_ID")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	end, err := slurm.End(ctx, runCommand, id, time.Local)
	if err != nil {
		say(fmt.Sprintf("--stop-before: %v", err))
	}
	return end
}

// drainInTime calls drain with its reason at --stop-before the scheduler's time limit,
// unless the job is over before.
func (j *job) drainInTime(over <-chan struct{}, say func(string), drain func(why string)) {
	before := j.launch.StopBefore
	if before == 0 {
		return
	}
	end := j.timeLimit(say)
	if end.IsZero() {
		say("--stop-before: no scheduler says a time limit, so that it is without effect")
		return
	}
	timer := time.NewTimer(end.Add(-before).Sub(j.w.now()))
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		drain(fmt.Sprintf("the time limit is at %s", end.Format(time.TimeOnly)))
	}
}

// stepDaemon is what Slurm calls the process that starts the tasks of a step.
const stepDaemon = "slurmstepd"

// endWithStep calls end with its reason if Slurm's step daemon dies, which nobody else
// tells this launcher: without the daemon Slurm no longer knows of the task, would never
// end it, and gives its GPUs to others. The function that it returns ends the watch.
func (j *job) endWithStep(end func(why string)) (stop func()) {
	if j.launch.Where.Source != placement.FromSlurm {
		return func() {}
	}
	fd, ok := openAncestor("/proc", os.Getpid(), stepDaemon)
	if !ok {
		return func() {} // in a container, or where others' processes are hidden
	}
	over, done := make(chan struct{}), make(chan struct{})
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(fd) // nothing was written
		return func() {}
	}
	go func() {
		defer close(done)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(fds, -1); err != unix.EINTR {
				break
			}
		}
		select {
		case <-over:
		default:
			if fds[0].Revents != 0 {
				end("Slurm's step daemon there died")
			}
		}
	}()
	return func() {
		close(over)
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // an eventfd's counter has room
		<-done
		_ = unix.Close(fd)
		_ = unix.Close(wake)
	}
}

// openAncestor returns a descriptor of the nearest of pid's ancestors with that name.
func openAncestor(proc string, pid int, name string) (fd int, ok bool) {
	const deepest = 64
	for range deepest {
		parent, _, ok := parentOf(proc, pid)
		if !ok || parent <= 1 {
			return 0, false
		}
		pid = parent
		if _, comm, ok := parentOf(proc, pid); !ok || comm != name {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return 0, false
		}
		// Its number may have become another's in between.
		if _, comm, ok := parentOf(proc, pid); !ok || comm != name {
			_ = unix.Close(fd)
			return 0, false
		}
		return fd, true
	}
	return 0, false
}

// parentOf reads a process's parent and its own name.
func parentOf(proc string, pid int) (parent int, name string, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	if err != nil {
		return 0, "", false
	}
	// "17 (name) S 3 …": the name may have brackets and blanks of its own.
	text := string(data)
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return 0, "", false
	}
	fields := strings.Fields(text[to+1:])
	if len(fields) < 2 {
		return 0, "", false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, text[from+1 : to], err == nil
}
