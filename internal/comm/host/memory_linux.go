package host

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/peercred"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Memory is memory that processes of one node have in common. It has no name, and is
// gone with the last process that maps it, however that ends.
type Memory struct{ segment *segment }

// Bytes is the memory itself.
func (m *Memory) Bytes() []byte {
	if m.segment == nil {
		return nil
	}
	return m.segment.bytes
}

// Close unmaps it; what lies in it must not be used afterwards. Once.
func (m *Memory) Close() error {
	if m.segment == nil {
		return nil
	}
	return m.segment.close()
}

// The first rank of a group tells the others the name of a socket, and what to say there.
const (
	memoryName  = 16 // bytes
	memoryProof = 16
)

var placeOfMemory = comm.Place{Purpose: "shared memory"}

// ShareMemory gives the ranks of g, which are all on one node, n bytes in common, all of
// them zero. It is a collective of g. The first rank reserves the pages and passes them on
// over a socket that exists until then; a failure of the group ends the waiting.
// Asking for more than the machine has gets processes killed: look before.
//
// Errors: tensor.ErrNoMemory, comm.ErrAborted, the cause of ctx.
func ShareMemory(ctx context.Context, g comm.Group, n int64) (*Memory, error) {
	if n < 0 || n > math.MaxInt {
		return nil, fmt.Errorf("%d bytes of shared memory: %w", n, tensor.ErrNoMemory)
	}
	if n == 0 {
		return &Memory{}, nil
	}
	ctx, release := untilFailure(ctx, g)
	defer release()
	secret := make([]byte, memoryName+memoryProof)
	if g.Rank() != 0 {
		if err := broadcast(ctx, g, secret); err != nil {
			return nil, err
		}
		return takeMemory(ctx, secret, int(n))
	}
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("name shared memory: %w", err)
	}
	s, err := newSegment(int(n))
	if err != nil {
		if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w: %w", err, tensor.ErrNoMemory)
		}
		return nil, err
	}
	if err := passMemory(ctx, g, secret, s.fd); err != nil {
		return nil, errors.Join(err, s.close())
	}
	err = unix.Close(s.fd) // the mapping holds it
	s.fd = -1
	if err != nil {
		return nil, errors.Join(fmt.Errorf("shared memory: %w", err), s.close())
	}
	return &Memory{s}, nil
}

// untilFailure is ctx, done also when the group has failed.
func untilFailure(ctx context.Context, g comm.Group) (until context.Context, release func()) {
	until, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-g.Done():
			cancel(g.Err())
		case <-until.Done():
		}
	}()
	return until, func() {
		cancel(nil)
		<-watched
	}
}

func broadcast(ctx context.Context, g comm.Group, b []byte) error {
	t, err := comm.OfBytes(tensor.U8, b, len(b))
	if err != nil {
		return err
	}
	return g.Broadcast(ctx, placeOfMemory, t, 0)
}

// memoryAddress is in the abstract namespace, where it is seen by everybody: hence the
// proof, beside the look at the other side's user.
func memoryAddress(secret []byte) string {
	return "@wanrun-memory-" + hex.EncodeToString(secret[:memoryName])
}

// passMemory hands fd to every other rank of the group.
func passMemory(ctx context.Context, g comm.Group, secret []byte, fd int) error {
	l, err := net.Listen("unix", memoryAddress(secret))
	if err != nil {
		return fmt.Errorf("listen for ranks that share memory: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept then returns
	defer stop()
	defer l.Close() // a second time after a cancel, which changes nothing
	if err := broadcast(ctx, g, secret); err != nil {
		return err
	}
	for left := g.Size() - 1; left > 0; {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("share memory: %w", context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("share memory: %w", err)
		}
		err = passTo(conn.(*net.UnixConn), secret[memoryName:], fd)
		_ = conn.Close() // what was sent has been sent
		if err == nil {
			left-- // others are strangers
		}
	}
	return nil
}

func passTo(conn *net.UnixConn, proof []byte, fd int) error {
	if err := peercred.SameUser(conn); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(proofTimeout)); err != nil {
		return err
	}
	said := make([]byte, len(proof))
	if _, err := io.ReadFull(conn, said); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(said, proof) != 1 {
		return errors.New("wrong proof")
	}
	return pass(conn, fd)
}

func takeMemory(ctx context.Context, secret []byte, n int) (*Memory, error) {
	conn, err := dialer.DialContext(ctx, "unix", memoryAddress(secret))
	if err != nil {
		return nil, fmt.Errorf("reach the rank that shares memory: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // a read then returns
	defer stop()
	defer conn.Close() // a second time after a cancel, which changes nothing
	if err := peercred.SameUser(conn); err != nil {
		return nil, err
	}
	if _, err := conn.Write(secret[memoryName:]); err != nil {
		return nil, fmt.Errorf("reach the rank that shares memory: %w", err)
	}
	fd, err := take(conn.(*net.UnixConn))
	switch {
	case ctx.Err() != nil:
		if err == nil {
			err = unix.Close(fd)
		}
		return nil, errors.Join(fmt.Errorf("share memory: %w", context.Cause(ctx)), err)
	case err != nil:
		return nil, err
	}
	s, err := openSegment(fd, n, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	return &Memory{s}, nil
}
