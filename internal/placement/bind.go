package placement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Policy is how a node's CPUs are given to its ranks.
type Policy string

// The policies. A list of CPUs for each rank, "0-3;4-7", is one too.
const (
	BindAuto        Policy = "auto"         // BindNode on more than one NUMA node, else BindNone
	BindNone        Policy = "none"         // every rank may use all CPUs
	BindNode        Policy = "node"         // all CPUs of the rank's NUMA node
	BindSocket      Policy = "socket"       // all CPUs of the rank's socket
	BindExclusive   Policy = "exclusive"    // whole cores of its own
	BindCoreComplex Policy = "core-complex" // all CPUs of one last-level cache
)

// Binding is what one rank gets.
type Binding struct {
	CPUs []int `json:"cpus"` // sorted
	// Node is the NUMA node of all its CPUs, for its memory; -1 if they are on several.
	Node int `json:"node"`
	// Threads is how many threads the rank should compute with: its part of the CPUs that
	// it shares with other ranks, or of the CPU time that there is. At least 1.
	Threads int `json:"threads"`
}

// Division is what Divide returns.
type Division struct {
	Policy Policy    `json:"policy"` // never BindAuto
	Ranks  []Binding `json:"ranks"`
	// Rest are the CPUs that no rank is bound to, for the launcher; nil if there are none.
	Rest []int `json:"rest,omitempty"`
}

// Request is what is to be divided.
type Request struct {
	Topology Topology // of the CPUs in the affinity mask; nothing is given beyond it
	NumRanks int      // on this node
	Policy   Policy   // "" is BindAuto
	// Near is the NUMA node that each rank's GPU hangs on, -1 where that is not known; nil
	// if it is known for none.
	Near []int
	// Quota is how many CPUs' time the ranks have together; 0 or +Inf is no limit.
	Quota float64
}

// Divide gives a node's CPUs to its ranks. Ranks go to NUMA nodes in order and in
// proportion to their cores, or to their GPU's node; hyperthreads of a core are
// never divided between ranks.
func Divide(r Request) (Division, error) {
	if r.NumRanks < 1 || r.NumRanks > maxRanks {
		return Division{}, fmt.Errorf("%d ranks on this node, want 1 to %d", r.NumRanks, maxRanks)
	}
	if len(r.Topology.CPUs) == 0 {
		return Division{}, fmt.Errorf("the affinity mask has no CPU")
	}
	if r.Near != nil && len(r.Near) != r.NumRanks {
		return Division{}, fmt.Errorf("GPU nodes of %d ranks, want %d", len(r.Near), r.NumRanks)
	}
	d := Division{Policy: r.Policy}
	if d.Policy == "" || d.Policy == BindAuto {
		d.Policy = BindNone
		if len(r.Topology.groups(nodeOf)) > 1 {
			d.Policy = BindNode
		}
	}
	var shares [][]CPU // of each rank
	var err error
	switch d.Policy {
	case BindNone:
		for range r.NumRanks {
			shares = append(shares, r.Topology.CPUs)
		}
	case BindNode:
		shares = r.whole(nodeOf)
	case BindSocket:
		shares = r.whole(socketOf)
	case BindCoreComplex:
		shares = r.wholeWithin(cacheOf)
	case BindExclusive:
		shares, err = r.exclusive()
	default:
		shares, err = r.listed()
	}
	if err != nil {
		return Division{}, err
	}
	d.finish(r, shares)
	return d, nil
}

func nodeOf(c CPU) int   { return c.Node }
func socketOf(c CPU) int { return c.Socket }
func cacheOf(c CPU) int  { return c.Cache }
func coreOf(c CPU) int   { return c.Core }

// groups divides the CPUs by key, in order of the key.
func (t Topology) groups(key func(CPU) int) [][]CPU { return group(t.CPUs, key) }

