//go:build !linux

package media

// run starts the command, reports on started, and waits for its end. There is
// no death signal here: a child whose input ends finishes on its own.
func (p *process) run(started chan<- error) {
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
		close(p.done)
	}
}
