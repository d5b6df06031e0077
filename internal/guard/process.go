package guard

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is a rank to start.
type Spec struct {
	Path string // absolute, or as seen from Dir; not searched for
	Args []string
	Env  []string // all of it; the guard adds one variable to know the rank's descendants by
	Dir  string   // "" is the launcher's at the time of guard.Start
	// Files are the rank's 0, 1, 2 and so on; nil, and each missing one of the first three,
	// is /dev/null. They stay the caller's, who closes them. They are made blocking, as
	// programs expect.
	Files []*os.File
	// CPUs are those that the rank may run on, set before it runs; nil leaves the guard's,
	// which are the launcher's at the time of guard.Start.
	CPUs []int
	// MemNodes are the NUMA nodes that its memory comes from as long as they have some.
	MemNodes    []int
	OOMScoreAdj int // -1000 to 1000, 0 leaves it as it is
}

// Process is a rank's process.
type Process struct {
	guard    *Guard
	id       uint64
	pid      int
	warnings []string
	exited   chan Exit
}

// Exit is how a rank ended.
type Exit struct {
	Code   int       // if Signal is 0
	Signal int       // that killed it, 0 if none did
	At     time.Time // when the guard saw it, ranks in the order of their ends
	MaxRSS int64     // bytes, the most that it, or one of its children that it waited for, had
	// CoreDumped says that the kernel wrote a core file.
	CoreDumped bool
	Strays     int // processes outside its group that it left, and that were killed
}

// Start starts a rank in a process group of its own. An *fs.PathError with the errno says
// what could not be done: fs.ErrNotExist and fs.ErrPermission can be told apart by
// errors.Is, as can syscall.ENOEXEC. ErrLost is that there is no guard.
func (g *Guard) Start(s Spec) (*Process, error) {
	if len(s.Files) > maxFiles {
		return nil, fmt.Errorf("%d files for a rank, want at most %d", len(s.Files), maxFiles)
	}
	wire := wireSpec{
		Path: s.Path, Args: s.Args, Env: s.Env, Dir: s.Dir,
		CPUs: s.CPUs, MemNodes: s.MemNodes, OOMScoreAdj: s.OOMScoreAdj,
	}
	var files []int
	for i := range max(len(s.Files), 3) {
		present := 0
		if i < len(s.Files) && s.Files[i] != nil {
			// The number is good as long as s.Files is kept, to the end of this function.
			fd, err := fileNumber(s.Files[i])
			if err != nil {
				return nil, fmt.Errorf("file %d for a rank: %w", i, err)
			}
			files, present = append(files, fd), 1
		}
		wire.Present = append(wire.Present, present)
	}
	body := wire.encode()
	if len(body) > maxSpec {
		return nil, &fs.PathError{Op: "exec", Path: s.Path, Err: syscall.E2BIG}
	}
	p := &Process{guard: g, id: g.number(), exited: make(chan Exit, 1)}
	parts := slices.Collect(slices.Chunk(body, maxPacket-headerBytes))
	packets := make([][]byte, len(parts))
	for i, part := range parts {
		kind := byte(kindPart)
		if i == len(parts)-1 {
			kind = kindStart
		}
		packets[i] = append(newPacket(kind, p.id).b, part...)
	}
	g.mu.Lock()
	g.procs[p.id] = p // its end can come before the answer is read
	g.mu.Unlock()
	answer, err := g.call(p.id, kindStarted, packets, files)
	runtime.KeepAlive(s.Files)
	var st started
	if err == nil {
		st, err = decodeStarted(answer)
	}
	if err == nil && st.errno != 0 {
		err = &fs.PathError{Op: st.op, Path: st.path, Err: syscall.Errno(st.errno)}
	}
	if err != nil {
		g.mu.Lock()
		delete(g.procs, p.id)
		g.mu.Unlock()
		return nil, err
	}
	g.mu.Lock()
	p.pid, p.warnings = st.pid, st.warnings
	g.mu.Unlock()
	return p, nil
}

// Pid returns the rank's process, which leads its group.
func (p *Process) Pid() int { return p.pid }

// Warnings says what of its placement the kernel did not allow, a line each.
func (p *Process) Warnings() []string { return p.warnings }

// Exited gets the process' end, once, and is closed then. If the guard was lost, the
// launcher has waited for it itself.
func (p *Process) Exited() <-chan Exit { return p.exited }

// Signal sends to the rank and all that it started. It says whether the rank itself was
// alive, so that its end can be the signal's doing.
func (p *Process) Signal(sig syscall.Signal) (alive bool) {
	return p.guard.Signal(sig, p)[0]
}

// Signal sends to several ranks at once and all that they started, with one look at the
// processes of the machine. It says which ranks were alive.
func (g *Guard) Signal(sig syscall.Signal, ps ...*Process) []bool {
	alive := make([]bool, len(ps))
	if len(ps) == 0 {
		return alive
	}
	if len(ps) > maxAtOnce {
		return append(g.Signal(sig, ps[:maxAtOnce]...), g.Signal(sig, ps[maxAtOnce:]...)...)
	}
	seq := g.number()
	e := newPacket(kindSignal, seq)
	e.int(int64(sig))
	ids := make([]int, len(ps))
	for i, p := range ps {
		ids[i] = int(p.id)
	}
	e.ints(ids)
	b, err := g.call(seq, kindSignals, [][]byte{e.b}, nil)
	if err != nil {
		return alive // ranks die with the guard; the sweep ends what does not
	}
	d := decoder{b: b}
	answers := d.ints()
	if d.end() != nil || len(answers) != len(ps) {
		return alive
	}
	for i, a := range answers {
		alive[i] = a != 0
	}
	return alive
}

// exited hands a rank's end on.
func (g *Guard) exited(id uint64, x Exit) {
	g.mu.Lock()
	p := g.procs[id]
	delete(g.procs, id)
	g.mu.Unlock()
	if p != nil {
		p.exited <- x
		close(p.exited)
	}
}

// fileNumber returns f's number without making f blocking, as f.Fd does.
func fileNumber(f *os.File) (int, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	number := -1
	err = raw.Control(func(fd uintptr) { number = int(fd) })
	if err == nil && number < 0 {
		err = unix.EBADF
	}
	return number, err
}
