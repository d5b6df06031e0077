package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/jobs/owner"
)

const (
	// markVariable is what internal/guard puts into the environment of what it starts:
	// PID.START.RANK, the first two being the guard's.
	markVariable = "WANRUN_GUARD_MARK"
	jobVariable  = "WANRUN_JOB"
)

// mark says which guard started a process.
type mark struct {
	pid   int
	start uint64
}

// parseMark reads "PID.START.RANK".
func parseMark(s string) (mark, error) {
	fields := strings.Split(s, ".")
	if len(fields) != 3 {
		return mark{}, fmt.Errorf("mark %.60q has %d parts, want 3", s, len(fields))
	}
	pid, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil || pid == 0 {
		return mark{}, fmt.Errorf("mark %.60q has no process number", s)
	}
	start, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return mark{}, fmt.Errorf("mark %.60q has no start time", s)
	}
	if _, err := strconv.ParseUint(fields[2], 10, 64); err != nil {
		return mark{}, fmt.Errorf("mark %.60q has no rank", s)
	}
	return mark{int(pid), start}, nil
}

// parseEnvironment returns what a process's environment says of jobs. One that a job
// within a job started has the marks of both, and the inner job's id is the last.
func parseEnvironment(env []byte) (marks []mark, job string, err error) {
	for word := range bytes.SplitSeq(env, []byte{0}) {
		if value, ok := bytes.CutPrefix(word, []byte(markVariable+"=")); ok {
			m, err := parseMark(string(value))
			if err != nil {
				return nil, "", err
			}
			marks = append(marks, m)
		}
		if value, ok := bytes.CutPrefix(word, []byte(jobVariable+"=")); ok {
			job = printable(string(value))
		}
	}
	return marks, job, nil
}

// marked is a process that a guard started, directly or not.
type marked struct {
	pid   int
	start uint64
	job   string
	marks []mark
}

// orphaned is that no guard which it may belong to lives.
func (p marked) orphaned() bool {
	for _, m := range p.marks {
		if owner.Alive(m.pid, m.start) {
			return false
		}
	}
	return len(p.marks) > 0
}

// readMarked reads a process; ok is false if it has no mark, is not this user's, is dead
// or has numbers that mean others than ours.
func readMarked(pid int) (p marked, ok bool) {
	folder := "/proc/" + strconv.Itoa(pid)
	st, err := os.Stat(folder)
	if err != nil {
		return p, false
	}
	sys, isStat := st.Sys().(*syscall.Stat_t)
	if !isStat || int(sys.Uid) != os.Geteuid() {
		return p, false
	}
	start, state, err := owner.StartOf(pid)
	if err != nil || state == 'Z' || state == 'X' {
		return p, false
	}
	// In another namespace the guard has another number, or began at another time.
	if !sameNamespace(folder, "pid") || !sameNamespace(folder, "time") {
		return p, false
	}
	env, err := os.ReadFile(folder + "/environ")
	if err != nil {
		return p, false
	}
	marks, job, err := parseEnvironment(env)
	if err != nil || len(marks) == 0 {
		return p, false
	}
	return marked{pid, start, job, marks}, true
}

// sameNamespace is true, too, where the kernel has no such namespaces.
func sameNamespace(folder, kind string) bool {
	theirs, err := os.Readlink(folder + "/ns/" + kind)
	ours, ourErr := os.Readlink("/proc/self/ns/" + kind)
	if errors.Is(err, os.ErrNotExist) && errors.Is(ourErr, os.ErrNotExist) {
		_, err := os.Lstat(folder + "/stat")
		return err == nil
	}
	return err == nil && ourErr == nil && theirs == ours
}

// Whose says which job a process belongs to, and whether that job's guard is dead, so
// that it is left over. ok is false for a process that no job of this user started, or of
// which that cannot be told.
func Whose(pid int) (job string, leftover, ok bool) {
	p, ok := readMarked(pid)
	return p.job, ok && p.orphaned(), ok
}

// findProcesses returns what dead guards have left, but for this process and those that
// started it.
func findProcesses() ([]Leftover, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	above := ancestors()
	var found []Leftover
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || above[pid] {
			continue
		}
		p, ok := readMarked(pid)
		if !ok || !p.orphaned() {
			continue
		}
		l := Leftover{Kind: LeftProcess, Pid: pid, Job: p.job, Bytes: residentBytes(pid), process: p}
		l.Text = fmt.Sprintf("process %d (%s) of job %s, %s resident: its guard %d is dead",
			pid, nameOf(pid), jobText(p.job), mebibytes(l.Bytes), p.marks[len(p.marks)-1].pid)
		found = append(found, l)
	}
	return found, nil
}

func jobText(job string) string {
	if job == "" {
		return "unknown"
	}
	return strconv.Quote(job)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// ancestors is this process and all that it descends from.
func ancestors() map[int]bool {
	found := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !found[pid]; {
		found[pid] = true
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			break
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			break
		}
		if pid, err = strconv.Atoi(string(fields[1])); err != nil {
			break
		}
	}
	return found
}

func nameOf(pid int) string {
	name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return "?"
	}
	return printable(strings.TrimSpace(string(name)))
}

// residentBytes is the second field of /proc/PID/statm, in pages.
func residentBytes(pid int) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 40)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// kill ends the process, and never another one that has its number by now. It returns
// when the process is dead, or with ctx's error.
func (p marked) kill(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err == nil {
		defer unix.Close(fd)
	}
	// From here on the number is held by fd, or, on a kernel without it, checked at once.
	now, ok := readMarked(p.pid)
	if !ok || now.start != p.start {
		return nil
	}
	if !now.orphaned() {
		return fmt.Errorf("process %d has a guard", p.pid)
	}
	if err == nil {
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	} else {
		err = unix.Kill(p.pid, unix.SIGKILL)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	for pause := time.Millisecond; owner.Alive(p.pid, p.start); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			_, state, _ := owner.StartOf(p.pid)
			return fmt.Errorf("process %d is killed but in state %c, the kernel holds it: %w", p.pid, state, ctx.Err())
		}
	}
	return nil
}
