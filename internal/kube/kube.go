// Package kube reads what Kubernetes' controllers tell a pod in its environment:
// LeaderWorkerSet, JobSet, Kubeflow Trainer and its older PyTorchJob, and the
// completion index of a plain Indexed Job. Here a node is a pod.
package kube

import (
	"fmt"
	"math"
	"strings"

	"github.com/wanrun/wanrun/internal/environ"
)

// Group is a pod's place among those that make one job.
type Group struct {
	NumNodes     int    // 0: not said
	NodeRank     int    // 0 <= NodeRank < NumNodes where that is said
	RanksPerNode int    // 0: not said
	Host         string // node 0's name or address; "" if not said
	Port         int    // 0: not said
	Restarts     int    // of the whole group so far
	Name         string // of the job; "" if not said
}

const (
	maxNodes = 1 << 17
	maxRanks = 1 << 16 // on a node
)

// ReadLWS reads LeaderWorkerSet's variables, which it sets in every container; false
// if there are none. A group of the set is one job.
// Source: kubernetes-sigs/lws, pkg/utils/pod, AddLWSVariables.
func ReadLWS(lookup environ.Lookup) (Group, bool, error) {
	r := environ.NewReader(lookup)
	if r.First("LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "LWS_LEADER_ADDRESS") == "" {
		return Group{}, false, nil
	}
	need(r, "LeaderWorkerSet", "LWS_GROUP_SIZE", "LWS_WORKER_INDEX", "LWS_LEADER_ADDRESS")
	g := Group{Host: r.Host("LWS_LEADER_ADDRESS")}
	g.readPlace(r, "LWS_GROUP_SIZE", "LWS_WORKER_INDEX")
	// The leader's name, SET-GROUP.SUBDOMAIN.NAMESPACE, is the group's.
	g.Name = jobName("lws", g.Host)
	return g.result(r)
}

// ReadTorchrun reads torchrun's own variables, PET_ and a flag's name, which Kubeflow
// Trainer sets and a user may set for any torchrun; false if none of them is there.
// Any may be missing. PET_NPROC_PER_NODE may be a word (auto, gpu, cpu), which says
// nothing here. A range of nodes, MIN:MAX, is refused: the world is fixed.
// Source: kubeflow/trainer, pkg/runtime/framework/plugins/torch.
func ReadTorchrun(lookup environ.Lookup) (Group, bool, error) {
	r := environ.NewReader(lookup)
	if r.First("PET_NNODES", "PET_NODE_RANK", "PET_NPROC_PER_NODE", "PET_MASTER_ADDR", "PET_MASTER_PORT", "PET_RDZV_ENDPOINT") == "" {
		return Group{}, false, nil
	}
	g := Group{Host: r.Host("PET_MASTER_ADDR"), Port: r.Port("PET_MASTER_PORT")}
	if g.Host == "" && r.Has("PET_RDZV_ENDPOINT") {
		endpoint := r.Text("PET_RDZV_ENDPOINT")
		var err error
		if g.Host, g.Port, err = environ.SplitHostPort(endpoint); err != nil {
			r.Fail(fmt.Errorf("PET_RDZV_ENDPOINT: %w", err))
		}
	}
	nodes := r.Text("PET_NNODES")
	lo, hi, ranged := strings.Cut(nodes, ":")
	if ranged && lo != hi {
		r.Fail(fmt.Errorf("PET_NNODES=%q is a range of nodes, but the number is fixed here: set one number", nodes))
	}
	g.NumNodes = r.Number("PET_NNODES", lo, 1, maxNodes, 0)
	g.NodeRank = r.Int("PET_NODE_RANK", 0, lastNode(g.NumNodes), 0)
	switch r.Raw("PET_NPROC_PER_NODE") {
	case "auto", "gpu", "cpu", "xpu":
	default:
		g.RanksPerNode = r.Int("PET_NPROC_PER_NODE", 1, maxRanks, 0)
	}
	if id := r.Text("PET_RDZV_ID"); id != "" && id != "none" {
		g.Name = jobName("torchrun", id)
	} else if g.Host != "" {
		g.Name = jobName("torchrun", g.Host)
	}
	return g.result(r)
}

// ReadPyTorchJob reads the variables of Kubeflow's first operator, where RANK and
// WORLD_SIZE count pods; false outside Kubernetes, and where LOCAL_RANK is set too,
// so that they count processes.
// Source: kubeflow/training-operator, pkg/controller.v1/pytorch/envvar.go.
func ReadPyTorchJob(lookup environ.Lookup) (Group, bool, error) {
	r := environ.NewReader(lookup)
	if !r.Has("KUBERNETES_SERVICE_HOST", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") || r.Has("LOCAL_RANK") {
		return Group{}, false, nil
	}
	g := Group{Host: r.Host("MASTER_ADDR"), Port: r.Port("MASTER_PORT")}
	g.readPlace(r, "WORLD_SIZE", "RANK")
	g.Name = jobName("pytorchjob", g.Host)
	return g.result(r)
}

