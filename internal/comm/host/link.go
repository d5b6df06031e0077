package host

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wanrun/wanrun/internal/comm/engine"
)

// link is the connection to one peer.
type link struct {
	c    *carrier
	peer int
	conn net.Conn
	seg  *segment      // the peer's; nil over TCP
	over chan struct{} // closed when the peer says nothing more

	held atomic.Int32 // inline chunks here that are not acknowledged

	mu      sync.Mutex // of writing, and:
	buf     []byte
	broken  error // no more can be written
	goodbye bool  // the peer has said goodbye and was answered
}

var errLeft = errors.New("the peer has closed its groups")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write writes one frame, made by fill in a buffer, and data behind it.
func (l *link) write(fill func([]byte) []byte, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if l.goodbye {
		return errLeft
	}
	return l.writeLocked(fill, data)
}

func (l *link) writeLocked(fill func([]byte) []byte, data []byte) error {
	l.buf = fill(l.buf[:0])
	var err error
	if len(data) == 0 {
		_, err = l.conn.Write(l.buf)
	} else {
		both := net.Buffers{l.buf, data}
		_, err = both.WriteTo(l.conn)
	}
	if err != nil { // perhaps half a frame: the peer can make no sense of more
		l.broken = err
	}
	return err
}

// read handles the peer's frames until the connection ends.
func (l *link) read() {
	err := l.frames()
	l.mu.Lock()
	if l.broken == nil {
		l.broken = io.ErrClosedPipe
	}
	l.mu.Unlock()
	if errors.Is(err, io.EOF) {
		err = nil // the plain end; half a frame is io.ErrUnexpectedEOF
	}
	l.c.world.Lost(l.peer, err)
	select {
	case <-l.over:
	default:
		close(l.over)
	}
}

func (l *link) frames() error {
	r := bufio.NewReaderSize(l.conn, 32<<10)
	var buf []byte
	for {
		kind, b, keep, err := readFrame(r, buf)
		if err != nil {
			return err
		}
		buf = keep
		switch kind {
		case frameSlot, frameInline, frameAck:
			err = l.chunk(r, kind, b)
		case frameByeAck:
			close(l.over)
			_, err := io.Copy(io.Discard, r)
			return err
		default:
			var m engine.Message
			if m, err = parseMessage(kind, b); err != nil {
				break
			}
			l.c.world.Handle(l.peer, m)
			if kind == frameBye {
				err = l.answerGoodbye()
			}
		}
		if err != nil {
			return err
		}
	}
}

// answerGoodbye writes the last frame to a peer that leaves, so that it can close
// with nothing unread, which over TCP would destroy what it has sent.
func (l *link) answerGoodbye() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return nil
	}
	l.goodbye = true
	if err := l.writeLocked(func(b []byte) []byte { return ended(begun(b, frameByeAck)) }, nil); err != nil {
		return nil // the peer is gone already, as it said
	}
	return nil
}

func (l *link) chunk(r io.Reader, kind frameKind, b []byte) error {
	f, err := parseChunk(kind, b)
	if err != nil {
		return err
	}
	c := &chunk{l: l, frame: f}
	switch kind {
	case frameAck:
		return l.c.acked(l, f)
	case frameSlot:
		begin, size := int64(f.slot)*int64(l.c.cfg.SlotBytes), int64(l.c.cfg.SlotBytes)
		if l.seg == nil || int64(f.length) > size || begin+size > int64(len(l.seg.bytes)) {
			return fmt.Errorf("chunk of %d bytes in slot %d: %w", f.length, f.slot, errFrame)
		}
		c.data = l.seg.bytes[begin : begin+int64(f.length)]
	case frameInline:
		if l.seg != nil || int64(f.length) > int64(l.c.cfg.SlotBytes) || l.held.Add(1) > inlineWindow {
			return fmt.Errorf("inline chunk of %d bytes: %w", f.length, errFrame)
		}
		c.data = l.c.buffer()[:f.length]
		if _, err := io.ReadFull(r, c.data); err != nil {
			return err
		}
	}
	l.c.world.Deliver(l.peer, f.group, c)
	return nil
}

// chunk is data from a peer, in its segment or in a buffer of this rank.
type chunk struct {
	l     *link
	frame chunkFrame
	data  []byte
}

func (c *chunk) Len() int { return len(c.data) }

func (c *chunk) CopyTo(dst []byte) error {
	copy(dst, c.data)
	if c.frame.summed {
		if sum := crc32.Checksum(dst, castagnoli); sum != c.frame.sum {
			return fmt.Errorf("checksum %08x, sent with %08x: the data was changed on its way", sum, c.frame.sum)
		}
	}
	if c.frame.slot == inlineSlot {
		c.l.held.Add(-1)
		c.l.c.reuse(c.data)
	}
	// A peer that cannot be told is lost, which its reader says.
	_ = c.l.write(func(b []byte) []byte { return appendChunk(b, frameAck, c.frame) }, nil)
	return nil
}

// within limits the time of all writes, so that one that is stuck ends.
func (l *link) within(d time.Duration) {
	_ = l.conn.SetWriteDeadline(time.Now().Add(d)) // a closed connection needs none
}