func group(cpus []CPU, key func(CPU) int) [][]CPU {
	sorted := slices.Clone(cpus)
	slices.SortStableFunc(sorted, func(a, b CPU) int { return cmp.Compare(key(a), key(b)) })
	var groups [][]CPU
	for i, cpu := range sorted {
		if i == 0 || key(cpu) != key(sorted[i-1]) {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], cpu)
	}
	return groups
}

// assign returns the ranks of each group. A rank near a NUMA node goes to the group
// that has most of its CPUs; the others go to groups in order, in proportion to cores.
// Where groups are more than ranks, see spread.
func (r Request) assign(groups [][]CPU) [][]int {
	ranks := make([][]int, len(groups))
	var free []int
	for rank := range r.NumRanks {
		if g := r.near(rank, groups); g >= 0 {
			ranks[g] = append(ranks[g], rank)
		} else {
			free = append(free, rank)
		}
	}
	// A place is one rank's room in a group. Each free rank takes the group that is then
	// emptiest for its cores; what each gets is then put in order.
	counts := make([]int, len(groups))
	for range free {
		best := 0
		for g := range groups {
			if r.load(ranks, counts, groups, g) < r.load(ranks, counts, groups, best) {
				best = g
			}
		}
		counts[best]++
	}
	for g, n := range counts {
		ranks[g] = append(ranks[g], free[:n]...)
		free = free[n:]
	}
	return ranks
}

// load returns how full group g would be with one rank more.
func (r Request) load(ranks [][]int, counts []int, groups [][]CPU, g int) float64 {
	return float64(len(ranks[g])+counts[g]+1) / float64(len(group(groups[g], coreOf)))
}

// near returns the group with the most CPUs of the node that rank's GPU hangs on, -1 if
// the node is not known or none of its CPUs is there.
func (r Request) near(rank int, groups [][]CPU) int {
	if r.Near == nil || r.Near[rank] < 0 {
		return -1
	}
	best, most := -1, 0
	for g, cpus := range groups {
		n := 0
		for _, cpu := range cpus {
			if cpu.Node == r.Near[rank] {
				n++
			}
		}
		if n > most {
			best, most = g, n
		}
	}
	return best
}

// spread returns the groups for ranks fewer than groups, of which nobody knows a GPU's
// place: rank i gets neighbouring ones, so that no CPU lies idle. It returns nil otherwise.
func (r Request) spread(groups [][]CPU) [][]CPU {
	if r.NumRanks >= len(groups) || r.Near != nil && slices.Max(r.Near) >= 0 {
		return nil
	}
	shares := make([][]CPU, r.NumRanks)
	for rank := range shares {
		for _, g := range groups[rank*len(groups)/r.NumRanks : (rank+1)*len(groups)/r.NumRanks] {
			shares[rank] = append(shares[rank], g...)
		}
	}
	return shares
}

// whole gives each rank a whole group, shared with the group's other ranks.
func (r Request) whole(key func(CPU) int) [][]CPU {
	groups := r.Topology.groups(key)
	if shares := r.spread(groups); shares != nil {
		return shares
	}
	shares := make([][]CPU, r.NumRanks)
	for g, ranks := range r.assign(groups) {
		for _, rank := range ranks {
			shares[rank] = groups[g]
		}
	}
	return shares
}

// wholeWithin gives each rank one group of those in its NUMA node, in turn.
func (r Request) wholeWithin(key func(CPU) int) [][]CPU {
	nodes := r.Topology.groups(nodeOf)
	shares := make([][]CPU, r.NumRanks)
	for n, ranks := range r.assign(nodes) {
		groups := group(nodes[n], key)
		for i, rank := range ranks {
			// Ranks fewer than groups stand apart; more share in turn.
			at := i % len(groups)
			if len(ranks) < len(groups) {
				at = i * len(groups) / len(ranks)
			}
			shares[rank] = groups[at]
		}
	}
	return shares
}