// ReadJobSet reads the variables that deploy/kubernetes/jobset.yaml takes from
// JobSet's labels, as JobSet sets none itself: JOBSET_NAME, REPLICATED_JOB_NAME, and
// if there are several Jobs JOB_INDEX and REPLICATED_JOB_REPLICAS, and
// JOBSET_RESTART_ATTEMPT; false without JOBSET_NAME. Kubernetes sets
// JOB_COMPLETION_INDEX. How many pods a Job has is in none of its labels, so numNodes,
// the pods of all Jobs, is the caller's to know.
func ReadJobSet(lookup environ.Lookup, numNodes int) (Group, bool, error) {
	r := environ.NewReader(lookup)
	if !r.Has("JOBSET_NAME") {
		return Group{}, false, nil
	}
	need(r, "JobSet", "JOBSET_NAME", "REPLICATED_JOB_NAME", "JOB_COMPLETION_INDEX")
	if numNodes < 1 && r.Err() == nil {
		r.Fail(fmt.Errorf("JobSet %s does not say how many pods it has: set WANRUN_NNODES in the manifest", r.Text("JOBSET_NAME")))
	}
	jobs := r.Int("REPLICATED_JOB_REPLICAS", 1, maxNodes, 1)
	job := r.Int("JOB_INDEX", 0, jobs-1, 0)
	if r.Err() == nil && numNodes%jobs != 0 {
		r.Fail(fmt.Errorf("%d nodes do not divide over the %d Jobs of JobSet %s (REPLICATED_JOB_REPLICAS)", numNodes, jobs, r.Text("JOBSET_NAME")))
	}
	pods := max(numNodes/jobs, 1) // of a Job
	name, replicated := r.Host("JOBSET_NAME"), r.Host("REPLICATED_JOB_NAME")
	g := Group{
		NumNodes: numNodes,
		NodeRank: job*pods + r.Int("JOB_COMPLETION_INDEX", 0, pods-1, 0),
		// The name of the first pod in JobSet's headless service, which bears its own name.
		Host:     fmt.Sprintf("%s-%s-0-0.%s", name, replicated, name),
		Restarts: r.Int("JOBSET_RESTART_ATTEMPT", 0, math.MaxInt32, 0),
	}
	if err := environ.CheckHost(g.Host); err != nil && r.Err() == nil {
		r.Fail(fmt.Errorf("name of JobSet's first pod: %w", err))
	}
	g.Name = fmt.Sprintf("%s-%d", jobName("jobset", name+"-"+replicated), g.Restarts)
	return g.result(r)
}

// ReadIndex reads the completion index of an Indexed Job of numNodes pods; false
// if there is none. Such a Job has no address of node 0 in its environment.
func ReadIndex(lookup environ.Lookup, numNodes int) (Group, bool, error) {
	r := environ.NewReader(lookup)
	if !r.Has("JOB_COMPLETION_INDEX") {
		return Group{}, false, nil
	}
	return Group{NumNodes: numNodes, NodeRank: r.Int("JOB_COMPLETION_INDEX", 0, max(numNodes-1, 0), 0)}.result(r)
}

// readPlace reads how many nodes there are and which this is; either may be missing.
func (g *Group) readPlace(r *environ.Reader, count, rank string) {
	g.NumNodes = r.Int(count, 1, maxNodes, 0)
	g.NodeRank = r.Int(rank, 0, lastNode(g.NumNodes), 0)
}

// lastNode returns the highest rank of numNodes nodes, 0 of which is an unknown number.
func lastNode(numNodes int) int {
	if numNodes == 0 {
		return maxNodes - 1
	}
	return numNodes - 1
}

func (g Group) result(r *environ.Reader) (Group, bool, error) {
	if err := r.Err(); err != nil {
		return Group{}, true, err
	}
	return g, true, nil
}

// need fails for the first of names that is not set.
func need(r *environ.Reader, source string, names ...string) {
	for _, name := range names {
		if !r.Has(name) {
			r.Fail(fmt.Errorf("%s is not set, although other variables of %s are", name, source))
		}
	}
}

// jobName makes a job's name from its controller's kind and something of its own.
func jobName(kind, of string) string {
	if of == "" {
		return ""
	}
	return environ.Name(kind + "-" + of)
}
