package placement

import (
	"fmt"
	"math"

	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/kube"
	"github.com/wanrun/wanrun/internal/slurm"
)

// sources answer as a whole, asked in this order. mpirun goes before Slurm: within an
// allocation it has srun start its daemons, whose SLURM_ variables its ranks inherit.
var sources = []struct {
	name Source
	read func(environ.Lookup, said) (b base, there bool, err error)
}{
	{FromTorchrun, readTorchrun},
	{FromMPI, readMPI},
	{FromSlurm, readSlurm},
	{FromLWS, readLWS},
	{FromJobSet, readJobSet},
	{FromPyTorchJob, readPyTorchJob},
	{FromIndex, readIndex},
}

// findBase asks the sources for the first answer.
func findBase(lookup environ.Lookup, said said) (base, error) {
	for _, source := range sources {
		if said.only != "" && said.only != source.name {
			continue
		}
		b, there, err := source.read(lookup, said)
		if err != nil {
			if said.only == "" {
				err = fmt.Errorf("%w (--placement alone does not look at it)", err)
			}
			return base{}, err
		}
		if there {
			b.Source = source.name
			return b, nil
		}
		if said.only != "" {
			return base{}, fmt.Errorf("--placement %s: its variables are not set here", source.name)
		}
	}
	b := base{label: "default", noRank: said.numNodes.value > 1}
	b.Placement = Placement{Source: Alone, Why: "neither a flag nor a scheduler says more: one node", Mode: Agent, NumNodes: 1}
	if environ.NewReader(lookup).Has("JOB_COMPLETION_INDEX") && !said.numNodes.set() {
		b.Notes = append(b.Notes, "JOB_COMPLETION_INDEX is set but no number of nodes (WANRUN_NNODES): this pod works alone")
	}
	return b, nil
}

// asRank completes b for a process that is one rank.
func (b *base) asRank(rank, worldSize, localRank, localWorldSize int) {
	b.Mode, b.Rank, b.WorldSize, b.LocalRank, b.RanksPerNode = Rank, rank, worldSize, localRank, localWorldSize
	b.Why = fmt.Sprintf("%s has started %d processes on this node, so each is one rank: this is rank %d of %d",
		b.label, localWorldSize, rank, worldSize)
}

// isTorchrunRank is true for a process of torchrun or what speaks like it. A world of
// one says nothing.
func isTorchrunRank(r *environ.Reader) bool {
	return r.Has("RANK", "WORLD_SIZE", "LOCAL_RANK") && r.Raw("WORLD_SIZE") != "1"
}

// readTorchrun reads torchrun's variables for a rank; the names for a node's ranks and
// the node's own rank are torchrun's or deepspeed's.
func readTorchrun(lookup environ.Lookup, _ said) (base, bool, error) {
	r := environ.NewReader(lookup)
	if !isTorchrunRank(r) {
		return base{}, false, nil
	}
	worldSize := r.Int("WORLD_SIZE", 1, math.MaxInt32, 1)
	rank := r.Int("RANK", 0, worldSize-1, 0)
	local := r.First("LOCAL_WORLD_SIZE", "LOCAL_SIZE")
	if local == "" {
		if r.Has("SLURM_STEP_ID") { // a script that copies Slurm's numbers; Slurm says it all
			return base{}, false, r.Err()
		}
		return base{}, true, fmt.Errorf("RANK, WORLD_SIZE and LOCAL_RANK are set, LOCAL_WORLD_SIZE is not: set it to the ranks of this node")
	}
	localSize := r.Int(local, 1, worldSize, 1)
	localRank := r.Int("LOCAL_RANK", 0, localSize-1, 0)
	b := base{label: "torchrun", binding: true}
	b.NumNodes = r.Int(r.First("GROUP_WORLD_SIZE", "CROSS_SIZE"), 1, worldSize, 0)
	b.NodeRank = r.Int(r.First("GROUP_RANK", "CROSS_RANK"), 0, max(b.NumNodes-1, 0), 0)
	b.Restarts = r.Int("TORCHELASTIC_RESTART_COUNT", 0, math.MaxInt32, 0)
	host, port := r.Host("MASTER_ADDR"), r.Port("MASTER_PORT")
	if err := r.Err(); err != nil {
		return base{}, true, err
	}
	if b.NumNodes == 0 {
		var err error
		if b.NumNodes, b.NodeRank, err = nodeByNode(rank, worldSize, localRank, localSize); err != nil {
			return base{}, true, err
		}
	}
	if host == "" || port == 0 {
		return base{}, true, fmt.Errorf("RANK, WORLD_SIZE and LOCAL_RANK are set, MASTER_ADDR or MASTER_PORT is not: set both")
	}
	b.JobID = environ.Name(fmt.Sprintf("torchrun-%s-%d", host, port))
	b.Rendezvous = at(host, port)
	if r.Raw("TORCHELASTIC_USE_AGENT_STORE") == "True" {
		b.Rendezvous = derived(host, b.JobID) // torchrun itself listens at MASTER_PORT
	}
	b.onOneNode()
	b.asRank(rank, worldSize, localRank, localSize)
	return b, true, nil
}

