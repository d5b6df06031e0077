package placement

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// machine is a recipe for a topology. CPUs are numbered as Linux does on x86-64: first
// one hyperthread of every core, then the others.
type machine struct{ sockets, nodesPerSocket, cachesPerNode, coresPerCache, threads int }

func (m machine) topology() Topology {
	var t Topology
	nodes := m.sockets * m.nodesPerSocket
	perNode := m.cachesPerNode * m.coresPerCache
	for thread := range m.threads {
		for core := range nodes * perNode {
			cache := core / m.coresPerCache
			t.CPUs = append(t.CPUs, CPU{ID: thread*nodes*perNode + core, Core: core, Cache: cache * m.coresPerCache,
				Node: core / perNode, Socket: core / perNode / m.nodesPerSocket})
		}
	}
	return t
}

// sys writes the topology as /sys has it.
func (t Topology) sys() fs.FS {
	root := fstest.MapFS{}
	put := func(name, text string) { root[name] = &fstest.MapFile{Data: []byte(text + "\n")} }
	same := func(key func(CPU) int, of CPU) string {
		var ids []int
		for _, cpu := range t.CPUs {
			if key(cpu) == key(of) {
				ids = append(ids, cpu.ID)
			}
		}
		return FormatCPUList(ids)
	}
	var nodes []int
	for _, cpu := range t.CPUs {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d", cpu.ID)
		put(dir+"/topology/thread_siblings_list", same(coreOf, cpu))
		put(dir+"/topology/physical_package_id", fmt.Sprint(cpu.Socket))
		put(dir+"/cache/index0/shared_cpu_list", same(coreOf, cpu))
		put(dir+"/cache/index3/shared_cpu_list", same(cacheOf, cpu))
		put(fmt.Sprintf("sys/devices/system/node/node%d/cpulist", cpu.Node), same(nodeOf, cpu))
		nodes = append(nodes, cpu.Node)
	}
	slices.Sort(nodes)
	put("sys/devices/system/node/online", FormatCPUList(slices.Compact(nodes)))
	return root
}

// masked keeps the CPUs in list.
func (t Topology) masked(list string) Topology {
	mask, err := ParseCPUList(list)
	if err != nil {
		panic(err)
	}
	var out Topology
	for _, cpu := range t.CPUs {
		if slices.Contains(mask, cpu.ID) {
			out.CPUs = append(out.CPUs, cpu)
		}
	}
	return out
}

var (
	dual  = machine{2, 1, 1, 8, 2}.topology() // two sockets of 8 cores with 2 threads: node 0 is 0-7,16-23
	epyc  = machine{1, 2, 2, 4, 1}.topology() // two nodes of two core complexes of 4 cores
	small = machine{1, 1, 1, 2, 1}.topology()
)

