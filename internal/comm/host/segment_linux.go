package host

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// haveSegments says whether ranks of one node share memory.
const haveSegments = true

// segment is memory that processes share: nameless, of fixed size, and gone with
// the last process that maps it.
type segment struct {
	fd    int // -1 for a peer's
	bytes []byte
}

// newSegment makes a segment with its pages reserved, so that no later write to
// it can fail.
func newSegment(size int) (*segment, error) {
	fd, err := unix.MemfdCreate("wanrun-comm", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make shared segment: %w", err)
	}
	s := &segment{fd: fd}
	if err := unix.Fallocate(fd, 0, 0, int64(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("reserve %d bytes of shared memory: %w", size, err), s.close())
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(fmt.Errorf("seal shared segment: %w", err), s.close())
	}
	s.bytes, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %d bytes of shared memory: %w", size, err), s.close())
	}
	return s, nil
}

// close unmaps the segment.
func (s *segment) close() error {
	var errs []error
	if s.bytes != nil {
		errs = append(errs, unix.Munmap(s.bytes))
		s.bytes = nil
	}
	if s.fd >= 0 {
		errs = append(errs, unix.Close(s.fd))
		s.fd = -1
	}
	return errors.Join(errs...)
}

// openSegment maps a peer's segment with a protection, and closes fd.
func openSegment(fd, size, protection int) (*segment, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("peer's segment: %w", err)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_SHRINK == 0 || st.Size != int64(size) {
		return nil, fmt.Errorf("peer's segment has %d bytes and seals %#x, expected %d and one against shrinking (%v)", st.Size, seals, size, err)
	}
	b, err := unix.Mmap(fd, 0, size, protection, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map peer's segment: %w", err)
	}
	return &segment{fd: -1, bytes: b}, nil
}

// nearAddress is the socket of a rank of this node: a name in the abstract
// namespace, which is no file, and which only who knows the secret can tell.
func nearAddress(c *Config, rank int) (network, address string) {
	h := hmac.New(sha256.New, c.Secret)
	h.Write([]byte("socket of node " + strconv.Itoa(c.Nodes[c.Rank]) + " rank " + strconv.Itoa(rank)))
	return "unix", "@wanrun-comm-" + hex.EncodeToString(h.Sum(nil)[:16])
}

func listenNear(c *Config) (net.Listener, error) {
	l, err := net.Listen(nearAddress(c, c.Rank))
	if err != nil {
		return nil, fmt.Errorf("listen for the ranks of this node: %w", err)
	}
	return l, nil
}

// trade passes this rank's segment and takes the peer's.
func trade(conn net.Conn, own *segment, size int) (*segment, error) {
	c := conn.(*net.UnixConn)
	if err := pass(c, own.fd); err != nil {
		return nil, err
	}
	fd, err := take(c)
	if err != nil {
		return nil, err
	}
	return openSegment(fd, size, unix.PROT_READ)
}

// pass sends a descriptor with one byte.
func pass(c *net.UnixConn, fd int) error {
	if _, _, err := c.WriteMsgUnix([]byte{accepted}, unix.UnixRights(fd), nil); err != nil {
		return fmt.Errorf("pass segment: %w", err)
	}
	return nil
}

// take receives what pass sends.
func take(c *net.UnixConn) (fd int, err error) {
	one, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := c.ReadMsgUnix(one, oob)
	if err != nil {
		return -1, fmt.Errorf("take segment: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || n != 1 || len(messages) != 1 {
		return -1, fmt.Errorf("take segment: %d bytes with %d descriptors (%v)", n, len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("take segment: %d descriptors (%v)", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	return fds[0], nil
}
