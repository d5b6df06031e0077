package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// eachRank joins three ranks of a node and runs fn on each.
func eachRank(t *testing.T, fn func(rank int, g comm.Group) error) []error {
	t.Helper()
	groups, errs := connect(t.Context(), job(t, []int{0, 0, 0}, nil))
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for rank, g := range groups {
		wait.Go(func() { errs[rank] = errors.Join(fn(rank, g), g.Close()) })
	}
	wait.Wait()
	return errs
}

// TestShareMemory: what each rank writes, every other one sees; nothing has a name
// afterwards.
func TestShareMemory(t *testing.T) {
	for _, n := range []int64{0, 1, 5000, 3 << 20} {
		for rank, err := range eachRank(t, func(rank int, g comm.Group) error {
			m, err := ShareMemory(t.Context(), g, n)
			if err != nil {
				return err
			}
			b := m.Bytes()
			if int64(len(b)) != n {
				return fmt.Errorf("%d bytes, want %d", len(b), n)
			}
			for i := rank; i < len(b); i += 3 {
				if b[i] != 0 {
					return fmt.Errorf("byte %d is %d at first", i, b[i])
				}
				b[i] = byte(i%251) + 1
			}
			if err := g.Barrier(t.Context(), comm.Place{}); err != nil {
				return err
			}
			for i := range b {
				if b[i] != byte(i%251)+1 {
					return fmt.Errorf("byte %d is %d, want %d", i, b[i], i%251+1)
				}
			}
			// The first rank's end takes nothing from the others.
			if rank == 0 {
				if err := m.Close(); err != nil {
					return err
				}
			}
			if err := g.Barrier(t.Context(), comm.Place{}); err != nil {
				return err
			}
			if rank == 0 {
				return nil
			}
			for i := range b {
				if b[i] != byte(i%251)+1 {
					return fmt.Errorf("byte %d is %d after the first rank has gone, want %d", i, b[i], i%251+1)
				}
			}
			return m.Close()
		}) {
			if err != nil {
				t.Errorf("%d bytes, rank %d: %v", n, rank, err)
			}
		}
	}
	left, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(left), "wanrun-memory-") {
		t.Errorf("a socket is left:\n%s", left)
	}
}

// TestShareMemoryFails: a rank that fails instead of coming ends the waiting of the
// others, before and after they know where to come.
func TestShareMemoryFails(t *testing.T) {
	broken := errors.New("it broke")
	for _, late := range []int{0, 2} {
		start := time.Now()
		errs := eachRank(t, func(rank int, g comm.Group) error {
			if rank == late {
				if late != 0 { // it hears of the socket, but never comes
					if err := broadcast(t.Context(), g, make([]byte, memoryName+memoryProof)); err != nil {
						return err
					}
				}
				g.Abort(broken)
				return nil
			}
			m, err := ShareMemory(t.Context(), g, 4096)
			if err == nil {
				err = m.Close()
			}
			return err
		})
		for rank, err := range errs {
			if err == nil && rank != 0 && late != 0 {
				continue // it had got the memory before the other failed
			}
			if rank != late && !errors.Is(err, comm.ErrAborted) {
				t.Errorf("rank %d, where rank %d fails: %v, want ErrAborted", rank, late, err)
			}
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
	}
	for rank, err := range eachRank(t, func(_ int, g comm.Group) error {
		_, err := ShareMemory(t.Context(), g, -1)
		return err
	}) {
		if !errors.Is(err, tensor.ErrNoMemory) {
			t.Errorf("-1 bytes, rank %d: %v", rank, err)
		}
	}
}

// TestMemoryStrangers: whoever does not know the proof gets nothing, and does not keep
// the ranks from sharing.
func TestMemoryStrangers(t *testing.T) {
	secret := make([]byte, memoryName+memoryProof)
	secret[0], secret[memoryName] = 1, 2
	l, err := net.Listen("unix", memoryAddress(secret))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := newSegment(4096)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	answered := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = passTo(conn.(*net.UnixConn), secret[memoryName:], s.fd)
			_ = conn.Close()
		}
		answered <- err
	}()
	wrong := append([]byte{}, secret...)
	wrong[memoryName]++
	if m, err := takeMemory(context.Background(), wrong, 4096); err == nil {
		t.Errorf("a stranger got %d bytes", len(m.Bytes()))
	}
	if err := <-answered; err == nil || !strings.Contains(err.Error(), "wrong proof") {
		t.Errorf("a stranger was answered with %v", err)
	}
}
