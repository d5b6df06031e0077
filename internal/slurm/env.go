package slurm

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/environ"
)

// Env is what Slurm says in the environment of one process.
type Env struct {
	Cluster string // "" where an old Slurm does not say
	JobID   string // digits
	JobName string
	// ArrayJobID and ArrayTaskID are set in an array's jobs; JobID is the task's own.
	ArrayJobID, ArrayTaskID string
	Restarts                int // requeues of the job so far

	// InStep is true in a task that srun has started. It is false in the batch script
	// and in the shell of salloc, where Hosts are the whole allocation and the numbers
	// below are 0, but for NumNodes.
	InStep    bool
	StepID    string
	Hosts     []string // the nodes, in the order of their ranks
	NumNodes  int      // len(Hosts)
	NodeRank  int      // 0 <= NodeRank < NumNodes
	NumTasks  int
	Task      int   // 0 <= Task < NumTasks, over all nodes
	LocalTask int   // on this node
	Tasks     []int // of each node

	NodeName    string // Slurm's name of this node; not the host name
	CPUsPerTask int    // 0: not said. What a process may really use is its affinity mask.
	CPUsOnNode  int    // 0: not said
	GPUsOnNode  int    // 0: not said, or none
	End         time.Time
}

const (
	maxTasks = 1 << 20
	// Step ids from here on are Slurm's own: the interactive step of salloc, the batch
	// script, the external step. Source: slurm.h, SLURM_INTERACTIVE_STEP and its neighbours.
	firstReservedStep = 0xfffffff0
)

// Read returns Slurm's environment, and false outside Slurm. Only SLURM_STEP_* say what
// a step is: without it SLURM_NTASKS and SLURM_TASKS_PER_NODE are the job's, and a
// step may have fewer nodes.
//
// Values that do not fit together, and heterogeneous jobs, are errors.
func Read(lookup environ.Lookup) (Env, bool, error) {
	r := environ.NewReader(lookup)
	job := r.First("SLURM_JOB_ID", "SLURM_JOBID")
	if job == "" {
		return Env{}, false, nil
	}
	e := Env{
		Cluster:     r.Text("SLURM_CLUSTER_NAME"),
		JobID:       r.Text(job),
		JobName:     r.Text("SLURM_JOB_NAME"),
		ArrayJobID:  r.Text("SLURM_ARRAY_JOB_ID"),
		ArrayTaskID: r.Text("SLURM_ARRAY_TASK_ID"),
		StepID:      r.Text(r.First("SLURM_STEP_ID", "SLURM_STEPID")),
		NodeName:    r.Text("SLURMD_NODENAME"),
		Restarts:    r.Int("SLURM_RESTART_COUNT", 0, math.MaxInt32, 0),
		CPUsPerTask: r.Int("SLURM_CPUS_PER_TASK", 1, maxTasks, 0),
		CPUsOnNode:  r.Int("SLURM_CPUS_ON_NODE", 1, maxTasks, 0),
		GPUsOnNode:  r.Int("SLURM_GPUS_ON_NODE", 0, maxTasks, 0),
	}
	if end := r.Int("SLURM_JOB_END_TIME", 0, math.MaxInt, 0); end > 0 {
		e.End = time.Unix(int64(end), 0)
	}
	if n := r.Int("SLURM_HET_SIZE", 0, maxTasks, 0); n > 1 {
		return Env{}, true, fmt.Errorf("heterogeneous Slurm jobs are not supported (SLURM_HET_SIZE=%d): "+
			"submit one job without \":\", whose nodes are alike", n)
	}
	for name, id := range map[string]string{job: e.JobID, "SLURM_STEP_ID": e.StepID} {
		if strings.Trim(id, "0123456789") != "" || len(id) > maxDigits {
			return Env{}, true, fmt.Errorf("%s=%q is no number", name, id)
		}
	}
	e.InStep = e.StepID != "" && r.Int(r.First("SLURM_STEP_ID", "SLURM_STEPID"), 0, math.MaxInt, 0) < firstReservedStep
	if e.InStep {
		e.readStep(r)
	} else {
		e.readAllocation(r)
	}
	if err := r.Err(); err != nil {
		return Env{}, true, fmt.Errorf("environment of Slurm: %w", err)
	}
	return e, true, nil
}

