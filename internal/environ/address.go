package environ

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
)

// CheckHost returns an error unless host is a name as DNS has them or an IP address
// without brackets.
func CheckHost(host string) error {
	if address, err := netip.ParseAddr(host); err == nil && len(address.Zone()) < 64 && printable(host) {
		return nil
	}
	const most = 253 // bytes of a DNS name
	if host == "" || len(host) > most || host[0] == '-' {
		return fmt.Errorf("%.80q is no host name or address", host)
	}
	for i := range len(host) {
		if !IsNameByte(host[i]) {
			return fmt.Errorf("%.80q is no host name or address: %q at byte %d", host, host[i], i)
		}
	}
	return nil
}

// IsNameByte holds for letters, digits, '-', '.' and '_'.
func IsNameByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '.' || c == '_'
}

// SplitHostPort reads HOST:PORT, an address of IPv6 in brackets.
func SplitHostPort(endpoint string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(endpoint)
	if err != nil {
		return "", 0, fmt.Errorf("%.80q is not HOST:PORT (an address of IPv6 stands in brackets)", endpoint)
	}
	if err := CheckHost(host); err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > math.MaxUint16 {
		return "", 0, fmt.Errorf("%.80q: port %.10q, want 1 to 65535", endpoint, text)
	}
	return host, port, nil
}

// Name makes a name of letters, digits, '-', '_' and '.' out of text: what else is in
// it becomes '_', and it is cut to 128 bytes.
func Name(text string) string {
	const most = 128
	name := []byte(text[:min(len(text), most)])
	for i, c := range name {
		if !IsNameByte(c) {
			name[i] = '_'
		}
	}
	return string(name)
}
