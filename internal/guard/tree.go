package guard

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// proc is a process as /proc/PID/stat shows it.
type proc struct {
	pid, parent, group, session int
	start                       uint64 // in clock ticks since boot: with pid, an identity
	state                       byte   // R, S, D, T, Z, X
	name                        string // at most 15 bytes
}

func (p proc) alive() bool { return p.state != 'Z' && p.state != 'X' }

// parseStat reads /proc/PID/stat. The name may hold anything, ") R 1" as well: the last
// closing parenthesis ends it.
func parseStat(b []byte) (proc, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return proc{}, fmt.Errorf("%.60q has no name in parentheses", b)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:open])))
	fields := bytes.Fields(b[end+1:])
	if err != nil || len(fields) < 20 || len(fields[0]) != 1 {
		return proc{}, fmt.Errorf("%.60q is not of 22 fields or more", b)
	}
	p := proc{pid: pid, state: fields[0][0], name: string(b[open+1 : end])}
	for i, to := range []*int{&p.parent, &p.group, &p.session} {
		if *to, err = strconv.Atoi(string(fields[1+i])); err != nil {
			return proc{}, fmt.Errorf("field %d is %.20q, want a number", 4+i, fields[1+i])
		}
	}
	if p.start, err = strconv.ParseUint(string(fields[19]), 10, 64); err != nil {
		return proc{}, fmt.Errorf("start time is %.20q, want a number", fields[19])
	}
	return p, nil
}

// readProc reads one process. An error is that there is none.
func readProc(pid int) (proc, error) {
	var buf [1024]byte // a line of 52 numbers is below 700 bytes
	fd, err := openRetry("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, err
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return proc{}, err
	}
	return parseStat(buf[:n])
}

func openRetry(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// tree is all processes at about one moment, by number.
type tree map[int]proc

// readTree looks at all processes. Those that end meanwhile are missing.
func readTree() (tree, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	t := tree{}
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := readProc(pid); err == nil {
			t[pid] = p
		}
	}
	return t, nil
}

// above returns the chain from p up to root's child, which is last; nil if p does not
// descend from root.
func (t tree) above(p proc, root int) []proc {
	var chain []proc
	for range len(t) + 1 { // a tree read while it changes can have a circle
		chain = append(chain, p)
		if p.parent == root {
			return chain
		}
		next, ok := t[p.parent]
		if !ok {
			return nil
		}
		p = next
	}
	return nil
}

// markOf returns the value of the variable in the environment that a process was started
// with, "" if there is none or it cannot be read.
func markOf(pid int) string {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	for word := range bytes.SplitSeq(env, []byte{0}) {
		if value, ok := bytes.CutPrefix(word, []byte(markVariable+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// signalProc sends to p, and never to another process that got p's number later.
func signalProc(p proc, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err == nil {
		defer unix.Close(fd)
	} else if err != unix.ENOSYS && err != unix.EPERM {
		return err
	}
	now, statErr := readProc(p.pid)
	if statErr != nil || now.start != p.start {
		return unix.ESRCH
	}
	if err == nil {
		return unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	return unix.Kill(p.pid, sig) // a kernel before 5.3, or a filter of calls
}
