package control

import (
	"net"

	"github.com/wanrun/wanrun/internal/peercred"
)

// ownPeers accepts only connections of this process's user, as the kernel names
// it: a second lock behind the socket's mode.
type ownPeers struct {
	net.Listener
	refused func(error)
}

// Accept waits for the next connection of the same user.
func (l *ownPeers) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		err = peercred.SameUser(conn)
		if err == nil {
			return conn, nil
		}
		l.refused(err)
		_ = conn.Close() // refused: nothing was promised to it
	}
}
