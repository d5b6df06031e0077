package watch

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
)

// process is what /proc/PID/stat says.
type process struct {
	pid, parent, group, session int
	name                        string // at most 15 bytes, the program's choice
	state                       string
	exiting                     bool          // it has begun to end; a zombie is, too
	kernel                      bool          // a thread of the kernel's
	start                       uint64        // ticks after boot; with the pid, an identity
	own                         time.Duration // CPU time of its threads
	reaped                      time.Duration // and of children that it has waited for
}

// tick is the unit of /proc/PID/stat's times: 1/USER_HZ, 100 on every architecture that
// Go runs on.
const tick = 10 * time.Millisecond

// parseStat reads "PID (NAME) STATE PPID PGRP SESSION …"; a name may hold anything, ")" and
// newlines too. Source: proc_pid_stat(5).
func parseStat(line string) (process, error) {
	var p process
	first, last := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if first < 1 || last < first {
		return p, fmt.Errorf("stat %.80q has no (name)", line)
	}
	p.name = line[first+1 : last]
	fields := strings.Fields(line[last+1:])
	const wanted = 20 // state is field 3 of proc_pid_stat(5), start time field 22
	if len(fields) < wanted || len(fields[0]) != 1 {
		return p, fmt.Errorf("stat %.80q has %d fields after the name, want %d", line, len(fields), wanted)
	}
	p.state = fields[0]
	var err error
	number := func(s string) int {
		n, e := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
		if e != nil {
			err = e
		}
		return int(n)
	}
	ticks := func(s string) time.Duration {
		n, e := strconv.ParseInt(s, 10, 64)
		if e != nil {
			err = e
		}
		return time.Duration(min(max(n, 0), math.MaxInt64/8/int64(tick))) * tick
	}
	p.pid, p.parent, p.group, p.session = number(line[:first]), number(fields[1]), number(fields[2]), number(fields[3])
	p.own, p.reaped = ticks(fields[11])+ticks(fields[12]), ticks(fields[13])+ticks(fields[14])
	unsigned := func(s string) uint64 {
		n, e := strconv.ParseUint(s, 10, 64)
		if e != nil {
			err = e
		}
		return n
	}
	const exiting, kernel = 0x4, 0x200000 // include/linux/sched.h, PF_EXITING, PF_KTHREAD
	flags := unsigned(fields[6])
	p.exiting, p.kernel = flags&exiting != 0, flags&kernel != 0
	p.start = unsigned(fields[19])
	if err != nil {
		return p, fmt.Errorf("stat %.80q: %w", line, err)
	}
	return p, nil
}

func readProcess(root fs.FS, pid int) (process, error) {
	f, err := root.Open(procFolder(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	defer f.Close()
	// One read gives the whole line: this is done for every process each second.
	var line [1 << 10]byte
	n, err := f.Read(line[:])
	if err != nil && err != io.EOF {
		return process{}, err
	}
	return parseStat(string(line[:n]))
}

// readProcesses returns all processes that can be seen, by pid. Those that end meanwhile,
// and those to skip, are left out; skip may be nil.
func readProcesses(root fs.FS, skip func(pid int) bool) (map[int]process, error) {
	proc, err := root.Open("proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	dir, ok := proc.(fs.ReadDirFile)
	if !ok {
		return nil, fmt.Errorf("proc is no folder")
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(entries))
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid <= 0 || skip != nil && skip(pid) {
			continue
		}
		if p, err := readProcess(root, pid); err == nil && p.pid == pid {
			all[pid] = p
		}
	}
	return all, nil
}

// trees returns for each root all processes of its tree, the root first: what descends
// from it, and what is of its process group or session although its parent has died.
func trees(all map[int]process, roots []int) map[int][]process {
	below := make(map[int]int, len(all)) // pid -> root, 0 for none
	for _, r := range roots {
		below[r] = r
	}
	var owner func(pid, depth int) int
	owner = func(pid, depth int) int {
		if r, ok := below[pid]; ok {
			return r
		}
		p, ok := all[pid]
		if !ok || depth > len(all) { // a loop cannot be, but between two reads
			return 0
		}
		below[pid] = 0
		r := owner(p.parent, depth+1)
		for _, leader := range []int{p.group, p.session} {
			if r == 0 && leader != 0 && below[leader] == leader {
				r = leader
			}
		}
		below[pid] = r
		return r
	}
	found := make(map[int][]process, len(roots))
	for _, r := range roots {
		if p, ok := all[r]; ok {
			found[r] = []process{p}
		}
	}
	for pid, p := range all {
		if r := owner(pid, 0); r != 0 && pid != r {
			found[r] = append(found[r], p)
		}
	}
	return found
}

// status is what /proc/PID/status says of memory, in bytes.
type status struct {
	rss, peak int64
}

func readStatus(root fs.FS, pid int) status {
	s := status{rss: Unknown, peak: Unknown}
	text, err := read(root, fmt.Sprintf("proc/%d/status", pid))
	if err != nil {
		return s
	}
	for line := range strings.Lines(text) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "VmRSS":
			s.rss = kibibytes(value)
		case "VmHWM":
			s.peak = kibibytes(value)
		}
	}
	return s
}

// kibibytes returns the bytes of "  1234 kB".
func kibibytes(s string) int64 {
	s, ok := strings.CutSuffix(strings.TrimSpace(s), "kB")
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if !ok || err != nil || n < 0 || n > math.MaxInt64>>10 {
		return Unknown
	}
	return n << 10
}

// readWchan returns the kernel's function that a process or thread waits in.
func readWchan(root fs.FS, folder string) string {
	text, err := read(root, folder+"/wchan")
	if err != nil || text == "0" {
		return ""
	}
	return printable(text, 64)
}

// printable makes a name of another's choice fit for a message.
func printable(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(s))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
