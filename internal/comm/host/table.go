package host

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/pkg/comm"
)

// table is where each rank listens for ranks of other nodes. Rank 0 collects it and
// gives it to all.
type table struct {
	mu     sync.Mutex
	addrs  []string
	left   int
	ready  chan struct{} // closed when complete, or failed
	failed *comm.Failure
}

func newTable(size int) *table {
	return &table{addrs: make([]string, size), left: size - 1, ready: make(chan struct{})}
}

func (t *table) get(rank int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addrs[rank]
}

// put enters a rank's address; a second one is an error.
func (t *table) put(rank int, addr string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addrs[rank] != "" || t.left == 0 {
		return fmt.Errorf("rank %d asks twice for the addresses", rank)
	}
	t.addrs[rank] = addr
	if t.left--; t.left == 0 && t.failed == nil {
		close(t.ready)
	}
	return nil
}

func (t *table) fail(f *comm.Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil && t.left > 0 {
		t.failed = f
		close(t.ready)
	}
}

// maxAddr bounds a host:port.
const maxAddr = 300

// askTable tells rank 0 where this rank listens and learns where all do. The
// interface is the one that reaches rank 0.
func (j *joining) askTable(ctx context.Context) error {
	conn, err := j.dial(ctx, 0, "tcp", j.cfg.Root, forTable)
	if err != nil {
		return err
	}
	defer func() {
		j.letGo(conn)
		_ = conn.Close() // all has been read
	}()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return err
	}
	l, err := keepAlive.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return fmt.Errorf("listen for the ranks of other nodes: %w", err)
	}
	j.serve(l)
	if _, err := conn.Write(appendText(nil, l.Addr().String(), maxAddr)); err != nil {
		return j.lost(ctx, 0, err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil { // ctx limits it
		return err
	}
	for rank := range j.cfg.Size {
		if rank == 0 {
			kind, b, _, err := readFrame(conn, nil)
			if err != nil {
				return j.lost(ctx, 0, err)
			}
			if m, err := parseMessage(kind, b); err != nil || m.Kind == engine.KindAbort {
				if err == nil {
					err = m.Failure
				}
				return err
			}
			continue
		}
		addr, err := readAddr(conn)
		if err != nil {
			return j.lost(ctx, 0, err)
		}
		j.table.mu.Lock()
		j.table.addrs[rank] = addr
		j.table.mu.Unlock()
	}
	return nil
}

// giveTable is rank 0's side: a frame that says go on, or why not, then the
// addresses of ranks 1 and up.
func (j *joining) giveTable(conn net.Conn, peer int) error {
	if j.cfg.Rank != 0 {
		return fmt.Errorf("rank %d asks rank %d for the addresses", peer, j.cfg.Rank)
	}
	addr, err := readAddr(conn)
	if err != nil {
		return err
	}
	if err := j.table.put(peer, addr); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	// Nothing more comes from the peer but the end, should it die.
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, err := conn.Read(make([]byte, 1))
		select {
		case <-j.table.ready:
		default:
			j.world.Lost(peer, err)
		}
	}()
	<-j.table.ready
	answer := appendMessage(nil, engine.Message{Kind: engine.KindEnter})
	if f := j.table.failed; f != nil {
		answer = appendMessage(nil, engine.Message{Kind: engine.KindAbort, Failure: f})
	} else {
		for rank := 1; rank < j.cfg.Size; rank++ {
			answer = appendText(answer, j.table.get(rank), maxAddr)
		}
	}
	if err = conn.SetWriteDeadline(time.Now().Add(proofTimeout)); err == nil {
		_, err = conn.Write(answer)
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Now().Add(proofTimeout))
	}
	<-gone // the peer closes
	j.letGo(conn)
	_ = conn.Close()
	return err
}

func readAddr(r io.Reader) (string, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", err
	}
	if le.Uint16(n[:]) > maxAddr {
		return "", fmt.Errorf("address of %d bytes: %w", le.Uint16(n[:]), errFrame)
	}
	b := make([]byte, le.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return string(b), err
}
