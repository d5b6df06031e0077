package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a worker in a process group of its own, with all that it starts.
type process struct {
	cmd    *exec.Cmd
	output sync.WaitGroup // the readers of its output
	pipes  []*os.File     // their ends
	ended  chan struct{}  // closed after it was reaped

	mu     sync.Mutex
	reaped bool // its number may be another's from here on
}

// startProcess starts path with env and hands its output on line by line, from a goroutine
// for each stream.
func startProcess(path string, env []string, line func(stream, text string)) (*process, error) {
	p := &process{cmd: exec.Command(path), ended: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var ours []*os.File // the worker's ends, which are not for us to keep
	defer func() {
		for _, f := range ours {
			f.Close()
		}
	}()
	streams := []string{"stdout", "stderr"}
	for _, name := range streams {
		r, w, err := os.Pipe()
		if err != nil {
			p.closePipes()
			return nil, fmt.Errorf("pipe for the worker's %s: %w", name, err)
		}
		p.pipes, ours = append(p.pipes, r), append(ours, w)
	}
	p.cmd.Stdout, p.cmd.Stderr = ours[0], ours[1]
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		p.closePipes()
		return nil, err
	}
	for i, r := range p.pipes {
		p.output.Go(func() { readLines(r, func(text string) { line(streams[i], text) }) })
	}
	return p, nil
}

// run starts the process and sees it to its end. The kernel kills the worker when
// the thread that started it ends, so that the thread is kept for as long.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	// Wait without reaping: as long as the process is a zombie, its group's number
	// is no one else's, and what it left running can be ended safely.
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // ESRCH: it left nothing
	p.reaped = true
	p.mu.Unlock()
	_ = p.cmd.Wait() // how it ended is in ProcessState
	close(p.ended)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends to the worker and all that it started. It says whether the worker was
// alive then, so that its end can be the signal's doing.
func (p *process) signal(sig syscall.Signal) (alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return false
	}
	var state unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, &state, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	_ = unix.Kill(-p.cmd.Process.Pid, sig) // ESRCH: it is about to be reaped
	return err == nil && state.Signo == 0
}

// drain waits for the output's end, which comes with that of the last process that
// has it, but not longer than timeout: a process that left the group may hold it.
func (p *process) drain(timeout time.Duration) {
	for _, r := range p.pipes {
		// Only a file that does not know deadlines fails, and then the end will come.
		_ = r.SetReadDeadline(time.Now().Add(timeout))
	}
	p.output.Wait()
	p.closePipes()
}

func (p *process) closePipes() {
	for _, r := range p.pipes {
		r.Close()
	}
}
