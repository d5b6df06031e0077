package placement

import (
	"fmt"

	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/kube"
)

// value is a single value and who gave it; from is "" where nobody did.
type value[T any] struct {
	value T
	from  string
	by    Source
}

func (v value[T]) set() bool { return v.from != "" }

// take keeps v unless there is a value already: the first source wins.
func take[T any](v *value[T], set bool, x T, from string, by Source) {
	if set && !v.set() {
		*v = value[T]{x, from, by}
	}
}

// said are the single values of flags, WANRUN_* and PET_*.
type said struct {
	numNodes, nodeRank, ranksPerNode value[int]
	rendezvous                       value[Rendezvous]
	jobID                            value[string]
	only                             Source // ask this source alone; "": the first that answers
}

// source returns who gave the number of nodes.
func (s said) source(otherwise Source) Source {
	if s.numNodes.set() {
		return s.numNodes.by
	}
	return otherwise
}

const (
	maxNodes = 1 << 17
	maxRanks = 1 << 16 // on a node
)

func collect(lookup environ.Lookup, given Given) (said, error) {
	var s said
	if err := s.flags(given); err != nil {
		return said{}, err
	}
	if err := s.own(lookup); err != nil {
		return said{}, err
	}
	// torchrun has used up its own flags; its ranks inherit them.
	if s.only != Alone && !isTorchrunRank(environ.NewReader(lookup)) {
		if err := s.torchrunFlags(lookup); err != nil {
			return said{}, err
		}
	}
	return s, nil
}

func (s *said) flags(g Given) error {
	const by = FromFlags
	for _, n := range []struct {
		flag       string
		value, max int
	}{{"--nnodes", g.NumNodes, maxNodes}, {"--nproc", g.RanksPerNode, maxRanks}} {
		if n.value < 0 || n.value > n.max {
			return fmt.Errorf("%s is %d, want 1 to %d", n.flag, n.value, n.max)
		}
	}
	take(&s.numNodes, g.NumNodes > 0, g.NumNodes, "--nnodes", by)
	take(&s.ranksPerNode, g.RanksPerNode > 0, g.RanksPerNode, "--nproc", by)
	if g.NodeRank != nil {
		if *g.NodeRank < 0 || *g.NodeRank >= maxNodes {
			return fmt.Errorf("--node-rank is %d, want 0 to %d", *g.NodeRank, maxNodes-1)
		}
		take(&s.nodeRank, true, *g.NodeRank, "--node-rank", by)
	}
	if g.Rendezvous != "" {
		r, err := ParseRendezvous(g.Rendezvous)
		if err != nil {
			return fmt.Errorf("--rdzv: %w", err)
		}
		take(&s.rendezvous, true, r, "--rdzv", by)
	}
	if err := checkJobID(g.JobID); err != nil {
		return fmt.Errorf("--job-id: %w", err)
	}
	take(&s.jobID, g.JobID != "", g.JobID, "--job-id", by)
	return s.restrict("--placement", string(g.Source))
}

func (s *said) own(lookup environ.Lookup) error {
	const by = FromOwn
	r := environ.NewReader(lookup)
	take(&s.numNodes, r.Has("WANRUN_NNODES"), r.Int("WANRUN_NNODES", 1, maxNodes, 0), "WANRUN_NNODES", by)
	if rank := r.Raw("WANRUN_NODE_RANK"); rank != "auto" {
		take(&s.nodeRank, rank != "", r.Int("WANRUN_NODE_RANK", 0, maxNodes-1, 0), "WANRUN_NODE_RANK", by)
	}
	switch nproc := r.Raw("WANRUN_NPROC"); nproc {
	case "", "auto", "gpu":
	default:
		take(&s.ranksPerNode, true, r.Int("WANRUN_NPROC", 1, maxRanks, 0), "WANRUN_NPROC", by)
	}
	if text := r.Text("WANRUN_RDZV"); text != "" {
		rendezvous, err := ParseRendezvous(text)
		if err != nil {
			r.Fail(fmt.Errorf("WANRUN_RDZV: %w", err))
		}
		take(&s.rendezvous, true, rendezvous, "WANRUN_RDZV", by)
	}
	id := r.Text("WANRUN_JOB_ID")
	if err := checkJobID(id); err != nil {
		r.Fail(fmt.Errorf("WANRUN_JOB_ID: %w", err))
	}
	take(&s.jobID, id != "", id, "WANRUN_JOB_ID", by)
	if s.only == "" {
		if err := s.restrict("WANRUN_PLACEMENT", r.Text("WANRUN_PLACEMENT")); err != nil {
			r.Fail(err)
		}
	}
	return r.Err()
}

func (s *said) torchrunFlags(lookup environ.Lookup) error {
	const by = FromTorchrunFlags
	g, there, err := kube.ReadTorchrun(lookup)
	if err != nil || !there {
		return err
	}
	r := environ.NewReader(lookup)
	take(&s.numNodes, g.NumNodes > 0, g.NumNodes, "PET_NNODES", by)
	take(&s.nodeRank, r.Has("PET_NODE_RANK"), g.NodeRank, "PET_NODE_RANK", by)
	take(&s.ranksPerNode, g.RanksPerNode > 0, g.RanksPerNode, "PET_NPROC_PER_NODE", by)
	// One of several nodes alone has an address to be met at.
	take(&s.rendezvous, g.Host != "" && s.numNodes.value != 1, at(g.Host, g.Port), string(by), by)
	take(&s.jobID, g.Name != "" && s.numNodes.value != 1, g.Name, string(by), by)
	return nil
}

// restrict sets the one source to be asked.
func (s *said) restrict(from, name string) error {
	switch source := Source(name); source {
	case "", "auto":
	case FromTorchrun, FromMPI, FromSlurm, FromLWS, FromJobSet, FromPyTorchJob, FromIndex, Alone:
		s.only = source
	default:
		return fmt.Errorf("%s is %.40q, want auto, alone, torchrun, mpi, slurm, lws, jobset, pytorchjob or index", from, name)
	}
	return nil
}

func checkJobID(id string) error {
	const most = 128
	if len(id) > most || environ.Name(id) != id || id == "." || id == ".." {
		return fmt.Errorf("%.80q, want letters, digits, - _ and . alone, at most %d", id, most)
	}
	return nil
}
