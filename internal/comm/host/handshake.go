package host

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// magic names the protocol and its version: ranks of different builds of it do
// not understand each other's frames.
const magic = "wanrcom1"

// purpose is what a connection is for.
type purpose uint8

const (
	forLink  purpose = iota + 1 // collectives between two ranks
	forTable                    // asking rank 0 for the addresses of all
)

// hello is what a dialer says first.
type hello struct {
	purpose          purpose
	from, to, size   uint32
	slotBytes, slots uint32
	nonce            [32]byte
}

const (
	helloBytes = len(magic) + 1 + 5*4 + 32
	macBytes   = sha256.Size
	accepted   = 1
	// proofTimeout is how long a stranger may take to prove who it is.
	proofTimeout = 10 * time.Second
)

func (h hello) append(b []byte) []byte {
	b = append(append(b, magic...), byte(h.purpose))
	for _, v := range []uint32{h.from, h.to, h.size, h.slotBytes, h.slots} {
		b = le.AppendUint32(b, v)
	}
	return append(b, h.nonce[:]...)
}

func parseHello(b []byte) (h hello, err error) {
	if len(b) != helloBytes || !bytes.HasPrefix(b, []byte(magic)) {
		return h, errors.New("not a rank of this version")
	}
	f := &fields{b: b[len(magic):]}
	h.purpose = purpose(f.u8())
	for _, v := range []*uint32{&h.from, &h.to, &h.size, &h.slotBytes, &h.slots} {
		*v = f.u32()
	}
	copy(h.nonce[:], f.take(32))
	return h, nil
}

// mac proves knowledge of the secret for one connection and one side of it.
func mac(secret []byte, side string, hello, nonce []byte) []byte {
	h := hmac.New(sha256.New, secret)
	for _, part := range [][]byte{[]byte(side), hello, nonce} {
		h.Write(part)
	}
	return h.Sum(nil)
}

// dialerProves does the dialer's half: hello and challenge, the listener's proof
// and challenge, own proof, acceptance.
func (c *Config) dialerProves(conn net.Conn, to int, p purpose) error {
	h := c.hello(p)
	h.to = uint32(to)
	if _, err := io.ReadFull(c.Random, h.nonce[:]); err != nil {
		return err
	}
	said := h.append(nil)
	if _, err := conn.Write(said); err != nil {
		return err
	}
	answer := make([]byte, 32+macBytes)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("no proof of the job's secret: %w", err)
	}
	if !hmac.Equal(answer[32:], mac(c.Secret, "listener", said, answer[:32])) {
		return fmt.Errorf("%v does not know the job's secret", conn.RemoteAddr())
	}
	if _, err := conn.Write(mac(c.Secret, "dialer", said, answer[:32])); err != nil {
		return err
	}
	var ok [1]byte
	if _, err := io.ReadFull(conn, ok[:]); err != nil {
		return fmt.Errorf("not accepted: %w", err)
	}
	if ok[0] != accepted {
		return fmt.Errorf("not accepted: code %d", ok[0])
	}
	return nil
}

func (c *Config) hello(p purpose) hello {
	return hello{purpose: p, from: uint32(c.Rank), size: uint32(c.Size), slotBytes: uint32(c.SlotBytes), slots: uint32(c.Slots)}
}

// listenerProves does the listener's half and returns who has dialed.
func (c *Config) listenerProves(conn net.Conn) (hello, error) {
	said := make([]byte, helloBytes)
	if _, err := io.ReadFull(conn, said); err != nil {
		return hello{}, err
	}
	h, err := parseHello(said)
	if err != nil {
		return h, err
	}
	answer := make([]byte, 32)
	if _, err := io.ReadFull(c.Random, answer); err != nil {
		return h, err
	}
	nonce := answer[:32:32]
	if _, err := conn.Write(append(answer, mac(c.Secret, "listener", said, nonce)...)); err != nil {
		return h, err
	}
	proof := make([]byte, macBytes)
	if _, err := io.ReadFull(conn, proof); err != nil {
		return h, err
	}
	if !hmac.Equal(proof, mac(c.Secret, "dialer", said, nonce)) {
		return h, errors.New("it does not know the job's secret")
	}
	// From here on it is a rank of the job.
	want := c.hello(h.purpose)
	want.from, want.to, want.nonce = h.from, uint32(c.Rank), h.nonce
	if h != want || (h.purpose != forLink && h.purpose != forTable) || h.from >= h.size || h.from == h.to {
		return h, fmt.Errorf("it is rank %d of %d with %d slots of %d bytes and wants rank %d; this is rank %d of %d with %d slots of %d bytes",
			h.from, h.size, h.slots, h.slotBytes, h.to, c.Rank, c.Size, c.Slots, c.SlotBytes)
	}
	_, err = conn.Write([]byte{accepted})
	return h, err
}
