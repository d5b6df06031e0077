package placement

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// CPU is one logical CPU and what it shares with others. Each part is named by its
// lowest CPU, or for nodes and sockets by the kernel's number.
type CPU struct {
	ID     int
	Core   int // hyperthreads of one core have one Core
	Cache  int // CPUs that share the last cache (a core complex)
	Socket int
	Node   int // NUMA node
}

// Topology is a machine's CPUs, sorted by ID.
type Topology struct{ CPUs []CPU }

// ReadTopology reads the CPUs in mask from /sys. What is not there, as in some
// containers and sandboxes, makes each CPU a core of its own, all on one node.
func ReadTopology(root fs.FS, mask []int) Topology {
	nodes := readNodes(root)
	var t Topology
	for _, id := range mask {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d", id)
		cpu := CPU{ID: id, Core: id, Cache: -1, Node: nodes[id]}
		if siblings := readCPUs(root, dir+"/topology/thread_siblings_list"); slices.Contains(siblings, id) {
			cpu.Core = siblings[0]
		}
		// A number below 0 is the kernel's for a socket that is not known.
		if socket, ok := readNumber(root, dir+"/topology/physical_package_id"); ok && socket > 0 {
			cpu.Socket = socket
		}
		for level := range 5 {
			index := fmt.Sprintf("%s/cache/index%d", dir, level)
			if shared := readCPUs(root, index+"/shared_cpu_list"); slices.Contains(shared, id) {
				cpu.Cache = shared[0] // the last one is the largest
			}
		}
		if cpu.Cache < 0 {
			cpu.Cache = cpu.Socket
		}
		t.CPUs = append(t.CPUs, cpu)
	}
	slices.SortFunc(t.CPUs, func(a, b CPU) int { return a.ID - b.ID })
	return t
}

// readNodes returns each CPU's NUMA node; a CPU that is not there is on node 0.
func readNodes(root fs.FS) map[int]int {
	nodes := map[int]int{}
	online := readCPUs(root, "sys/devices/system/node/online") // nodes are listed as CPUs are
	for _, node := range online {
		for _, cpu := range readCPUs(root, fmt.Sprintf("sys/devices/system/node/node%d/cpulist", node)) {
			nodes[cpu] = node
		}
	}
	return nodes
}

// DeviceNode returns the NUMA node of a PCI device such as "0000:3b:00.0" (NVML also
// writes 00000000:3B:00.0), -1 if it is not known.
func DeviceNode(root fs.FS, bus string) int {
	bus = strings.ToLower(bus)
	if domain, rest, ok := strings.Cut(bus, ":"); ok && len(domain) == 8 && strings.HasPrefix(domain, "0000") {
		bus = domain[4:] + ":" + rest
	}
	if len(bus) > 16 || strings.Trim(bus, "0123456789abcdef:.") != "" || strings.Contains(bus, "..") {
		return -1
	}
	node, ok := readNumber(root, path.Join("sys/bus/pci/devices", bus, "numa_node"))
	if !ok || node < 0 || node >= maxCPUs {
		return -1 // the kernel writes -1 where the firmware does not say
	}
	return node
}

func readCPUs(root fs.FS, name string) []int {
	text, err := readSmall(root, name)
	if err != nil {
		return nil
	}
	cpus, err := ParseCPUList(text)
	if err != nil {
		return nil
	}
	return cpus
}

func readNumber(root fs.FS, name string) (int, bool) {
	text, err := readSmall(root, name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

func readSmall(root fs.FS, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1<<16))
	return strings.TrimSpace(string(data)), err
}
