package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
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
		err = sameUser(conn)
		if err == nil {
			return conn, nil
		}
		l.refused(err)
		_ = conn.Close() // refused: nothing was promised to it
	}
}

func sameUser(conn net.Conn) error {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a %s connection on the control socket", conn.RemoteAddr().Network())
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	if credErr != nil {
		return fmt.Errorf("peer credentials: %w", credErr)
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("process %d of user %d is not this user's", cred.Pid, cred.Uid)
	}
	return nil
}