func (e *Env) readAllocation(r *environ.Reader) {
	e.StepID = ""
	list := r.First("SLURM_JOB_NODELIST", "SLURM_NODELIST")
	e.readHosts(r, list, r.First("SLURM_JOB_NUM_NODES", "SLURM_NNODES"))
}

func (e *Env) readStep(r *environ.Reader) {
	for _, name := range []string{"SLURM_STEP_NODELIST", "SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE",
		"SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID"} {
		if !r.Has(name) {
			r.Fail(fmt.Errorf("%s is not set, although SLURM_STEP_ID=%s is", name, e.StepID))
		}
	}
	e.readHosts(r, "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_NODES")
	tasks, err := ParseCounts(r.Raw("SLURM_STEP_TASKS_PER_NODE"))
	if err != nil {
		r.Fail(fmt.Errorf("SLURM_STEP_TASKS_PER_NODE: %w", err))
	}
	e.Tasks = tasks
	e.NumTasks = r.Int("SLURM_STEP_NUM_TASKS", 1, maxTasks, 1)
	e.NodeRank = r.Int("SLURM_NODEID", 0, max(e.NumNodes-1, 0), 0)
	e.Task = r.Int("SLURM_PROCID", 0, e.NumTasks-1, 0)
	if r.Err() != nil {
		return
	}
	sum := 0
	for _, n := range tasks {
		sum += n
	}
	if len(tasks) != e.NumNodes || sum != e.NumTasks {
		r.Fail(fmt.Errorf("SLURM_STEP_TASKS_PER_NODE=%s is %d tasks on %d nodes, but SLURM_STEP_NUM_TASKS=%d and SLURM_STEP_NUM_NODES=%d",
			clip(r.Raw("SLURM_STEP_TASKS_PER_NODE")), sum, len(tasks), e.NumTasks, e.NumNodes))
		return
	}
	e.LocalTask = r.Int("SLURM_LOCALID", 0, max(tasks[e.NodeRank]-1, 0), 0)
}

// readHosts reads the hostlist in one variable and sees that it has as many hosts as
// the other says.
func (e *Env) readHosts(r *environ.Reader, list, count string) {
	hosts, err := Expand(r.Raw(list))
	if err == nil && len(hosts) == 0 {
		err = fmt.Errorf("no nodes in it")
	}
	if err != nil {
		r.Fail(fmt.Errorf("%s: %w", cmp.Or(list, "SLURM_JOB_NODELIST"), err))
		return
	}
	if n := r.Int(count, 1, maxHosts, len(hosts)); n != len(hosts) {
		r.Fail(fmt.Errorf("%s=%d, but %s=%s has %d nodes", count, n, list, clip(r.Raw(list)), len(hosts)))
	}
	e.Hosts, e.NumNodes = hosts, len(hosts)
}

// TasksAreRanks is true in a step of more than one task on a node: whoever started it
// wants one process a task, so that each task is a rank, not an agent that starts ranks.
func (e Env) TasksAreRanks() bool {
	return e.InStep && slices.Max(e.Tasks) > 1
}

// Name returns a name of this attempt at this step that no other of the cluster
// has: slurm-CLUSTER-JOB-STEP-RESTARTS, with ARRAY_TASK for the job in an array.
// It has letters, digits, '-', '_' and '.' alone.
func (e Env) Name() string {
	job := e.JobID
	if e.ArrayJobID != "" && e.ArrayTaskID != "" {
		job = e.ArrayJobID + "_" + e.ArrayTaskID
	}
	parts := []string{"slurm"}
	if e.Cluster != "" {
		parts = append(parts, e.Cluster)
	}
	parts = append(parts, job)
	if e.InStep {
		parts = append(parts, e.StepID)
	}
	return environ.Name(strings.Join(append(parts, fmt.Sprint(e.Restarts)), "-"))
}
