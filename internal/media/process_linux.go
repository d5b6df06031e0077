package media

import (
	"runtime"
	"syscall"
)

// run starts the command, reports on started, and waits for its end. The kernel
// kills the child when the thread that started it ends, so the thread is kept until
// then.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}
