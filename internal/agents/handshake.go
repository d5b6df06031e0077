package agents

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// plainPreface is what a dialer without TLS says first, so that each side notices at once
// when the other one's setting differs.
const plainPreface = "WRAN\x00" // as long as the head of a TLS record, which it is not

const (
	maxFrame = 8 << 10
	numNonce = 32
)

// identity is what one side brings to a handshake.
type identity struct {
	key     []byte
	tls     *tls.Config // nil: no TLS
	job     string      // "" when dialing: any
	node    int         // when dialing
	nodes   int         // when listening
	timeout time.Duration
}

// refusal is an error that the other side, or this one, has given as the reason not to
// meet. Nothing about it will change by trying again at the same address, unless someone
// else comes to listen there.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

// provenConn is a connection whose other side has shown that it knows the secret.
type provenConn struct {
	net.Conn          // encrypted, if TLS is on
	raw      net.Conn // below it
	node     int      // of the other side
	job      string
	key      []byte

	idle    *time.Timer // closes it when nothing is called, on node 0's side
	once    sync.Once
	onClose func() // or nil
	err     error
}

// Close does not wait to say goodbye to a side that may not read any more.
func (c *provenConn) Close() error {
	c.once.Do(func() {
		c.err = c.raw.Close()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return c.err
}

// accept is node 0's side of a handshake.
func (id *identity) accept(raw net.Conn) (*provenConn, error) {
	if err := raw.SetDeadline(time.Now().Add(id.timeout)); err != nil {
		return nil, err
	}
	conn, binding, err := id.secureServer(raw)
	if err != nil {
		return nil, err
	}
	var nonce [numNonce]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	offer := &wanrunv1.AgentOffer{Version: protocolVersion, JobId: id.job, Nonce: nonce[:]}
	if err := writeFrame(conn, offer); err != nil {
		return nil, fmt.Errorf("send the offer: %w", err)
	}
	claim := &wanrunv1.AgentClaim{}
	if err := readFrame(conn, claim); err != nil {
		return nil, fmt.Errorf("read its claim: %w", err)
	}
	proof, err := id.judge(claim, offer, binding)
	if err != nil {
		if claim.GetRefusal() == "" {
			// It is turned away all the same when it does not hear why.
			_ = writeFrame(conn, &wanrunv1.AgentVerdict{Refusal: clean(err.Error(), maxRefusal)})
			lingerBriefly(raw)
		}
		return nil, err
	}
	if err := writeFrame(conn, &wanrunv1.AgentVerdict{Proof: proof}); err != nil {
		return nil, fmt.Errorf("send the verdict: %w", err)
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &provenConn{Conn: conn, raw: raw, node: int(claim.GetNode()), job: id.job, key: id.key}, nil
}

// judge checks a claim and returns node 0's own proof.
func (id *identity) judge(claim *wanrunv1.AgentClaim, offer *wanrunv1.AgentOffer, binding []byte) ([]byte, error) {
	node := int(claim.GetNode())
	switch {
	case claim.GetRefusal() != "":
		return nil, refuse("it went away: %s", clean(claim.GetRefusal(), maxRefusal))
	case claim.GetVersion() != protocolVersion:
		return nil, refuse("it speaks version %d of the agents' protocol, node 0 version %d: install the same wanrun on all nodes", claim.GetVersion(), protocolVersion)
	case claim.GetJobId() != id.job:
		return nil, refuse("an agent of job %q came to node 0 of job %q", clean(claim.GetJobId(), maxName), id.job)
	case len(claim.GetNonce()) != numNonce:
		return nil, refuse("its nonce has %d bytes, want %d", len(claim.GetNonce()), numNonce)
	case node < 1 || node >= id.nodes:
		return nil, refuse("it says that it is node %d, want 1 to %d of %d nodes", node, id.nodes-1, id.nodes)
	}
	if !hmac.Equal(claim.GetProof(), id.proof("agent", binding, offer.GetNonce(), claim.GetNonce(), node, id.job)) {
		return nil, refuse("node %d has another secret than node 0 of job %q", node, id.job)
	}
	return id.proof("node 0", binding, offer.GetNonce(), claim.GetNonce(), node, id.job), nil
}

// greet is the other nodes' side of a handshake.
func (id *identity) greet(ctx context.Context, raw net.Conn) (*provenConn, error) {
	defer context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	if err := raw.SetDeadline(time.Now().Add(id.timeout)); err != nil {
		return nil, err
	}
	conn, binding, err := id.secureClient(raw)
	if err != nil {
		return nil, err
	}
	offer := &wanrunv1.AgentOffer{}
	if err := readFrame(conn, offer); err != nil {
		return nil, fmt.Errorf("read the offer of whoever listens there: %w", err)
	}
	if err := id.consider(offer); err != nil {
		// It goes away all the same when that is not heard.
		_ = writeFrame(conn, &wanrunv1.AgentClaim{Version: protocolVersion, JobId: id.job, Refusal: clean(err.Error(), maxRefusal)})
		lingerBriefly(raw)
		return nil, err
	}
	job := offer.GetJobId()
	var nonce [numNonce]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	claim := &wanrunv1.AgentClaim{Version: protocolVersion, JobId: job, Node: int32(id.node), Nonce: nonce[:],
		Proof: id.proof("agent", binding, offer.GetNonce(), nonce[:], id.node, job)}
	if err := writeFrame(conn, claim); err != nil {
		return nil, fmt.Errorf("send a claim: %w", err)
	}
	verdict := &wanrunv1.AgentVerdict{}
	if err := readFrame(conn, verdict); err != nil {
		return nil, fmt.Errorf("read the verdict: %w", err)
	}
	if verdict.GetRefusal() != "" {
		return nil, refuse("node 0 refused this node: %s", clean(verdict.GetRefusal(), maxRefusal))
	}
	if !hmac.Equal(verdict.GetProof(), id.proof("node 0", binding, offer.GetNonce(), nonce[:], id.node, job)) {
		return nil, refuse("who listens there does not know the secret of job %q", job)
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &provenConn{Conn: conn, raw: raw, job: job, key: id.key}, nil
}

// consider checks an offer.
func (id *identity) consider(offer *wanrunv1.AgentOffer) error {
	switch {
	case offer.GetVersion() != protocolVersion:
		return refuse("node 0 speaks version %d of the agents' protocol, node %d version %d: install the same wanrun on all nodes", offer.GetVersion(), id.node, protocolVersion)
	case len(offer.GetJobId()) > maxName || offer.GetJobId() == "":
		return refuse("its job id has %d bytes, want 1 to %d", len(offer.GetJobId()), maxName)
	case id.job != "" && offer.GetJobId() != id.job:
		return refuse("node %d of job %q came to node 0 of job %q", id.node, id.job, offer.GetJobId())
	case len(offer.GetNonce()) != numNonce:
		return refuse("its nonce has %d bytes, want %d", len(offer.GetNonce()), numNonce)
	}
	return nil
}

// proof is the HMAC over all that makes this connection what it is, for one role. All but
// the last part have a fixed length or an end that they cannot contain.
func (id *identity) proof(role string, binding, nonceOfZero, nonceOfAgent []byte, node int, job string) []byte {
	mac := hmac.New(sha256.New, id.key)
	mac.Write([]byte(role + "\x00"))
	mac.Write(binding)
	mac.Write(nonceOfZero)
	mac.Write(nonceOfAgent)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(node)))
	mac.Write([]byte(job))
	return mac.Sum(nil)
}

// secureServer puts TLS on a connection. The binding names this connection: no other one
// has the same.
func (id *identity) secureServer(raw net.Conn) (net.Conn, []byte, error) {
	if id.tls == nil {
		var preface [len(plainPreface)]byte
		if _, err := io.ReadFull(raw, preface[:]); err != nil {
			return nil, nil, fmt.Errorf("read its first word: %w", err)
		}
		if string(preface[:]) != plainPreface {
			return nil, nil, refuse("it began with %q: it is no agent, or uses TLS where this job has --tls off", preface[:])
		}
		return raw, make([]byte, 3*sha256.Size), nil
	}
	conn := tls.Server(raw, id.tls)
	if err := conn.Handshake(); err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	binding, err := bindingOf(conn, id.tls, true)
	return conn, binding, err
}

func (id *identity) secureClient(raw net.Conn) (net.Conn, []byte, error) {
	if id.tls == nil {
		if _, err := io.WriteString(raw, plainPreface); err != nil {
			return nil, nil, err
		}
		return raw, make([]byte, 3*sha256.Size), nil
	}
	conn := tls.Client(raw, id.tls)
	if err := conn.Handshake(); err != nil {
		var notTLS tls.RecordHeaderError
		if errors.As(err, &notTLS) {
			return nil, nil, fmt.Errorf("it is no node 0, or has --tls off: %w", err)
		}
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	binding, err := bindingOf(conn, id.tls, false)
	return conn, binding, err
}

// bindingOf is the exporter value and the digests of node 0's and the agent's certificates.
func bindingOf(conn *tls.Conn, config *tls.Config, server bool) ([]byte, error) {
	state := conn.ConnectionState()
	binding, err := state.ExportKeyingMaterial("EXPORTER-wanrun-agents", nil, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("TLS exporter: %w", err)
	}
	if len(state.PeerCertificates) == 0 {
		return nil, errors.New("the peer showed no certificate")
	}
	own, other := sha256.Sum256(config.Certificates[0].Certificate[0]), sha256.Sum256(state.PeerCertificates[0].Raw)
	if server {
		return append(append(binding, own[:]...), other[:]...), nil
	}
	return append(append(binding, other[:]...), own[:]...), nil
}

// lingerBriefly waits until the other side has read what was sent and hangs up, or half
// a second: closing at once could take the words back.
func lingerBriefly(raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(500 * time.Millisecond)) // a dead connection ends the wait, too
	if c, ok := raw.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, raw, maxFrame)
}

func writeFrame(w io.Writer, m proto.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

func readFrame(r io.Reader, m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return fmt.Errorf("a frame of %d bytes, want at most %d", size, maxFrame)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return proto.Unmarshal(body, m)
}