// onOneNode keeps the ranks of one node off its network.
func (b *base) onOneNode() {
	if b.NumNodes == 1 {
		b.Rendezvous = derived("127.0.0.1", b.JobID)
	}
}

// nodeByNode returns the nodes of a world of which only the ranks and this node's part
// are known. It takes all nodes to be alike and the ranks to go node by node.
func nodeByNode(rank, worldSize, localRank, localSize int) (numNodes, nodeRank int, err error) {
	if worldSize%localSize != 0 || rank%localSize != localRank {
		return 0, 0, fmt.Errorf("rank %d of %d is rank %d of %d on its node, so ranks do not go node by node: place them so (mpirun: --map-by slot)",
			rank, worldSize, localRank, localSize)
	}
	return worldSize / localSize, rank / localSize, nil
}

// mpis are the names under which MPI launchers set the same four numbers.
var mpis = []struct{ label, rank, size, localRank, localSize string }{
	{"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
	{"MVAPICH", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"},
	{"MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}, // and Intel MPI
}

// readMPI reads an MPI launcher's variables; no MPI is spoken. With one process on this
// node it is an agent, with more each is a rank. srun --mpi=pmi2 sets PMI_RANK without
// the local numbers: that is Slurm's to answer.
func readMPI(lookup environ.Lookup, said said) (base, bool, error) {
	r := environ.NewReader(lookup)
	for _, mpi := range mpis {
		if !r.Has(mpi.rank, mpi.size) || r.Raw(mpi.size) == "1" {
			continue
		}
		if !r.Has(mpi.localRank, mpi.localSize) {
			if r.Has("SLURM_STEP_ID") {
				continue
			}
			return base{}, true, fmt.Errorf("%s and %s are set, %s and %s are not: wanrun cannot tell this node's ranks",
				mpi.rank, mpi.size, mpi.localRank, mpi.localSize)
		}
		size := r.Int(mpi.size, 1, math.MaxInt32, 1)
		rank := r.Int(mpi.rank, 0, size-1, 0)
		localSize := r.Int(mpi.localSize, 1, size, 1)
		localRank := r.Int(mpi.localRank, 0, localSize-1, 0)
		b := base{label: mpi.label, binding: true}
		if err := r.Err(); err != nil {
			return base{}, true, err
		}
		var err error
		if b.NumNodes, b.NodeRank, err = nodeByNode(rank, size, localRank, localSize); err != nil {
			return base{}, true, err
		}
		if id := r.First("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID"); id != "" {
			b.JobID = environ.Name("mpi-" + r.Text(id))
		} else {
			b.JobID = said.jobID.value
		}
		// Many set torch's address beside mpirun's ranks, by -x.
		if host := r.Host("MASTER_ADDR"); host != "" {
			b.Rendezvous = at(host, r.Port("MASTER_PORT"))
		}
		if b.JobID != "" {
			b.onOneNode()
		}
		if localSize > 1 {
			b.asRank(rank, size, localRank, localSize)
		} else {
			b.Mode, b.Why = Agent, fmt.Sprintf("%s has started one process on each of %d nodes: this is node %d", b.label, size, rank)
		}
		return b, true, r.Err()
	}
	return base{}, false, nil
}

func readSlurm(lookup environ.Lookup, _ said) (base, bool, error) {
	e, there, err := slurm.Read(lookup)
	if err != nil || !there {
		return base{}, there, err
	}
	b := base{gpus: e.GPUsOnNode}
	b.Placement = Placement{Mode: Agent, NumNodes: e.NumNodes, NodeRank: e.NodeRank, JobID: e.Name(), Restarts: e.Restarts, End: e.End,
		Hosts: e.Hosts, NodeName: e.NodeName, CPUs: e.CPUsOnNode}
	if !e.InStep {
		b.label = "Slurm job " + e.JobID
		b.Why = b.label + " has one node, and this is no step: it works alone"
		b.JobID = "" // a script may start several
		b.elsewhere = e.NumNodes > 1
		b.noRank = b.elsewhere
		return b, true, nil
	}
	b.label = fmt.Sprintf("Slurm step %s.%s", e.JobID, e.StepID)
	b.binding = true
	b.Rendezvous = derived(e.Hosts[0], b.JobID)
	if !e.TasksAreRanks() {
		b.Why = fmt.Sprintf("%s has one task on each of %d nodes: this is node %d (%s)", b.label, e.NumNodes, e.NodeRank, e.NodeName)
		return b, true, nil
	}
	b.onOneNode()
	rank := e.LocalTask
	for _, n := range e.Tasks[:e.NodeRank] {
		rank += n
	}
	if rank != e.Task {
		b.Notes = append(b.Notes, fmt.Sprintf("Slurm deals its tasks out over the nodes in turn: task %d is rank %d here, as ranks count node by node", e.Task, rank))
	}
	b.asRank(rank, e.NumTasks, e.LocalTask, e.Tasks[e.NodeRank])
	return b, true, nil
}

// ofGroup makes a base of what a controller of Kubernetes says.
func ofGroup(label string, g kube.Group) base {
	b := base{label: label, binding: true}
	b.Placement = Placement{Mode: Agent, NumNodes: g.NumNodes, NodeRank: g.NodeRank, RanksPerNode: g.RanksPerNode,
		JobID: g.Name, Restarts: g.Restarts, Why: fmt.Sprintf("%s has %d pods: this is node %d", label, g.NumNodes, g.NodeRank)}
	if g.Host != "" {
		b.Rendezvous = at(g.Host, g.Port)
	}
	return b
}

func readLWS(lookup environ.Lookup, _ said) (base, bool, error) {
	g, there, err := kube.ReadLWS(lookup)
	return ofGroup("LeaderWorkerSet", g), there, err
}

func readJobSet(lookup environ.Lookup, said said) (base, bool, error) {
	g, there, err := kube.ReadJobSet(lookup, said.numNodes.value)
	return ofGroup("JobSet", g), there, err
}

func readPyTorchJob(lookup environ.Lookup, said said) (base, bool, error) {
	if said.numNodes.by == FromTorchrunFlags {
		return base{}, false, nil // newer operators set PET_ too, and count ranks in WORLD_SIZE
	}
	g, there, err := kube.ReadPyTorchJob(lookup)
	return ofGroup("PyTorchJob", g), there, err
}

// readIndex answers only where the number of nodes is known and nobody has said which
// this is: an Indexed Job is as often an array of jobs of one pod each.
func readIndex(lookup environ.Lookup, said said) (base, bool, error) {
	if !said.numNodes.set() || said.numNodes.value == 1 || said.nodeRank.set() {
		return base{}, false, nil
	}
	g, there, err := kube.ReadIndex(lookup, said.numNodes.value)
	return ofGroup("Kubernetes Job", g), there, err
}