func TestDivide(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    Request
		want string // for each rank CPUs@node*threads; then the rest; or the error after "! "
	}{
		{"auto on one node", Request{Topology: small, NumRanks: 2}, "none: 0-1@0*1 0-1@0*1"},
		{"auto on two nodes", Request{Topology: dual, NumRanks: 2}, "node: 0-7,16-23@0*16 8-15,24-31@1*16"},
		{"none", Request{Topology: dual, NumRanks: 4, Policy: BindNone}, "none: 0-31@-1*8 0-31@-1*8 0-31@-1*8 0-31@-1*8"},
		{"none, quota", Request{Topology: dual, NumRanks: 2, Policy: BindNone, Quota: 5}, "none: 0-31@-1*2 0-31@-1*2"},
		{"none, quota below a CPU", Request{Topology: dual, NumRanks: 2, Policy: BindNone, Quota: 0.5}, "none: 0-31@-1*1 0-31@-1*1"},
		{"more ranks than CPUs", Request{Topology: small, NumRanks: 3, Policy: BindNone, Quota: math.Inf(1)}, "none: 0-1@0*1 0-1@0*1 0-1@0*1"},
		{"node, 4 ranks", Request{Topology: dual, NumRanks: 4, Policy: BindNode}, "node: 0-7,16-23@0*8 0-7,16-23@0*8 8-15,24-31@1*8 8-15,24-31@1*8"},
		{"node, 3 ranks share a node by thirds", Request{Topology: dual.masked("0-2"), NumRanks: 3, Policy: BindNode}, "node: 0-2@0*1 0-2@0*1 0-2@0*1"},
		{"node, by the GPUs", Request{Topology: dual, NumRanks: 4, Policy: BindNode, Near: []int{1, 1, 0, 0}},
			"node: 8-15,24-31@1*8 8-15,24-31@1*8 0-7,16-23@0*8 0-7,16-23@0*8"},
		{"node, some GPUs known", Request{Topology: dual, NumRanks: 4, Policy: BindNode, Near: []int{1, -1, -1, -1}},
			"node: 8-15,24-31@1*8 0-7,16-23@0*8 0-7,16-23@0*8 8-15,24-31@1*8"},
		{"node, one rank without GPU has all", Request{Topology: dual, NumRanks: 1, Policy: BindNode}, "node: 0-31@-1*32"},
		{"node, one rank near node 1", Request{Topology: dual, NumRanks: 1, Policy: BindNode, Near: []int{1}}, "node: 8-15,24-31@1*16, rest 0-7,16-23"},
		{"the GPU's node is not in the mask", Request{Topology: dual.masked("0-7"), NumRanks: 1, Policy: BindNode, Near: []int{1}}, "node: 0-7@0*8"},
		{"socket over two nodes", Request{Topology: epyc, NumRanks: 2, Policy: BindSocket}, "socket: 0-15@-1*8 0-15@-1*8"},
		{"core complexes", Request{Topology: epyc, NumRanks: 4, Policy: BindCoreComplex}, "core-complex: 0-3@0*4 4-7@0*4 8-11@1*4 12-15@1*4"},
		{"core complexes apart", Request{Topology: epyc, NumRanks: 2, Policy: BindCoreComplex}, "core-complex: 0-3@0*4 8-11@1*4, rest 4-7,12-15"},
		{"exclusive keeps hyperthreads together", Request{Topology: dual, NumRanks: 8, Policy: BindExclusive},
			"exclusive: 0-1,16-17@0*4 2-3,18-19@0*4 4-5,20-21@0*4 6-7,22-23@0*4 8-9,24-25@1*4 10-11,26-27@1*4 12-13,28-29@1*4 14-15,30-31@1*4"},
		{"exclusive, cores do not divide", Request{Topology: dual, NumRanks: 3, Policy: BindExclusive},
			"exclusive: 0-3,16-19@0*8 4-7,20-23@0*8 8-15,24-31@1*16"},
		{"exclusive within a mask", Request{Topology: dual.masked("0-2,8"), NumRanks: 4, Policy: BindExclusive}, "exclusive: 0@0*1 1@0*1 2@0*1 8@1*1"},
		{"exclusive, uneven mask", Request{Topology: dual.masked("0,8-10"), NumRanks: 2, Policy: BindExclusive}, "exclusive: 8-9@1*2 10@1*1, rest 0"},
		{"exclusive, too many ranks", Request{Topology: small, NumRanks: 3, Policy: BindExclusive},
			"! --bind exclusive: 3 ranks but 2 cores in the affinity mask (CPUs 0-1); use --bind none, or fewer ranks"},
		{"exclusive, all GPUs on a small node", Request{Topology: dual.masked("0,8-10"), NumRanks: 2, Policy: BindExclusive, Near: []int{0, 0}},
			"! --bind exclusive: 2 ranks have their GPUs on NUMA node 0, which has 1 cores in the affinity mask; use --bind none"},
		{"lists", Request{Topology: dual, NumRanks: 2, Policy: "0-3,16;8"}, "0-3,16;8: 0-3,16@0*5 8@1*1, rest 4-7,9-15,17-31"},
		{"too few lists", Request{Topology: dual, NumRanks: 2, Policy: "0-3"}, "! --bind has CPUs for 1 ranks, want 2 lists with ; between"},
		{"beyond the mask", Request{Topology: small, NumRanks: 1, Policy: "0,7"}, "! --bind, rank 0: CPU 7 is not in the affinity mask, 0-1"},
		{"an empty list", Request{Topology: small, NumRanks: 2, Policy: "0;"}, "! --bind, rank 1: no CPU"},
		{"no list", Request{Topology: small, NumRanks: 1, Policy: "numa"},
			`! --bind is "numa", want auto, none, node, socket, exclusive, core-complex or CPUs for each rank like "0-3;4-7"`},
		{"no rank", Request{Topology: small}, "! 0 ranks on this node, want 1 to 65536"},
		{"no CPU", Request{NumRanks: 1}, "! the affinity mask has no CPU"},
		{"GPUs of others", Request{Topology: small, NumRanks: 2, Near: []int{0}}, "! GPU nodes of 1 ranks, want 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := Divide(tc.r)
			var got string
			if err != nil {
				got = "! " + err.Error()
			} else {
				var ranks []string
				for _, b := range d.Ranks {
					ranks = append(ranks, fmt.Sprintf("%s@%d*%d", FormatCPUList(b.CPUs), b.Node, b.Threads))
				}
				got = string(d.Policy) + ": " + strings.Join(ranks, " ")
				if d.Rest != nil {
					got += ", rest " + FormatCPUList(d.Rest)
				}
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestDivideAlways holds for any machine, mask, number of ranks and policy.
func TestDivideAlways(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := machine{rapid.IntRange(1, 2).Draw(t, "sockets"), rapid.IntRange(1, 2).Draw(t, "nodes"), rapid.IntRange(1, 2).Draw(t, "caches"),
			rapid.IntRange(1, 4).Draw(t, "cores"), rapid.IntRange(1, 2).Draw(t, "threads")}
		top := m.topology()
		top.CPUs = slices.DeleteFunc(top.CPUs, func(CPU) bool { return rapid.IntRange(0, 3).Draw(t, "off") == 0 })
		if len(top.CPUs) == 0 {
			return
		}
		r := Request{Topology: top, NumRanks: rapid.IntRange(1, 10).Draw(t, "ranks"),
			Policy: rapid.SampledFrom([]Policy{"", BindNone, BindNode, BindSocket, BindExclusive, BindCoreComplex}).Draw(t, "policy")}
		if rapid.Bool().Draw(t, "gpus") {
			r.Near = rapid.SliceOfN(rapid.IntRange(-1, 4), r.NumRanks, r.NumRanks).Draw(t, "near")
		}
		d, err := Divide(r)
		if err != nil {
			if r.Policy != BindExclusive || r.Near == nil && r.NumRanks <= len(top.groups(coreOf)) {
				t.Fatalf("%+v: %v", r, err)
			}
			return
		}
		if len(d.Ranks) != r.NumRanks {
			t.Fatalf("%d bindings of %d ranks", len(d.Ranks), r.NumRanks)
		}
		core := map[int]int{}
		for _, cpu := range top.CPUs {
			core[cpu.ID] = cpu.Core
		}
		owner := map[int]int{} // of a core
		seen := map[int]bool{}
		threads := 0
		for rank, b := range d.Ranks {
			if len(b.CPUs) == 0 || b.Threads < 1 || b.Threads > len(b.CPUs) || !slices.IsSorted(b.CPUs) {
				t.Fatalf("rank %d: %+v", rank, b)
			}
			if b.Threads > 1 { // every rank has one, however little its part is
				threads += b.Threads
			}
			for _, id := range b.CPUs {
				c, ok := core[id]
				if !ok {
					t.Fatalf("rank %d has CPU %d, which is not in the mask", rank, id)
				}
				if other, taken := owner[c]; d.Policy == BindExclusive && taken && other != rank {
					t.Fatalf("ranks %d and %d share core %d", other, rank, c)
				}
				owner[c], seen[id] = rank, true
			}
		}
		if threads > len(top.CPUs) {
			t.Fatalf("%d threads on %d CPUs", threads, len(top.CPUs))
		}
		for _, id := range d.Rest {
			if seen[id] {
				t.Fatalf("CPU %d is a rank's and nobody's", id)
			}
		}
		if len(seen)+len(d.Rest) != len(top.CPUs) {
			t.Fatalf("%d CPUs of ranks and %d of nobody, want %d", len(seen), len(d.Rest), len(top.CPUs))
		}
	})
}

func TestReadTopology(t *testing.T) {
	for name, want := range map[string]Topology{"dual": dual, "epyc": epyc, "small": small, "masked": dual.masked("1,3,9,17")} {
		root := want.sys()
		if name == "masked" {
			root = dual.sys()
		}
		if diff := cmp.Diff(want, ReadTopology(root, want.ids())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	// Nothing to read, or nonsense: CPUs stand for themselves.
	bare := Topology{CPUs: []CPU{{ID: 3, Core: 3}, {ID: 5, Core: 5}}}
	nonsense := fstest.MapFS{"sys/devices/system/cpu/cpu3/topology/thread_siblings_list": {Data: []byte("0-70000")},
		"sys/devices/system/cpu/cpu3/topology/physical_package_id": {Data: []byte("-1")},
		"sys/devices/system/node/online":                           {Data: []byte("x")}}
	for _, root := range []fs.FS{fstest.MapFS{}, nonsense} {
		if diff := cmp.Diff(bare, ReadTopology(root, []int{5, 3})); diff != "" {
			t.Error(diff)
		}
	}
	here := ReadTopology(os.DirFS("/"), []int{0})
	if len(here.CPUs) != 1 || here.CPUs[0].ID != 0 || here.CPUs[0].Core != 0 {
		t.Errorf("this machine: %+v", here)
	}
}

func TestDeviceNode(t *testing.T) {
	root := fstest.MapFS{
		"sys/bus/pci/devices/0000:3b:00.0/numa_node": {Data: []byte("1\n")},
		"sys/bus/pci/devices/0000:3c:00.0/numa_node": {Data: []byte("-1\n")},
	}
	for bus, want := range map[string]int{"0000:3b:00.0": 1, "00000000:3B:00.0": 1, "0000:3c:00.0": -1, "0000:3d:00.0": -1, "": -1,
		"../../x": -1, "0000:3b:00.0/..": -1, "..": -1} {
		if got := DeviceNode(root, bus); got != want {
			t.Errorf("DeviceNode(%q) = %d, want %d", bus, got, want)
		}
	}
}

func TestCPUList(t *testing.T) {
	for list, want := range map[string][]int{"": nil, "0\n": {0}, "0-3,8,10-11": {0, 1, 2, 3, 8, 10, 11}, "4,1-2,2": {1, 2, 4}} {
		got, err := ParseCPUList(list)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ParseCPUList(%q) = %v, %v, want %v", list, got, err, want)
		}
	}
	for _, list := range []string{",", "3-1", "a", "0-", "-1", "8192", "0-99999999", "0x1", strings.Repeat("0-8191,", 5) + "1"} {
		if got, err := ParseCPUList(list); err == nil {
			t.Errorf("ParseCPUList(%.20q) = %d CPUs", list, len(got))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		cpus := rapid.SliceOfDistinct(rapid.IntRange(0, 60), func(n int) int { return n }).Draw(t, "cpus")
		slices.Sort(cpus)
		if got, err := ParseCPUList(FormatCPUList(cpus)); err != nil || !slices.Equal(got, cpus) {
			t.Fatalf("%v -> %q -> %v, %v", cpus, FormatCPUList(cpus), got, err)
		}
	})
}

func FuzzParseCPUList(f *testing.F) {
	for _, list := range []string{"", "0-3,8", "3-1", "8191", "1,1"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := ParseCPUList(list)
		if err != nil {
			return
		}
		if again, err := ParseCPUList(FormatCPUList(cpus)); err != nil || !slices.Equal(again, cpus) {
			t.Errorf("%q: %v, then %v, %v", list, cpus, again, err)
		}
	})
}
