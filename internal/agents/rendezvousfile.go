package agents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
)

// unavailable is true if this machine has no such address, or not its family.
func unavailable(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}

// meetingPoint is what node 0 writes into a rendezvous file, which only its user can
// read.
type meetingPoint struct {
	Version   int              `json:"version"`
	JobID     string           `json:"job_id"`
	Addresses []netip.AddrPort `json:"addresses"` // in the order in which to try them
	Secret    string           `json:"secret,omitempty"`
}

const maxMeetingPoint = 64 << 10

// parseMeetingPoint reads a rendezvous file's content.
func parseMeetingPoint(data []byte) (meetingPoint, error) {
	var m meetingPoint
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("no rendezvous file: %w", err)
	}
	const most = 256
	switch {
	case m.Version != protocolVersion:
		return m, fmt.Errorf("written by another version of wanrun (%d, want %d)", m.Version, protocolVersion)
	case len(m.Addresses) == 0 || len(m.Addresses) > most:
		return m, fmt.Errorf("%d addresses, want 1 to %d", len(m.Addresses), most)
	case len(m.JobID) > maxName:
		return m, fmt.Errorf("a job id of %d bytes, want at most %d", len(m.JobID), maxName)
	}
	for _, a := range m.Addresses {
		if !a.IsValid() || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			return m, fmt.Errorf("%v is no address to connect to", a)
		}
	}
	if m.Secret != "" {
		if err := checkSecret([]byte(m.Secret)); err != nil {
			return m, err
		}
	}
	return m, nil
}

// readMeetingPoint reads the file that node 0 wrote.
func readMeetingPoint(path string) (meetingPoint, error) {
	data, err := readPrivate(path, maxMeetingPoint)
	if errors.Is(err, fs.ErrNotExist) {
		return meetingPoint{}, fmt.Errorf("%s is not there yet", path)
	}
	if err != nil {
		return meetingPoint{}, err
	}
	m, err := parseMeetingPoint(data)
	if err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// writeMeetingPoint puts the file in place in one step, for this user alone, and returns
// what it wrote.
func writeMeetingPoint(path string, m meetingPoint) ([]byte, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".wanrun-rendezvous-") // mode 0600
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return data, nil
}

// removeMeetingPoint removes the file, unless another job has written it since.
func removeMeetingPoint(path string, wrote []byte) error {
	data, err := readPrivate(path, maxMeetingPoint)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(data, wrote) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// reachable lists the addresses at which others can reach listeners, loopback only if
// there is nothing else.
func reachable(listeners []net.Listener, all []iface) []netip.AddrPort {
	var far, near []netip.AddrPort
	add := func(a netip.AddrPort) {
		if a.Addr().IsLoopback() {
			near = append(near, a)
		} else {
			far = append(far, a)
		}
	}
	for _, l := range listeners {
		at := addrPort(l.Addr())
		if !at.Addr().IsUnspecified() {
			add(at)
			continue
		}
		for _, i := range all {
			for _, a := range i.addrs {
				add(netip.AddrPortFrom(a, at.Port()))
			}
		}
	}
	if len(far) > 0 {
		return far
	}
	return near
}
