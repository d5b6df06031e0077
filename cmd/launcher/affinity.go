package main

import (
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/placement"
)

// stayOff keeps this program off the CPUs that are the ranks' alone. It is called after
// the guard was started: ranks without CPUs of their own inherit the guard's.
func stayOff(d placement.Division) {
	if d.Policy != placement.BindExclusive || len(d.Rest) == 0 {
		return
	}
	var set unix.CPUSet
	for _, cpu := range d.Rest {
		set.Set(cpu)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return // it is only a courtesy
	}
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = unix.SchedSetaffinity(id, &set) // a thread that has ended needs none
		}
	}
}

// interfaceTo is the name of the network interface on the route to a host; "" if none is known.
func interfaceTo(host string) string {
	conn, err := net.Dial("udp", net.JoinHostPort(host, "9")) // sends nothing
	if err != nil {
		return ""
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return ""
	}
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(local.IP) {
				return i.Name
			}
		}
	}
	return ""
}
