package guard

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main is the guard, if this process was started to be it, and does not return then. A
// program that calls Start calls it before anything else: what a program does before,
// signals ignored and files opened, ranks would inherit.
func Main() {
	if len(os.Args) != 2 || os.Args[1] != argument || os.Getenv(fdVariable) == "" {
		return
	}
	// The kernel kills ranks when the thread ends that started them.
	runtime.LockOSThread()
	debug.SetGCPercent(20) // the heap is small; keep it so
	if err := guard(); err != nil {
		fmt.Fprintln(os.Stderr, "wanrun: guard:", err)
		syscall.Exit(1)
	}
	syscall.Exit(0) // at once: os.Exit waits a second under the race detector
}

// guard serves until the launcher has gone or closes it.
func guard() error {
	sock, err := strconv.Atoi(os.Getenv(fdVariable))
	if err != nil || sock < 3 {
		return fmt.Errorf("%s is %q, want a number above 2", fdVariable, os.Getenv(fdVariable))
	}
	if err := closeOnExec(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a child subreaper: %w", err)
	}
	_ = os.WriteFile("/proc/self/comm", []byte("wanrun-guard"), 0) // for ps; nothing depends on it
	k, err := newKeeper(sock)
	if err != nil {
		return err
	}
	catchSignals()
	k.watchChildren()
	var h hello
	if dir := os.Getenv(kgVariable); dir != "" {
		if k.group, err = makeGroup(dir); err != nil {
			h.warning = fmt.Sprintf("no control group for the ranks: %v", err)
		} else {
			h.cgroup = k.group.dir
		}
	}
	h.version, h.mark, h.session = protocolVersion, k.mark, k.self
	k.say(h.encode())
	forgetStart()
	err = k.serve()
	k.endAll(killTime)
	if dir := os.Getenv(rmVariable); dir != "" {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// closeOnExec keeps all files that we have got, but standard ones, from the ranks.
func closeOnExec() error {
	if unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	names, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		return err
	}
	for _, name := range names {
		if fd, err := strconv.Atoi(name.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// catchSignals lets the guard live on when a signal is sent to all processes of the
// program's name or of the container: the launcher decides. Ignoring them would make ranks
// ignore them, too; those that are ignored already, as by nohup, stay so.
func catchSignals() {
	ignored := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGALRM, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE, syscall.SIGXCPU,
	} {
		if !signal.Ignored(sig) {
			signal.Notify(ignored, sig)
		}
	}
}
