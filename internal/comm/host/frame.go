package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// A frame is its length (u32, of what follows), its kind (u8) and its fields, all
// little-endian; texts are a u16 length and bytes. An inline frame is followed by
// its data.
type frameKind uint8

const (
	frameAnnounce frameKind = iota + 1
	frameEnter
	frameAbort
	frameBye
	frameByeAck // nothing follows on this connection
	frameSlot   // a chunk lies in the sender's segment
	frameInline // a chunk follows
	frameAck    // a chunk was copied
)

// maxFrame bounds a frame without its inline data, maxText the text of a failure.
const (
	maxFrame = 16 << 10
	maxText  = 8 << 10
)

// inlineSlot is the slot number of a chunk that lay in no slot.
const inlineSlot = 0xffffffff

// chunkFrame is a frameSlot, frameInline or frameAck; an ack has no length and sum.
type chunkFrame struct {
	group  uint64
	slot   uint32
	length uint32
	sum    uint32 // CRC-32C, if summed
	summed bool
}

var le = binary.LittleEndian

func appendText(b []byte, s string, limit int) []byte {
	s = s[:min(len(s), limit)]
	return append(le.AppendUint16(b, uint16(len(s))), s...)
}

func appendPlace(b []byte, p comm.Place) []byte {
	b = appendText(b, p.Phase, comm.MaxLabel)
	b = appendText(b, p.Purpose, comm.MaxLabel)
	return le.AppendUint64(le.AppendUint64(b, uint64(p.Step)), uint64(p.Block))
}

// begun returns b with room for the length and the kind; ended fills the length in.
func begun(b []byte, k frameKind) []byte { return append(append(b, 0, 0, 0, 0), byte(k)) }

func ended(b []byte) []byte {
	le.PutUint32(b, uint32(len(b)-4))
	return b
}

func appendMessage(b []byte, m engine.Message) []byte {
	switch m.Kind {
	case engine.KindAnnounce:
		a := m.Announce
		b = le.AppendUint64(begun(b, frameAnnounce), m.Group)
		b = append(b, byte(a.Op), byte(a.DType), byte(a.Reduce))
		b = le.AppendUint32(b, uint32(a.Peer))
		b = le.AppendUint64(b, uint64(a.Seq))
		b = le.AppendUint64(b, uint64(a.To))
		b = le.AppendUint64(b, uint64(a.From))
		b = appendPlace(b, a.Place)
	case engine.KindEnter:
		b = appendPlace(begun(b, frameEnter), m.Where)
	case engine.KindAbort:
		f := m.Failure
		b = append(begun(b, frameAbort), failureCode(f.Kind))
		b = le.AppendUint32(le.AppendUint32(b, uint32(f.Rank)), uint32(f.By))
		b = appendText(b, f.Text, maxText)
	case engine.KindBye:
		b = begun(b, frameBye)
	}
	return ended(b)
}

// failureKinds are the codes of the kinds of failure.
var failureKinds = [...]error{comm.ErrAborted, comm.ErrTimeout, comm.ErrMismatch, comm.ErrPeerLost}

func failureCode(kind error) byte {
	for i, k := range failureKinds {
		if k == kind {
			return byte(i)
		}
	}
	return 0
}

func appendChunk(b []byte, k frameKind, c chunkFrame) []byte {
	b = le.AppendUint32(le.AppendUint64(begun(b, k), c.group), c.slot)
	if k != frameAck {
		b = le.AppendUint32(b, c.length)
		if c.summed {
			b = le.AppendUint32(b, c.sum)
		}
	}
	return ended(b)
}

var errFrame = errors.New("not a frame of this version")

// readFrame reads a frame into buf, which it may replace, and returns its kind and
// fields, which lie in buf.
func readFrame(r io.Reader, buf []byte) (k frameKind, fields, keep []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, buf, err
	}
	n := le.Uint32(head[:])
	if n < 1 || n > maxFrame {
		return 0, nil, buf, fmt.Errorf("length %d: %w", n, errFrame)
	}
	if cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	fields = buf[:n-1]
	_, err = io.ReadFull(r, fields)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return frameKind(head[4]), fields, buf, err
}

// fields takes values off a frame; the first that is missing sets bad.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n > len(f.b) {
		f.bad = true
		return make([]byte, n)
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) u8() uint8   { return f.take(1)[0] }
func (f *fields) u32() uint32 { return le.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return le.Uint64(f.take(8)) }

func (f *fields) text(limit int) string {
	n := int(le.Uint16(f.take(2)))
	if n > limit {
		f.bad = true
		return ""
	}
	return string(f.take(n))
}

func (f *fields) place() comm.Place {
	return comm.Place{Phase: f.text(comm.MaxLabel), Purpose: f.text(comm.MaxLabel), Step: int(f.u64()), Block: int(f.u64())}
}

// end returns an error unless every field was there and nothing else.
func (f *fields) end(k frameKind) error {
	if f.bad || len(f.b) > 0 {
		return fmt.Errorf("frame of kind %d: %w", k, errFrame)
	}
	return nil
}

// parseMessage returns the message of a frame that is one.
func parseMessage(k frameKind, b []byte) (m engine.Message, err error) {
	f := &fields{b: b}
	switch k {
	case frameAnnounce:
		m.Kind, m.Group = engine.KindAnnounce, f.u64()
		a := &m.Announce
		a.Op, a.DType, a.Reduce = comm.Op(f.u8()), tensor.DType(f.u8()), comm.Reduction(f.u8())
		a.Peer, a.Seq = int32(f.u32()), int64(f.u64())
		a.To, a.From = int64(f.u64()), int64(f.u64())
		a.Place = f.place()
	case frameEnter:
		m.Kind, m.Where = engine.KindEnter, f.place()
	case frameAbort:
		code := int(f.u8())
		if code >= len(failureKinds) {
			code, f.bad = 0, true
		}
		m.Kind = engine.KindAbort
		m.Failure = &comm.Failure{Kind: failureKinds[code], Rank: int(int32(f.u32())), By: int(int32(f.u32())), Text: f.text(maxText)}
	case frameBye:
		m.Kind = engine.KindBye
	default:
		f.bad = true
	}
	return m, f.end(k)
}

func parseChunk(k frameKind, b []byte) (c chunkFrame, err error) {
	f := &fields{b: b}
	c.group, c.slot = f.u64(), f.u32()
	if k != frameAck {
		c.length = f.u32()
		if c.summed = len(f.b) > 0; c.summed {
			c.sum = f.u32()
		}
	}
	return c, f.end(k)
}
