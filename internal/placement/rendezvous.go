package placement

import (
	"fmt"
	"hash/fnv"
	"net"
	"path"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/environ"
)

// Rendezvous is where agents meet: at one of node 0's ports, or through a file in
// a shared folder in which node 0 says its address.
type Rendezvous struct {
	// Host is node 0's name or address. A Slurm node's name need not be in DNS:
	// slurm.Address knows its address.
	Host string `json:"host,omitempty"`
	// Ports are tried in this order: node 0 takes the first that is free, the others
	// the first at which their own job answers.
	Ports []int  `json:"ports,omitempty"`
	File  string `json:"file,omitempty"` // an absolute path; then Host is ""
}

func (r Rendezvous) isZero() bool { return r.Host == "" && r.File == "" }

// Loopback is true if no other machine can meet here.
func (r Rendezvous) Loopback() bool {
	return r.Host == "localhost" || net.ParseIP(r.Host).IsLoopback()
}

// String returns HOST:PORT or file:PATH.
func (r Rendezvous) String() string {
	switch {
	case r.isZero():
		return ""
	case r.File != "":
		return "file:" + r.File
	case len(r.Ports) == 1:
		return net.JoinHostPort(r.Host, strconv.Itoa(r.Ports[0]))
	}
	return fmt.Sprintf("%s, a port of %s", r.Host, strings.Join(strings.Fields(strings.Trim(fmt.Sprint(r.Ports), "[]")), ","))
}

// ParseRendezvous reads HOST:PORT or file:/PATH.
func ParseRendezvous(text string) (Rendezvous, error) {
	if file, ok := strings.CutPrefix(text, "file:"); ok {
		const most = 4096 // PATH_MAX
		if !path.IsAbs(file) || len(file) >= most || strings.Contains(file, "\x00") {
			return Rendezvous{}, fmt.Errorf("%.80q: want file: and an absolute path", text)
		}
		return Rendezvous{File: path.Clean(file)}, nil
	}
	host, port, err := environ.SplitHostPort(text)
	if err != nil {
		return Rendezvous{}, err
	}
	return Rendezvous{Host: host, Ports: []int{port}}, nil
}

// defaultPort is where node 0 listens in a pod, which has its ports for itself;
// torchrun's and Kubeflow's own.
const defaultPort = 29400

func at(host string, port int) Rendezvous {
	if port == 0 {
		port = defaultPort
	}
	return Rendezvous{Host: host, Ports: []int{port}}
}

// derived returns a rendezvous at host for which everybody finds the same ports by the
// job's name: where nobody has chosen one, several jobs may share a machine.
func derived(host, job string) Rendezvous {
	// Below the ports that Linux gives out by itself (32768 to 60999), above those of
	// Slurm's daemons, clear of 29400 and 29500.
	const first, span, numPorts, stride = 21000, 8000, 8, 997
	hash := fnv.New32a()
	hash.Write([]byte(job))
	r := Rendezvous{Host: host}
	for i := range numPorts {
		r.Ports = append(r.Ports, first+int((hash.Sum32()+uint32(i*stride))%span))
	}
	return r
}
