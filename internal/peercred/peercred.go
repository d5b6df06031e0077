// Package peercred says whose process is at the other end of a Unix socket, as the
// kernel names it: a second lock behind a socket's mode, and the only one where the
// socket's name is no file.
package peercred

import (
	"fmt"
	"net"
	"os"
)

// SameUser returns nil if conn is a Unix socket with a process of this process's
// effective user at the other end. The kernel keeps what held when the peer connected,
// or began to listen.
//
// Errors: another user's process, a connection of another kind, credentials that cannot
// be read, a system that has none.
func SameUser(conn net.Conn) error {
	return belongsTo(conn, os.Geteuid())
}

// belongsTo checks that a process of the user uid is at the other end.
func belongsTo(conn net.Conn, uid int) error {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("a %s connection, expected one of a unix socket", conn.RemoteAddr().Network())
	}
	pid, user, err := credentials(unixConn)
	if err != nil {
		return fmt.Errorf("peer credentials: %w", err)
	}
	if user != uid {
		return fmt.Errorf("process %d of user %d is not this user's", pid, user)
	}
	return nil
}
