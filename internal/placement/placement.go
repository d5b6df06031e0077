// Package placement finds out where this process stands: on which of how many nodes,
// where node 0 is to be met, and whether it is an agent that starts ranks or was
// itself started as one. It asks the flags first, then the environment that a
// scheduler or another launcher has set, and says who answered.
//
// It also divides a node's CPUs among its ranks. All of it is pure: the environment
// and /sys come in as parameters.
package placement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/environ"
)

// Source is who said how many nodes there are and which of them this is.
type Source string

// The sources, in the order in which they are asked. FromFlags, FromOwn and FromTorchrunFlags
// answer value by value and go before the others; those answer as a whole, the first
// that is there.
const (
	FromFlags         Source = "flags"
	FromOwn           Source = "WANRUN_*"
	FromTorchrun      Source = "torchrun" // RANK, WORLD_SIZE, LOCAL_RANK: torchrun, accelerate, deepspeed
	FromTorchrunFlags Source = "PET_*"    // torchrun's flags as variables, as Kubeflow Trainer sets them
	FromMPI           Source = "mpi"
	FromSlurm         Source = "slurm"
	FromLWS           Source = "lws"
	FromJobSet        Source = "jobset"
	FromPyTorchJob    Source = "pytorchjob"
	FromIndex         Source = "index" // the completion index of a plain Kubernetes Job
	Alone             Source = "alone"
)

// Mode says what this process is.
type Mode string

// The modes.
const (
	// Agent starts the ranks of its node.
	Agent Mode = "agent"
	// Rank is one rank itself, started beside others by somebody else. It starts exactly
	// one, and every rank is an agent of its own to the control channel.
	Rank Mode = "rank"
)

// Given are the values of flags; the zero value gives nothing.
type Given struct {
	NumNodes     int    // --nnodes; 0: not given
	NodeRank     *int   // --node-rank; nil: not given, or "auto"
	RanksPerNode int    // --nproc; 0: not given, or a word
	Rendezvous   string // --rdzv HOST:PORT or file:/shared/path
	JobID        string // --job-id
	Source       Source // --placement: ask this one alone; "" or "auto": the first that answers
}

// Placement is where this process stands.
type Placement struct {
	Source Source `json:"source"`
	Why    string `json:"why"` // one line about Source, for people
	Mode   Mode   `json:"mode"`

	NumNodes int `json:"num_nodes"`
	NodeRank int `json:"node_rank"` // 0 <= NodeRank < NumNodes
	// RanksPerNode is 0 where nobody says: the parallel degrees or the GPUs tell. In mode
	// Rank it is the ranks of this node, and other nodes may have other numbers.
	RanksPerNode int `json:"ranks_per_node"`
	// Rank, WorldSize and LocalRank are set in mode Rank alone. Ranks count node by node,
	// also where the scheduler has dealt its tasks out in turn.
	Rank      int `json:"rank"`
	WorldSize int `json:"world_size"`
	LocalRank int `json:"local_rank"`

	// Rendezvous is where agents meet; the zero value in mode Agent on one node.
	Rendezvous Rendezvous `json:"rendezvous"`
	JobID      string     `json:"job_id"`   // the same in all agents; "": node 0 makes one
	Restarts   int        `json:"restarts"` // by the scheduler so far
	End        time.Time  `json:"end"`      // the scheduler's time limit; zero: none said

	Hosts    []string `json:"hosts"`     // the nodes' names for messages, by node rank; nil: not said
	NodeName string   `json:"node_name"` // of this node, for messages; "": not said
	CPUs     int      `json:"cpus"`      // that the scheduler counts on this node; 0: not said. The affinity mask binds.
	GPUs     int      `json:"gpus"`      // visible to this process by its environment; -1: not said

	Notes  []string `json:"notes"`  // what a user should know, a line each
	Values []Value  `json:"values"` // each value and who said it, for --explain
}

// Value is one line of --explain.
type Value struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"`
}

// Agent returns this process's number among those that meet, and how many they are:
// nodes in mode Agent, ranks in mode Rank.
func (p Placement) Agent() (index, count int) {
	if p.Mode == Rank {
		return p.Rank, p.WorldSize
	}
	return p.NodeRank, p.NumNodes
}

// Find returns the placement that flags and environment say. What is missing and what
// contradicts is an error of one line that names the variables or flags at fault.
//
// A world smaller than the one that somebody has started is refused, never assumed:
// its copies would each do the whole job.
func Find(lookup environ.Lookup, given Given) (Placement, error) {
	said, err := collect(lookup, given)
	if err != nil {
		return Placement{}, err
	}
	b, err := findBase(lookup, said)
	if err != nil {
		return Placement{}, err
	}
	p, err := b.merge(said)
	if err != nil {
		return Placement{}, err
	}
	p.GPUs = gpus(lookup, b.gpus)
	p.explain(b, said)
	return p, nil
}

// base is what one source says as a whole.
type base struct {
	Placement
	label string // of the source in messages, such as "Slurm step 12.0"
	// binding: the source has started NumNodes nodes' worth of this very program.
	binding bool
	// elsewhere: the source knows of further nodes but has not started this program there.
	elsewhere bool
	noRank    bool // NodeRank is not known
	gpus      int  // on this node; 0: not said
}

