package agents

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/grpc/credentials"
)

// proven are gRPC's credentials for connections that have been proved before gRPC
// gets them.
type proven struct{}

// provenInfo is what a handler learns of its connection.
type provenInfo struct {
	credentials.CommonAuthInfo
	conn *provenConn
}

func (provenInfo) AuthType() string { return "wanrun" }

var errNotProven = errors.New("a connection that was not proved")

func (proven) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*provenConn)
	if !ok {
		return nil, nil, errNotProven
	}
	return c, provenInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, c}, nil
}

func (p proven) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.handshake(conn)
}

func (p proven) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.handshake(conn)
}

func (proven) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "wanrun"}
}

func (p proven) Clone() credentials.TransportCredentials { return p }

// OverrideServerName is part of the interface; there are no names here.
func (proven) OverrideServerName(string) error { return nil }

// handover is the net.Listener that gRPC accepts proved connections from.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newHandover(addr net.Addr) *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

// give hands a connection over, or closes it when there is nobody to take it.
func (h *handover) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		_ = conn.Close() // nothing was promised to it
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// addrPort is a connection's numeric address, IPv4 where it is one in IPv6's clothes.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
