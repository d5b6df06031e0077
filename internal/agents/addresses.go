package agents

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// iface is one network interface of this machine.
type iface struct {
	name  string
	addrs []netip.Addr
}

// systemInterfaces returns those that are up. Link-local addresses, which need to be
// told with their interface, are left out.
func systemInterfaces() ([]iface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	var up []iface
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // went away meanwhile
		}
		one := iface{name: i.Name}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err == nil && !prefix.Addr().IsLinkLocalUnicast() {
				one.addrs = append(one.addrs, prefix.Addr().Unmap())
			}
		}
		up = append(up, one)
	}
	return up, nil
}

// chosen returns the addresses of the interface or CIDR that choice names.
func chosen(choice string, all []iface) ([]netip.Addr, error) {
	var found []netip.Addr
	if strings.Contains(choice, "/") {
		prefix, err := netip.ParsePrefix(choice)
		if err != nil {
			return nil, fmt.Errorf("--iface %.60q: want an interface's name or a CIDR like 10.0.0.0/8", choice)
		}
		for _, i := range all {
			for _, a := range i.addrs {
				if prefix.Contains(a) {
					found = append(found, a)
				}
			}
		}
	} else {
		for _, i := range all {
			if i.name == choice {
				found = append(found, i.addrs...)
			}
		}
	}
	if len(found) == 0 {
		var have []string
		for _, i := range all {
			have = append(have, fmt.Sprintf("%s %v", i.name, i.addrs))
		}
		return nil, fmt.Errorf("--iface %.60q: no such address here; there are %s", choice, strings.Join(have, ", "))
	}
	return found, nil
}

// resolve returns the addresses of the rendezvous' host, without any reverse lookup.
func (o Options) resolve(ctx context.Context) ([]netip.Addr, error) {
	host := o.Rendezvous.Host
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if host == "localhost" {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addrs, err := o.Resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("address of node 0 %q: %w", host, err)
	}
	var unique []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.IsValid() && !slices.Contains(unique, a) {
			unique = append(unique, a)
		}
	}
	const most = 16
	if len(unique) == 0 || len(unique) > most {
		return nil, fmt.Errorf("node 0 %q has %d addresses, want 1 to %d", host, len(unique), most)
	}
	return unique, nil
}

// toBind returns where node 0 listens: the chosen interface, or those addresses of the
// rendezvous that are this machine's. Where its host leads here by other addresses, such as
// those of a service or a NAT, that is every interface, the unspecified address.
func (o Options) toBind(ctx context.Context) ([]netip.Addr, error) {
	all, err := o.interfaces()
	if err != nil {
		return nil, err
	}
	if o.Iface != "" {
		return chosen(o.Iface, all)
	}
	everywhere := []netip.Addr{netip.IPv6Unspecified()}
	if o.Rendezvous.File != "" {
		return everywhere, nil
	}
	addrs, err := o.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if o.Rendezvous.Loopback() {
		return addrs, nil
	}
	var own []netip.Addr
	for _, i := range all {
		own = append(own, i.addrs...)
	}
	var here []netip.Addr
	outside := false // one of them can be reached from outside
	for _, a := range addrs {
		if a.IsLoopback() || slices.Contains(own, a) {
			here = append(here, a)
			outside = outside || !a.IsLoopback()
		}
	}
	if outside {
		return here, nil
	}
	if o.Secret == nil && len(here) > 0 {
		o.sayf("%s is %v on this machine: without a secret, only nodes on this machine can join", o.Rendezvous.Host, here)
		return here, nil
	}
	o.sayf("%s is %v, no interface of this machine: listening on all of them; --iface chooses one", o.Rendezvous.Host, addrs)
	return everywhere, nil
}

// listen opens a listener at each address, all with the same port: the first of ports at
// which all can be opened.
func listen(ctx context.Context, addrs []netip.Addr, ports []int) ([]net.Listener, error) {
	var why []string
	for _, port := range ports {
		listeners, err := listenAt(ctx, addrs, port)
		if err == nil {
			return listeners, nil
		}
		if text := err.Error(); !slices.Contains(why, text) {
			why = append(why, text)
		}
	}
	return nil, fmt.Errorf("node 0 can listen nowhere: %s", strings.Join(why, "; "))
}

func listenAt(ctx context.Context, addrs []netip.Addr, port int) ([]net.Listener, error) {
	var listeners []net.Listener
	var firstErr error
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, uint16(port)).String()
		if a == netip.IPv6Unspecified() {
			at = fmt.Sprintf(":%d", port) // both families, or the one that there is
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
		switch {
		case err == nil:
			listeners = append(listeners, l)
			continue
		case firstErr == nil:
			firstErr = err
		}
		// A family that this machine lacks is not missed, an address in use is.
		if !unavailable(err) {
			for _, l := range listeners {
				_ = l.Close() // nobody has connected
			}
			return nil, err
		}
	}
	if len(listeners) == 0 {
		return nil, firstErr
	}
	return listeners, nil
}
