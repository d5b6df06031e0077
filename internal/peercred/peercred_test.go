package peercred

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
)

// pair returns both ends of a connection.
func pair(t *testing.T, network, address string) (dialed, accepted net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if dialed, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed, accepted
}

func TestSameUser(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("credentials are read on Linux alone")
	}
	dialed, accepted := pair(t, "unix", t.TempDir()+"/s")
	for end, conn := range map[string]net.Conn{"dialed": dialed, "accepted": accepted} {
		if err := SameUser(conn); err != nil {
			t.Errorf("%s: %v", end, err)
		}
		want := fmt.Sprintf("process %d of user %d is not this user's", os.Getpid(), os.Geteuid())
		if err := belongsTo(conn, os.Geteuid()+1); err == nil || err.Error() != want {
			t.Errorf("%s, another user's: %v, want %q", end, err, want)
		}
	}
	accepted.Close()
	if err := SameUser(accepted); err == nil || !strings.HasPrefix(err.Error(), "peer credentials: ") {
		t.Errorf("closed: %v", err)
	}
	tcp, _ := pair(t, "tcp", "127.0.0.1:0")
	if err := SameUser(tcp); err == nil || !strings.Contains(err.Error(), "a tcp connection") {
		t.Errorf("tcp: %v", err)
	}
}
