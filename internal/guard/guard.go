package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	argument     = "__guard"           // the program's only one when it is to be the guard
	fdVariable   = "WANRUN_GUARD_FD"   // there in the guard alone: the number of its socket
	kgVariable   = "WANRUN_GUARD_KG"   // there in the guard alone: where to make a group
	rmVariable   = "WANRUN_GUARD_RM"   // there in the guard alone: which folder to remove at the end
	markVariable = "WANRUN_GUARD_MARK" // of every rank: whose descendant a process is

	startTimeout = 10 * time.Second // for a start that takes 10 ms, on a machine that is busy
	// killTime is how long the guard waits for what it has killed. Only a process that
	// the kernel holds (state D) takes longer than ms.
	killTime = 10 * time.Second
)

// ErrLost is that the guard is dead: no rank can be started or signaled any more.
var ErrLost = errors.New("the guard process is gone")

// Options are what the guard needs from outside.
type Options struct {
	// CgroupDir is the folder of a control group of version 2 in which groups can be made
	// (see cgroup.Kill), "" for none. A failure there is a warning.
	CgroupDir string
	Stderr    *os.File // for the Go runtime's last words, should it have any; nil is none
	// Scratch is a folder of the launcher's that the guard removes at its end; "" for none.
	Scratch string
}

// Guard is the guard process as the launcher sees it. Its methods may be called at the
// same time.
type Guard struct {
	cmd   *exec.Cmd
	sock  *os.File
	hello hello
	start uint64    // of the guard, as in /proc
	wall  time.Time // what the clock said when the monotonic clock said mono
	mono  int64

	send sync.Mutex // over the packets of one request

	mu    sync.Mutex
	next  uint64
	calls map[uint64]chan []byte // packets' bodies, by number; closed when the guard is lost
	procs map[uint64]*Process    // not yet ended
	bye   uint64                 // the number of the request to close, 0 if there was none
	said  bool                   // that was answered: it has ended all and goes
	gone  bool                   // no request will be answered

	lost  chan error
	ended chan struct{} // closed when the guard is gone and, if it was lost, all is swept
	loss  error         // once ended is closed: nil if it went when it was asked to
	left  []Remains     // once ended is closed: what did not die
}

// Start starts exe, which must call Main first, as the guard. /proc/self/exe is this
// program even if its file was replaced. It makes this process a child subreaper.
func Start(exe string, o Options) (*Guard, error) {
	if os.Getenv(fdVariable) != "" {
		return nil, errors.New("this process was started to be a guard; its main must call guard.Main first")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a child subreaper: %w", err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	g := &Guard{
		sock:  ours,
		calls: map[uint64]chan []byte{}, procs: map[uint64]*Process{},
		lost: make(chan error, 1), ended: make(chan struct{}),
	}
	g.cmd = &exec.Cmd{
		Path: exe,
		Args: []string{filepath.Base(exe), argument},
		// Two processors for Go: one sits in epoll. Nothing of our environment is for the guard.
		Env:    []string{fdVariable + "=3", kgVariable + "=" + o.CgroupDir, rmVariable + "=" + o.Scratch, "GOMAXPROCS=2"},
		Stderr: nil, ExtraFiles: []*os.File{theirs},
		// In a session of its own neither the terminal nor a signal to our group reaches it.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGCONT},
	}
	if o.Stderr != nil {
		g.cmd.Stderr = o.Stderr
	}
	if err := g.cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	theirs.Close()
	if err := g.meet(); err != nil {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
		ours.Close()
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	go g.read()
	if os.Getpid() == 1 {
		go g.reapInherited()
	}
	return g, nil
}

// meet reads the guard's first packet.
func (g *Guard) meet() error {
	if err := g.sock.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	buf := make([]byte, maxPacket)
	n, err := g.sock.Read(buf)
	if err == io.EOF {
		return errors.New("it ended at once")
	}
	if err != nil {
		return err
	}
	p, err := parsePacket(buf[:n])
	if err == nil && p.kind != kindHello {
		err = fmt.Errorf("first packet is %q, want %q: %w", p.kind, kindHello, errMalformed)
	}
	if err == nil {
		g.hello, err = decodeHello(p.body)
	}
	if err != nil {
		return err
	}
	if g.hello.version != protocolVersion {
		return fmt.Errorf("it speaks version %d, want %d: is %s another program?", g.hello.version, protocolVersion, g.cmd.Path)
	}
	self, err := readProc(g.cmd.Process.Pid)
	if err != nil {
		return err
	}
	g.start = self.start
	g.wall, g.mono = time.Now(), monotonic()
	return g.sock.SetReadDeadline(time.Time{})
}

// Pid returns the guard's process.
func (g *Guard) Pid() int { return g.cmd.Process.Pid }

// Cgroup returns the folder of the group that holds the ranks, "" if there is none, and
// then why it could not be made, if that was asked for.
func (g *Guard) Cgroup() (dir, warning string) { return g.hello.cgroup, g.hello.warning }

// Lost gets an error if the guard dies without having been closed. All that it leaves is
// ended then; Sweep tells when.
func (g *Guard) Lost() <-chan error { return g.lost }

// read takes what the guard says until it is gone.
func (g *Guard) read() {
	buf := make([]byte, maxPacket)
	var cause error
	for {
		n, err := g.sock.Read(buf)
		if err != nil {
			if err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
				cause = err
			}
			break
		}
		p, err := parsePacket(buf[:n])
		if err == nil {
			err = g.take(p)
		}
		if err != nil {
			cause = fmt.Errorf("what the guard says: %w", err)
			break
		}
	}
	g.finish(cause)
}