// merge lays the single values over the source's.
func (b base) merge(said said) (Placement, error) {
	p := b.Placement
	if n := said.numNodes; n.set() && n.value != p.NumNodes {
		if b.binding {
			return p, fmt.Errorf("%s is %d, but %s has %d nodes: make them equal, or use --placement alone for a job of its own on each",
				n.from, n.value, b.label, p.NumNodes)
		}
		p.NumNodes, p.Hosts, p.NodeRank, b.noRank = n.value, nil, 0, n.value > 1
	} else if b.elsewhere && !n.set() {
		return p, fmt.Errorf("%s has %d nodes, but this is no step on them: start with \"srun --ntasks-per-node=1 wanrun …\", or use --nnodes 1 for this node alone",
			b.label, p.NumNodes)
	}
	if b.elsewhere || !b.binding && said.numNodes.set() {
		p.Source, p.Why = said.source(p.Source), fmt.Sprintf("%s says %d nodes", said.numNodes.from, p.NumNodes)
	}
	if p.Mode == Rank {
		if err := said.agreesWithRank(p, b.label); err != nil {
			return p, err
		}
	} else {
		if n := said.ranksPerNode; n.set() {
			p.RanksPerNode = n.value
		}
		if n := said.nodeRank; n.set() {
			if n.value >= p.NumNodes {
				return p, fmt.Errorf("%s is %d, want 0 to %d of %d nodes (--nnodes)", n.from, n.value, p.NumNodes-1, p.NumNodes)
			}
			if !b.noRank && b.binding && n.value != p.NodeRank {
				p.Notes = append(p.Notes, fmt.Sprintf("%s makes this node %d, which is node %d to %s", n.from, n.value, p.NodeRank, b.label))
			}
			p.NodeRank, b.noRank = n.value, false
		}
	}
	if said.rendezvous.set() {
		p.Rendezvous = said.rendezvous.value
	}
	if said.jobID.set() {
		p.JobID = said.jobID.value
	}
	_, agents := p.Agent()
	switch {
	case agents == 1:
		p.Rendezvous = Rendezvous{}
	case b.noRank || p.Rendezvous.isZero():
		return p, b.missing(said, p)
	}
	return p, nil
}

// missing says which values several nodes need beside what is known.
func (b base) missing(said said, p Placement) error {
	var need []string
	if b.noRank {
		need = append(need, fmt.Sprintf("--node-rank (WANRUN_NODE_RANK), 0 to %d", p.NumNodes-1))
	}
	if p.Rendezvous.isZero() {
		need = append(need, "--rdzv HOST:PORT of node 0 (WANRUN_RDZV)")
	}
	who := b.label
	if said.numNodes.set() {
		who = fmt.Sprintf("%s %d", said.numNodes.from, p.NumNodes)
	}
	return fmt.Errorf("%s: several nodes need %s", who, strings.Join(need, " and "))
}

var errRankMode = errors.New("leave it out, or start one process a node")

// agreesWithRank sees that the flags do not ask for other ranks than were started.
func (s said) agreesWithRank(p Placement, label string) error {
	if n := s.ranksPerNode; n.set() && n.value != 1 && n.value != p.RanksPerNode {
		return fmt.Errorf("%s is %d, but %s has started %d processes on this node, each of which is one rank: %w",
			n.from, n.value, label, p.RanksPerNode, errRankMode)
	}
	if n := s.nodeRank; n.set() && n.value != p.NodeRank {
		return fmt.Errorf("%s is %d, but %s has started this rank on node %d: %w", n.from, n.value, label, p.NodeRank, errRankMode)
	}
	return nil
}

// explain fills Values.
func (p *Placement) explain(b base, said said) {
	add := func(name, value, from string) {
		if value != "" {
			p.Values = append(p.Values, Value{name, value, from})
		}
	}
	from := func(set bool, by string) string {
		if set {
			return by
		}
		return b.label
	}
	add("placement", string(p.Source), p.Why)
	add("mode", string(p.Mode), b.label)
	add("nodes", fmt.Sprint(p.NumNodes), from(said.numNodes.set() && !b.binding, said.numNodes.from))
	if p.Mode == Rank {
		add("rank", fmt.Sprintf("%d of %d", p.Rank, p.WorldSize), b.label)
		add("local rank", fmt.Sprint(p.LocalRank), b.label)
	}
	add("node rank", fmt.Sprint(p.NodeRank), from(said.nodeRank.set(), said.nodeRank.from))
	if p.RanksPerNode > 0 {
		add("ranks per node", fmt.Sprint(p.RanksPerNode), from(said.ranksPerNode.set() && p.Mode == Agent, said.ranksPerNode.from))
	}
	add("rendezvous", p.Rendezvous.String(), from(said.rendezvous.set(), said.rendezvous.from))
	add("job id", p.JobID, from(said.jobID.set(), said.jobID.from))
	if p.Restarts > 0 {
		add("restarts", fmt.Sprint(p.Restarts), b.label)
	}
	if !p.End.IsZero() {
		add("end", p.End.UTC().Format(time.RFC3339), b.label)
	}
	if p.CPUs > 0 {
		add("cpus", fmt.Sprint(p.CPUs), b.label)
	}
	if p.GPUs >= 0 {
		add("gpus", fmt.Sprint(p.GPUs), gpusFrom(b))
	}
	p.Notes = slices.Clip(p.Notes)
}
