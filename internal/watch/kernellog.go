package watch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// KernelLog reads what the kernel says of processes that it kills for memory, from the
// moment when the log is opened.
type KernelLog struct {
	mu    sync.Mutex
	fd    int
	ours  bool // the log's pids are those of this process's namespace
	kills []oomKill
	group string // of the latest line oom-kill:
}

// oomKill is a process that the kernel killed for memory.
type oomKill struct {
	pid     int
	inGroup bool   // a limit of a control group was met, not the machine's end
	group   string // which one, "" if the log does not say
	rss     int64  // bytes, Unknown if the log does not say
	text    string // the kernel's line
}

// OpenKernelLog opens the kernel's log, /dev/kmsg. An error means that this user, or a
// container, may not read it: the counters have to do then.
func OpenKernelLog(name string) (*KernelLog, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's log %s: %w", name, err)
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("find the end of the kernel's log %s: %w", name, err)
	}
	// The kernel's log has the numbers of the first namespace, whose inode is fixed.
	// Source: include/linux/proc_ns.h, PROC_PID_INIT_INO.
	const firstNamespace = "pid:[4026531836]"
	namespace, err := os.Readlink("/proc/self/ns/pid")
	return &KernelLog{fd: fd, ours: err == nil && namespace == firstNamespace}, nil
}

// Close closes the log.
func (l *KernelLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return unix.Close(l.fd)
}

// killsOf returns the line about a process, the number of lines about others, and whether
// the numbers in the log can be trusted to be those of this namespace. A kill that was
// counted but is not in the log yet is waited for, briefly.
func (l *KernelLog) killsOf(pid int, counted bool) (line *oomKill, others int, logged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ours {
		return nil, 0, false
	}
	const briefly = 20 // milliseconds; the line is written right after the signal
	had := len(l.kills)
	l.drain()
	if counted && len(l.kills) == had {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, briefly); n > 0 && err == nil {
			l.drain()
		}
	}
	for i := range l.kills {
		if l.kills[i].pid == pid {
			line = &l.kills[i] // the latest: numbers come again
		} else {
			others++
		}
	}
	return line, others, true
}

// drain reads all that has come since.
func (l *KernelLog) drain() {
	const records = 1 << 16 // far more than the kernel keeps
	buf := make([]byte, 16<<10)
	for range records {
		n, err := unix.Read(l.fd, buf)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
			continue // EPIPE: records were overwritten before they were read
		}
		if err != nil || n <= 0 {
			return
		}
		l.record(string(buf[:n]))
	}
}

// record takes one record of the log: "PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT". Two lines
// tell of a kill, the group's first:
//
//	oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/x,task_memcg=/x,task=python3,pid=30,uid=0
//	Memory cgroup out of memory: Killed process 30 (python3) total-vm:205812kB, anon-rss:196012kB, file-rss:3072kB, …
//
// Source: Linux, Documentation/ABI/testing/dev-kmsg and mm/oom_kill.c.
func (l *KernelLog) record(text string) {
	head, line, ok := strings.Cut(text, ";")
	priority, err := strconv.Atoi(head[:max(strings.IndexByte(head, ','), 0)])
	const facility = 3 // bits below it; the kernel's own facility is 0, users write others
	if !ok || err != nil || priority < 0 || priority>>facility != 0 {
		return
	}
	line, _, _ = strings.Cut(line, "\n")
	if fields, ok := strings.CutPrefix(line, "oom-kill:"); ok {
		l.group = ""
		// Fields of the kernel's come before task=, which is the program's choice.
		fields, _, _ = strings.Cut(fields, ",task=")
		if _, rest, ok := strings.Cut(fields, ",oom_memcg="); ok {
			l.group, _, _ = strings.Cut(rest, ",task_memcg=")
		}
		return
	}
	kill, ok := parseKill(line)
	if !ok {
		return
	}
	if kill.inGroup {
		kill.group = printable(l.group, 256)
	}
	const kept = 256
	if len(l.kills) == kept {
		l.kills = append(l.kills[:0], l.kills[1:]...)
	}
	l.kills = append(l.kills, kill)
}

// parseKill reads the kernel's line about one killed process.
func parseKill(line string) (oomKill, bool) {
	before, after, ok := strings.Cut(line, "Killed process ")
	if !ok || !strings.HasSuffix(strings.ToLower(before), "out of memory: ") || len(before) > 64 {
		return oomKill{}, false
	}
	number, after, ok := strings.Cut(after, " ")
	pid, err := strconv.ParseInt(strings.TrimSuffix(number, ","), 10, 32)
	if !ok || err != nil || pid <= 0 {
		return oomKill{}, false
	}
	k := oomKill{pid: int(pid), inGroup: strings.HasPrefix(before, "Memory cgroup"), rss: Unknown, text: printable(line, 300)}
	_, after, _ = strings.Cut(after, " total-vm:")
	var sum int64
	for _, field := range strings.Split(after, ", ") {
		name, value, _ := strings.Cut(field, ":")
		switch name {
		case "anon-rss", "file-rss", "shmem-rss":
			value, _, _ = strings.Cut(value, " ")
			n := kibibytes(value)
			if n == Unknown || sum+n < sum {
				return k, true
			}
			sum += n
		}
	}
	if sum > 0 {
		k.rss = sum
	}
	return k, true
}