func (g *Guard) take(p packet) error {
	if p.kind == kindExit {
		x, err := decodeExit(p.body)
		if err != nil {
			return err
		}
		g.exited(p.seq, Exit{
			Code: x.code, Signal: x.signal, CoreDumped: x.core, MaxRSS: x.maxRSS, Strays: x.strays,
			At: g.wall.Add(time.Duration(x.at - g.mono)),
		})
		return nil
	}
	g.mu.Lock()
	answer := g.calls[p.seq]
	delete(g.calls, p.seq)
	g.said = g.said || p.seq == g.bye
	g.mu.Unlock()
	if answer != nil {
		answer <- append([]byte{p.kind}, p.body...)
	}
	return nil
}

// finish ends the guard, if it still lives, and all that it may have left.
func (g *Guard) finish(cause error) {
	g.mu.Lock()
	g.gone = true
	said := g.said
	g.mu.Unlock()
	if !said {
		_ = g.cmd.Process.Kill() // it dies or talks nonsense
	}
	err := g.cmd.Wait()
	g.sock.Close()
	g.mu.Lock()
	for seq, answer := range g.calls {
		close(answer)
		delete(g.calls, seq)
	}
	g.mu.Unlock()
	if said {
		// It has waited for what it killed: this look is for what its group still holds.
		g.sweep(0)
		close(g.ended)
		return
	}
	if cause == nil {
		cause = err
	}
	g.loss = fmt.Errorf("%w: %v", ErrLost, cause)
	g.lost <- g.loss
	g.left = g.sweep(killTime)
	close(g.ended)
}

// call sends a request and waits for its answer's kind and body.
func (g *Guard) call(seq uint64, kind byte, packets [][]byte, files []int) ([]byte, error) {
	answer := make(chan []byte, 1)
	g.mu.Lock()
	if g.gone {
		g.mu.Unlock()
		return nil, ErrLost
	}
	g.calls[seq] = answer
	g.mu.Unlock()
	g.send.Lock()
	var err error
	for i, p := range packets {
		last := i == len(packets)-1
		if !last {
			err = sendPacket(g.sock, p, nil)
		} else {
			err = sendPacket(g.sock, p, files)
		}
		if err != nil {
			break
		}
	}
	g.send.Unlock()
	if err != nil {
		g.mu.Lock()
		delete(g.calls, seq)
		g.mu.Unlock()
		return nil, fmt.Errorf("%w: %v", ErrLost, err)
	}
	b, ok := <-answer
	if !ok {
		return nil, ErrLost
	}
	if b[0] != kind {
		return nil, fmt.Errorf("answer %q, want %q: %w", b[0], kind, errMalformed)
	}
	return b[1:], nil
}

func (g *Guard) number() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next++
	return g.next
}

// Remains is a process of the job that is not dead.
type Remains struct {
	Pid   int
	Of    *Process // the rank that it is or descends from; nil if unknown
	State string   // of /proc: D is one that the kernel holds
	Name  string

	id uint64
}

// Left returns what runs now: ranks and what they have started. At most 500.
func (g *Guard) Left() ([]Remains, error) {
	seq := g.number()
	b, err := g.call(seq, kindLefts, [][]byte{newPacket(kindLeft, seq).b}, nil)
	if err != nil {
		return nil, err
	}
	return g.remains(b)
}

func (g *Guard) remains(b []byte) ([]Remains, error) {
	list, err := decodeLeft(b)
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range list {
		list[i].Of = g.procs[list[i].id]
	}
	return list, err
}

// Close kills what runs, waits until it is gone, and ends the guard. What the kernel
// does not let die within timeout, of at most 10 s, is returned; no end of it is told. If
// the guard is lost, Close waits for the sweep and returns what that left, and ErrLost.
func (g *Guard) Close(timeout time.Duration) ([]Remains, error) {
	seq := g.number()
	g.mu.Lock()
	first := g.bye == 0
	if first {
		g.bye = seq
	}
	g.mu.Unlock()
	var list []Remains
	if first {
		e := newPacket(kindClose, seq)
		e.int(int64(timeout))
		// An error is that the guard is lost, which g.loss says, too.
		if b, err := g.call(seq, kindLefts, [][]byte{e.b}, nil); err == nil {
			if list, err = g.remains(b); err != nil {
				return nil, err
			}
		}
	}
	<-g.ended
	if g.loss != nil {
		return g.left, g.loss
	}
	return list, nil
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // it does not fail on Linux
	}
	return ts.Nano()
}

func markPrefix(pid int, start uint64) string {
	return strconv.Itoa(pid) + "." + strconv.FormatUint(start, 10) + "."
}
