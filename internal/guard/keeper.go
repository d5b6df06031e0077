package guard

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeper is the guard's state. All of it belongs to the thread that serves.
type keeper struct {
	self  int    // our number
	mark  string // begins the marks of our ranks
	sock  int
	epoll int
	wake  int // an eventfd: a child ended or stopped
	null  int
	group *killGroup // nil if there is none

	ranks    map[uint64]*rank // that live
	byPidfd  map[int]*rank
	sweeping map[uint64]*rank // that ended, while descendants of theirs may live
	known    map[identity]uint64
	ended    []*rank // in this round, in order

	spec  []byte   // the parts of a start so far
	out   [][]byte // that the socket did not take yet
	stamp int64
	pause int           // ms until the next look at what was killed
	end   time.Duration // how long a close may take
	close uint64        // its number, 0 if there was none
}

type rank struct {
	id     uint64
	pid    int
	pidfd  int // -1 where the kernel has none
	exit   exit
	strays int
}

// identity is a process as long as the machine runs.
type identity struct {
	pid   int
	start uint64
}

func newKeeper(sock int) (*keeper, error) {
	k := &keeper{
		self: os.Getpid(), sock: sock,
		ranks: map[uint64]*rank{}, byPidfd: map[int]*rank{}, sweeping: map[uint64]*rank{}, known: map[identity]uint64{},
	}
	self, err := readProc(k.self)
	if err != nil {
		return nil, fmt.Errorf("read /proc: %w", err)
	}
	k.mark = markPrefix(k.self, self.start)
	if k.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("open /dev/null: %w", err)
	}
	if k.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if k.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	for _, fd := range []int{k.sock, k.wake} {
		if err := k.watch(fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *keeper) watch(fd int, events uint32) error {
	err := unix.EpollCtl(k.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	if err != nil {
		return fmt.Errorf("epoll: watch %d: %w", fd, err)
	}
	return nil
}

// watchChildren makes the eventfd tell of children that have no pidfd: those that we
// inherited.
func (k *keeper) watchChildren() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	go func() {
		for range c {
			_, _ = unix.Write(k.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // EAGAIN: it is set
		}
	}()
}

// errGone is that the launcher has closed its end.
var errGone = errors.New("the launcher has gone")

// serve does what the launcher says until it has gone or closes.
func (k *keeper) serve() error {
	for {
		timeout := -1
		if len(k.sweeping) > 0 {
			// What was killed is to be seen dead. Its end wakes us, unless its parent is
			// another process.
			k.pause = min(max(2*k.pause, 10), 1000)
			timeout = k.pause
		}
		listen, err := k.wait(timeout)
		if err != nil {
			return err
		}
		if listen {
			err = k.listen()
		}
		k.settle()
		if errors.Is(err, errGone) || k.close != 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// wait waits for something, at most timeout ms, and sees to children that have ended. It
// says whether the launcher has said something.
func (k *keeper) wait(timeout int) (listen bool, err error) {
	var events [64]unix.EpollEvent
	n, err := unix.EpollWait(k.epoll, events[:], timeout)
	if err == unix.EINTR {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("epoll: %w", err)
	}
	children := false
	for _, e := range events[:n] {
		switch fd := int(e.Fd); fd {
		case k.sock:
			if e.Events&unix.EPOLLOUT != 0 {
				k.flush()
			}
			listen = e.Events&^uint32(unix.EPOLLOUT) != 0
		case k.wake:
			var b [8]byte
			_, _ = unix.Read(k.wake, b[:])
			children = true
		default:
			if r := k.byPidfd[fd]; r != nil {
				k.reapRank(r)
			}
		}
	}
	if children {
		k.reapOthers()
	}
	return listen, nil
}

// listen takes what the launcher has said.
func (k *keeper) listen() error {
	buf, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*maxFiles))
	for k.close == 0 {
		b, files, err := receive(k.sock, buf, oob)
		if err == unix.EAGAIN {
			return nil
		}
		if err == unix.ECONNRESET || err == nil && len(b) == 0 {
			closeAll(files)
			return errGone
		}
		if err == nil {
			err = k.do(b, files)
		}
		closeAll(files)
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) do(b []byte, files []int) error {
	p, err := parsePacket(b)
	if err != nil {
		return err
	}
	d := decoder{b: p.body}
	switch p.kind {
	case kindPart, kindStart:
		if len(k.spec)+len(p.body) > maxSpec {
			return fmt.Errorf("a start of more than %d bytes: %w", maxSpec, errMalformed)
		}
		k.spec = append(k.spec, p.body...)
		if p.kind == kindPart {
			return nil
		}
		spec, err := decodeSpec(k.spec)
		k.spec = nil
		if err != nil {
			return err
		}
		answer, err := k.start(p.seq, spec, files)
		if err != nil {
			return err
		}
		k.say(answer.encode(p.seq))
	case kindSignal:
		sig, ids := unix.Signal(d.int()), d.ints()
		if err := d.end(); err != nil {
			return err
		}
		e := newPacket(kindSignals, p.seq)
		e.ints(k.signal(sig, ids))
		k.say(e.b)
	case kindLeft:
		k.say(encodeLeft(p.seq, k.left()))
	case kindClose:
		k.end, k.close = time.Duration(d.int()), p.seq
		return d.end()
	default:
		return fmt.Errorf("request %q: %w", p.kind, errMalformed)
	}
	return nil
}

// say sends to the launcher, or keeps for later what the socket has no room for: the
// guard never waits for a launcher that is stopped.
func (k *keeper) say(b []byte) {
	k.out = append(k.out, b)
	k.flush()
}

func (k *keeper) flush() {
	for len(k.out) > 0 {
		err := unix.Sendto(k.sock, k.out[0], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			break
		}
		k.out = k.out[1:] // any other error is that it has gone, which reading tells
	}
	events := uint32(unix.EPOLLIN)
	if len(k.out) > 0 {
		events |= unix.EPOLLOUT
	}
	_ = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_MOD, k.sock, &unix.EpollEvent{Events: events, Fd: int32(k.sock)})
}

func (k *keeper) markOf(id uint64) string { return k.mark + strconv.FormatUint(id, 10) }

// rankOf reads a mark of ours, 0 if it is not.
func (k *keeper) rankOf(mark string) uint64 {
	number, ok := strings.CutPrefix(mark, k.mark)
	if !ok {
		return 0
	}
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	return id
}
