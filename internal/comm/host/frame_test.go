package host

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/comm/engine"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/tensor"
)

var messages = []engine.Message{
	{Kind: engine.KindAnnounce, Group: 1 << 63, Announce: engine.Announcement{Op: comm.OpShift, Seq: 812, DType: tensor.BF16,
		Reduce: comm.Max, Peer: -1, Place: comm.Place{Phase: "denoise", Purpose: "qkv", Step: 4, Block: 17}, To: 1 << 40, From: 3}},
	{Kind: engine.KindEnter, Where: comm.Place{Phase: strings.Repeat("p", comm.MaxLabel)}},
	{Kind: engine.KindAbort, Failure: &comm.Failure{Kind: comm.ErrPeerLost, Rank: -1, By: 3, Text: "rank 2 is gone"}},
	{Kind: engine.KindAbort, Failure: &comm.Failure{Kind: comm.ErrMismatch, Rank: 7, Text: ""}},
	{Kind: engine.KindBye},
}

func TestMessageRoundTrip(t *testing.T) {
	for _, m := range messages {
		kind, b, _, err := readFrame(bytes.NewReader(appendMessage(nil, m)), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseMessage(kind, b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("sent %+v with failure %+v, got %+v with %+v", m, m.Failure, got, got.Failure)
		}
	}
}

// TestLongText cuts what would not fit a frame.
func TestLongText(t *testing.T) {
	m := engine.Message{Kind: engine.KindAbort, Failure: &comm.Failure{Kind: comm.ErrAborted, Text: strings.Repeat("x", 1<<20)}}
	kind, b, _, err := readFrame(bytes.NewReader(appendMessage(nil, m)), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseMessage(kind, b)
	if err != nil || len(got.Failure.Text) != maxText {
		t.Errorf("text of %d bytes, error %v; expected %d", len(got.Failure.Text), err, maxText)
	}
}

// FuzzFrame reads any bytes as frames: no panic, no large buffer, and what is
// understood is written the same way again.
func FuzzFrame(f *testing.F) {
	for _, m := range messages {
		f.Add(appendMessage(nil, m))
	}
	f.Add(appendChunk(nil, frameSlot, chunkFrame{group: 1, slot: 2, length: 3, sum: 4, summed: true}))
	f.Add(appendChunk(nil, frameAck, chunkFrame{group: 1, slot: inlineSlot}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var buf []byte
		for {
			begin := len(data) - r.Len()
			kind, b, keep, err := readFrame(r, buf)
			if err != nil {
				return
			}
			if buf = keep; cap(buf) > 2*maxFrame {
				t.Fatalf("buffer of %d bytes", cap(buf))
			}
			raw := data[begin : len(data)-r.Len()]
			var again []byte
			if kind == frameSlot || kind == frameInline || kind == frameAck {
				c, err := parseChunk(kind, b)
				if err != nil {
					continue
				}
				again = appendChunk(nil, kind, c)
			} else {
				m, err := parseMessage(kind, b)
				if err != nil {
					continue
				}
				again = appendMessage(nil, m)
			}
			if !bytes.Equal(again, raw) {
				t.Fatalf("frame %x is written as %x", raw, again)
			}
		}
	})
}

// FuzzHello parses any bytes as a dialer's first message.
func FuzzHello(f *testing.F) {
	f.Add(hello{purpose: forLink, from: 3, size: 8}.append(nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHello(data)
		if err == nil && !bytes.Equal(h.append(nil), data) {
			t.Fatalf("hello %x is written as %x", data, h.append(nil))
		}
	})
}