// exclusive gives each rank whole cores that no other has: those of its NUMA node in
// equal parts, the first ranks one more where they do not divide.
func (r Request) exclusive() ([][]CPU, error) {
	numCores := len(r.Topology.groups(coreOf))
	if r.NumRanks > numCores {
		return nil, fmt.Errorf("--bind exclusive: %d ranks but %d cores in the affinity mask (CPUs %s); use --bind none, or fewer ranks",
			r.NumRanks, numCores, FormatCPUList(r.Topology.ids()))
	}
	nodes := r.Topology.groups(nodeOf)
	if shares := r.spread(nodes); shares != nil {
		return shares, nil
	}
	shares := make([][]CPU, r.NumRanks)
	for n, ranks := range r.assign(nodes) {
		cores := group(nodes[n], coreOf)
		if len(ranks) > len(cores) {
			return nil, fmt.Errorf("--bind exclusive: %d ranks have their GPUs on NUMA node %d, which has %d cores in the affinity mask; use --bind none",
				len(ranks), nodes[n][0].Node, len(cores))
		}
		for i, rank := range ranks {
			size, more := len(cores)/len(ranks), len(cores)%len(ranks)
			begin := i*size + min(i, more)
			end := begin + size
			if i < more {
				end++
			}
			for _, core := range cores[begin:end] {
				shares[rank] = append(shares[rank], core...)
			}
		}
	}
	return shares, nil
}

// listed reads the policy as a list of CPUs for each rank.
func (r Request) listed() ([][]CPU, error) {
	if !strings.ContainsAny(string(r.Policy[:1]), "0123456789") {
		return nil, fmt.Errorf("--bind is %.40q, want auto, none, node, socket, exclusive, core-complex or CPUs for each rank like \"0-3;4-7\"", string(r.Policy))
	}
	lists := strings.Split(string(r.Policy), ";")
	if len(lists) != r.NumRanks {
		return nil, fmt.Errorf("--bind has CPUs for %d ranks, want %d lists with ; between", len(lists), r.NumRanks)
	}
	there := map[int]CPU{}
	for _, cpu := range r.Topology.CPUs {
		there[cpu.ID] = cpu
	}
	shares := make([][]CPU, r.NumRanks)
	for rank, list := range lists {
		ids, err := ParseCPUList(list)
		if err != nil {
			return nil, fmt.Errorf("--bind, rank %d: %w", rank, err)
		}
		if len(ids) == 0 {
			return nil, fmt.Errorf("--bind, rank %d: no CPU", rank)
		}
		for _, id := range ids {
			cpu, ok := there[id]
			if !ok {
				return nil, fmt.Errorf("--bind, rank %d: CPU %d is not in the affinity mask, %s", rank, id, FormatCPUList(r.Topology.ids()))
			}
			shares[rank] = append(shares[rank], cpu)
		}
	}
	return shares, nil
}

func (t Topology) ids() []int {
	ids := make([]int, len(t.CPUs))
	for i, cpu := range t.CPUs {
		ids[i] = cpu.ID
	}
	return ids
}

// finish makes bindings of the ranks' shares, and counts threads: a CPU that several
// ranks share counts for each in part.
func (d *Division) finish(r Request, shares [][]CPU) {
	users := map[int]int{}
	for _, share := range shares {
		for _, cpu := range share {
			users[cpu.ID]++
		}
	}
	fair := math.Inf(1)
	if r.Quota > 0 {
		fair = r.Quota / float64(r.NumRanks)
	}
	for _, share := range shares {
		b := Binding{Node: share[0].Node}
		part := 0.0
		for _, cpu := range share {
			b.CPUs = append(b.CPUs, cpu.ID)
			part += 1 / float64(users[cpu.ID])
			if cpu.Node != b.Node {
				b.Node = -1
			}
		}
		slices.Sort(b.CPUs)
		// Parts such as three thirds add up to a little less than they should.
		b.Threads = max(int(min(part+1e-6, fair)), 1)
		d.Ranks = append(d.Ranks, b)
	}
	for _, cpu := range r.Topology.CPUs {
		if users[cpu.ID] == 0 {
			d.Rest = append(d.Rest, cpu.ID)
		}
	}
}
