package guard

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// start starts a rank. An error is one of the protocol; what the kernel refuses is in the
// answer.
func (k *keeper) start(id uint64, s wireSpec, files []int) (started, error) {
	if id == 0 || k.ranks[id] != nil || k.sweeping[id] != nil {
		return started{}, fmt.Errorf("rank number %d is in use: %w", id, errMalformed)
	}
	var numbers []uintptr
	for i, present := range s.Present {
		fd := k.null
		if present != 0 {
			if len(files) == 0 {
				return started{}, fmt.Errorf("file %d did not come: %w", i, errMalformed)
			}
			fd, files = files[0], files[1:]
			_ = unix.SetNonblock(fd, false)
		}
		numbers = append(numbers, uintptr(fd))
	}
	attr := &syscall.ProcAttr{
		Dir: s.Dir, Files: numbers,
		Env: append(s.Env, markVariable+"="+k.markOf(id)),
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	r := &rank{id: id, pidfd: -1}
	attr.Sys.PidFD = &r.pidfd
	var answer started
	if k.group != nil {
		fd, err := k.group.open()
		if err == nil {
			defer unix.Close(fd)
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
		} else {
			answer.warnings = append(answer.warnings, fmt.Sprintf("rank is not in the ranks' control group: %v", err))
		}
	}
	restore, warnings, err := place(s)
	answer.warnings = append(answer.warnings, warnings...)
	if err == nil {
		r.pid, err = syscall.ForkExec(s.Path, s.Args, attr)
		if err != nil && attr.Sys.UseCgroupFD {
			// Perhaps it was the group that could not be entered.
			attr.Sys.UseCgroupFD = false
			var again error
			if r.pid, again = syscall.ForkExec(s.Path, s.Args, attr); again == nil {
				answer.warnings = append(answer.warnings, fmt.Sprintf("rank is not in the ranks' control group: %v", err))
			}
			err = again
		}
		if err != nil {
			answer.op, answer.path = whatFailed(s, err)
		}
	} else {
		answer.op, answer.path = "sched_setaffinity", fmt.Sprintf("CPUs %v", s.CPUs)
	}
	restore()
	if err != nil {
		errno, ok := err.(syscall.Errno)
		if !ok {
			errno = syscall.EINVAL // a NUL byte, the only one that the standard library finds
		}
		answer.errno = int(errno)
		answer.path = answer.path[:min(len(answer.path), maxNamed)]
		return answer, nil
	}
	answer.pid = r.pid
	k.ranks[id] = r
	if r.pidfd >= 0 {
		unix.CloseOnExec(r.pidfd)
		k.byPidfd[r.pidfd] = r
		// Edges alone keep the order in which ranks end.
		if err := k.watch(r.pidfd, unix.EPOLLIN|unix.EPOLLET); err != nil {
			return started{}, err
		}
	}
	return answer, nil
}

// whatFailed finds out which of a start's steps an error is of.
func whatFailed(s wireSpec, err error) (op, path string) {
	if s.Dir != "" {
		if st, dirErr := os.Stat(s.Dir); dirErr != nil || !st.IsDir() || unix.Access(s.Dir, unix.X_OK) != nil {
			return "chdir", s.Dir
		}
	}
	if err == syscall.ENOENT && s.Dir == "" {
		if _, statErr := os.Stat(s.Path); statErr == nil {
			return "exec (the interpreter or loader that it names)", s.Path
		}
	}
	return "exec", s.Path
}

// place gives this thread what the rank that it forks next is to inherit. The function
// takes it back; it is never nil.
func place(s wireSpec) (restore func(), warnings []string, err error) {
	var undo []func()
	restore = func() {
		for _, f := range undo {
			f()
		}
	}
	if len(s.CPUs) > 0 {
		var before, set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &before); err != nil {
			return restore, nil, err
		}
		for _, cpu := range s.CPUs {
			set.Set(cpu)
			if cpu < 0 || !set.IsSet(cpu) {
				return restore, nil, syscall.EINVAL
			}
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return restore, nil, err
		}
		undo = append(undo, func() { _ = unix.SchedSetaffinity(0, &before) })
	}
	if len(s.MemNodes) > 0 {
		if err := preferNodes(s.MemNodes); err != nil {
			warnings = append(warnings, fmt.Sprintf("memory is not kept on NUMA nodes %v: set_mempolicy: %v", s.MemNodes, err))
		} else {
			undo = append(undo, func() { _ = setPolicy(unix.MPOL_DEFAULT, nil) })
		}
	}
	if s.OOMScoreAdj != 0 {
		const file = "/proc/self/oom_score_adj"
		before, err := os.ReadFile(file)
		if err == nil {
			// The rank inherits it and has it from its first moment; we have it for as long.
			err = os.WriteFile(file, []byte(strconv.Itoa(s.OOMScoreAdj)), 0)
		}
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("oom_score_adj is not %d: %v", s.OOMScoreAdj, err))
		} else {
			undo = append(undo, func() { _ = os.WriteFile(file, before, 0) })
		}
	}
	return restore, warnings, nil
}

const maxNodes = 1024 // CONFIG_NODES_SHIFT is at most 10

// preferNodes has memory come from these nodes as long as they have some, and from others
// then: a rank that is slower is better than one that is killed.
func preferNodes(nodes []int) error {
	const preferredMany = 5 // MPOL_PREFERRED_MANY, Linux 5.15
	mask := make([]uint64, maxNodes/64)
	for _, n := range nodes {
		if n < 0 || n >= maxNodes {
			return syscall.EINVAL
		}
		mask[n/64] |= 1 << (n % 64)
	}
	if len(nodes) == 1 {
		return setPolicy(unix.MPOL_PREFERRED, mask)
	}
	return setPolicy(preferredMany, mask)
}

func setPolicy(mode int, mask []uint64) error {
	var at unsafe.Pointer
	size := 0
	if len(mask) > 0 {
		at, size = unsafe.Pointer(&mask[0]), maxNodes+1 // the kernel takes one bit less
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SET_MEMPOLICY, uintptr(mode), uintptr(at), uintptr(size)); errno != 0 {
		return errno
	}
	return nil
}
