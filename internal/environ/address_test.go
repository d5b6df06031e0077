package environ

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

func TestSplitHostPort(t *testing.T) {
	for _, tc := range []struct {
		endpoint, host string
		port           int
	}{
		{"10.0.0.1:29400", "10.0.0.1", 29400},
		{"[fd00::1]:80", "fd00::1", 80},
		{"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
		{"wan-node-0-0.wan:29400", "wan-node-0-0.wan", 29400},
	} {
		if host, port, err := SplitHostPort(tc.endpoint); host != tc.host || port != tc.port || err != nil {
			t.Errorf("SplitHostPort(%q) = %q, %d, %v", tc.endpoint, host, port, err)
		}
	}
	for _, endpoint := range []string{"", "host", "host:", ":80", "host:0", "host:65536", "host:http", "fd00::1:80", "a b:80", "-a:80", "a/b:80",
		"user@a:80", strings.Repeat("a", 254) + ":80", "\x1b[2J:80"} {
		if host, port, err := SplitHostPort(endpoint); err == nil || host != "" || port != 0 || strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 200 {
			t.Errorf("SplitHostPort(%.20q) = %q, %d, %v", endpoint, host, port, err)
		}
	}
}

func FuzzSplitHostPort(f *testing.F) {
	for _, endpoint := range []string{"a:1", "[::1]:80", "host", "[fe80::1%eth0]:80"} {
		f.Add(endpoint)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		host, port, err := SplitHostPort(endpoint)
		if err != nil {
			return
		}
		if again, p, err := SplitHostPort(net.JoinHostPort(host, strconv.Itoa(port))); again != host || p != port || err != nil {
			t.Errorf("%q: %q and %d do not join to what splits to them: %q, %d, %v", endpoint, host, port, again, p, err)
		}
	})
}

func TestName(t *testing.T) {
	if got := Name("a/../b c\n:é"); got != "a_.._b_c____" {
		t.Errorf("Name = %q", got)
	}
	if got := len(Name(strings.Repeat("a", 1000))); got != 128 {
		t.Errorf("Name of a long text has %d bytes", got)
	}
}
