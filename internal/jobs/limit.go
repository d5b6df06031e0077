package jobs

import (
	"io"
	"log"
	"net"
	"sync"
)

// limit accepts connections while fewer than a number are open, and closes the others at
// once: who comes late is told, and does not wait in a queue behind those who sleep.
type limit struct {
	net.Listener
	free chan struct{}
}

func newLimit(l net.Listener, most int) *limit {
	return &limit{l, make(chan struct{}, most)}
}

func (l *limit) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{Conn: conn, free: l.free}, nil
		default:
			conn.Close()
		}
	}
}

type limitedConn struct {
	net.Conn
	once sync.Once
	free chan struct{}
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.free })
	return c.Conn.Close()
}

// quiet is for servers: what a client does wrong is of no concern to the job.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
