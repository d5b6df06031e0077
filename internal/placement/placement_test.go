package placement

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/environ"
)

// recorded returns the environment that a real Slurm has set, of internal/slurm's tests.
func recorded(t testing.TB, name string) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../slurm/testdata/env/" + name + ".env")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	return env
}

// with returns a copy of env with changes NAME=VALUE; an empty value unsets.
func with(env map[string]string, changes ...string) map[string]string {
	out := map[string]string{}
	for name, value := range env {
		out[name] = value
	}
	for _, change := range changes {
		name, value, _ := strings.Cut(change, "=")
		if out[name] = value; value == "" {
			delete(out, name)
		}
	}
	return out
}

func vars(entries ...string) map[string]string { return with(nil, entries...) }

// summary is a placement in one line: source, mode, place, rendezvous and job.
func summary(p Placement) string {
	place := fmt.Sprintf("node %d/%d", p.NodeRank, p.NumNodes)
	if p.Mode == Rank {
		place += fmt.Sprintf(" rank %d/%d local %d", p.Rank, p.WorldSize, p.LocalRank)
	}
	rdzv := p.Rendezvous.String()
	if len(p.Rendezvous.Ports) > 1 {
		rdzv = p.Rendezvous.Host + ":*"
	}
	return strings.Join([]string{string(p.Source), string(p.Mode), place, fmt.Sprintf("nproc %d gpus %d", p.RanksPerNode, p.GPUs), rdzv, p.JobID}, " | ")
}

func ref(n int) *int { return &n }

func TestFind(t *testing.T) {
	lws := vars("LWS_LEADER_ADDRESS=wan-0.wan.video", "LWS_GROUP_SIZE=2", "LWS_WORKER_INDEX=1")
	trainer := vars("PET_NNODES=2", "PET_NPROC_PER_NODE=8", "PET_NODE_RANK=1", "PET_MASTER_ADDR=wan-node-0-0.wan", "PET_MASTER_PORT=29400",
		"JOB_COMPLETION_INDEX=1", "KUBERNETES_SERVICE_HOST=10.0.0.1")
	jobset := vars("JOBSET_NAME=wan", "REPLICATED_JOB_NAME=node", "JOB_COMPLETION_INDEX=1", "WANRUN_NNODES=2", "JOBSET_RESTART_ATTEMPT=1")
	torchrun := vars("RANK=5", "LOCAL_RANK=1", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=4", "GROUP_RANK=1", "GROUP_WORLD_SIZE=2",
		"MASTER_ADDR=gpu-a", "MASTER_PORT=29500", "TORCHELASTIC_RUN_ID=none", "TORCHELASTIC_USE_AGENT_STORE=True", "PET_NNODES=2")
	mpi := vars("OMPI_COMM_WORLD_RANK=5", "OMPI_COMM_WORLD_SIZE=8", "OMPI_COMM_WORLD_LOCAL_RANK=1", "OMPI_COMM_WORLD_LOCAL_SIZE=4", "PMIX_NAMESPACE=prterun-vm-12@1")
	for _, tc := range []struct {
		name  string
		env   map[string]string
		given Given
		want  string // summary, or the error after "! "
	}{
		{"nothing", nil, Given{}, "alone | agent | node 0/1 | nproc 0 gpus -1 |  | "},
		{"nproc", nil, Given{RanksPerNode: 8}, "alone | agent | node 0/1 | nproc 8 gpus -1 |  | "},
		{"nproc from WANRUN_", vars("WANRUN_NPROC=4", "PET_NPROC_PER_NODE=2"), Given{}, "alone | agent | node 0/1 | nproc 4 gpus -1 |  | "},
		{"nproc is a word", vars("WANRUN_NPROC=gpu", "PET_NPROC_PER_NODE=auto"), Given{}, "alone | agent | node 0/1 | nproc 0 gpus -1 |  | "},
		{"visible GPUs", vars("CUDA_VISIBLE_DEVICES=GPU-1,MIG-2,3"), Given{}, "alone | agent | node 0/1 | nproc 0 gpus 3 |  | "},
		{"no visible GPU", vars("CUDA_VISIBLE_DEVICES=-1"), Given{}, "alone | agent | node 0/1 | nproc 0 gpus 0 |  | "},

		{"flags", nil, Given{NumNodes: 2, NodeRank: ref(1), RanksPerNode: 2, Rendezvous: "127.0.0.1:4000"},
			"flags | agent | node 1/2 | nproc 2 gpus -1 | 127.0.0.1:4000 | "},
		{"flags before WANRUN_ before PET_", with(trainer, "WANRUN_NODE_RANK=0", "WANRUN_NNODES=3"), Given{NumNodes: 4, JobID: "mine"},
			"flags | agent | node 0/4 | nproc 8 gpus -1 | wan-node-0-0.wan:29400 | mine"},
		{"rendezvous in a file", nil, Given{NumNodes: 2, NodeRank: ref(0), Rendezvous: "file:/shared/a/../b"}, "flags | agent | node 0/2 | nproc 0 gpus -1 | file:/shared/b | "},
		{"one node needs no rendezvous", nil, Given{NumNodes: 1, Rendezvous: "a:1"}, "flags | agent | node 0/1 | nproc 0 gpus -1 |  | "},
		{"WANRUN_", vars("WANRUN_NNODES=2", "WANRUN_NODE_RANK=0", "WANRUN_RDZV=[fd00::1]:4000", "WANRUN_JOB_ID=j.1"), Given{},
			"WANRUN_* | agent | node 0/2 | nproc 0 gpus -1 | [fd00::1]:4000 | j.1"},
		{"no node rank, no address", nil, Given{NumNodes: 2},
			"! --nnodes 2: several nodes need --node-rank (WANRUN_NODE_RANK), 0 to 1 and --rdzv HOST:PORT of node 0 (WANRUN_RDZV)"},
		{"no address", vars("WANRUN_NNODES=2", "WANRUN_NODE_RANK=1"), Given{}, "! WANRUN_NNODES 2: several nodes need --rdzv HOST:PORT of node 0 (WANRUN_RDZV)"},
		{"node rank too high", nil, Given{NumNodes: 2, NodeRank: ref(2), Rendezvous: "a:1"}, "! --node-rank is 2, want 0 to 1 of 2 nodes (--nnodes)"},
		{"node rank alone", nil, Given{NodeRank: ref(1)}, "! --node-rank is 1, want 0 to 0 of 1 nodes (--nnodes)"},
		{"negative", nil, Given{NumNodes: -1}, "! --nnodes is -1, want 1 to 131072"},
		{"WANRUN_ is no number", vars("WANRUN_NNODES=two"), Given{}, `! WANRUN_NNODES="two", want a number from 1 to 131072`},
		{"bad rendezvous", nil, Given{Rendezvous: "gpu-a"}, `! --rdzv: "gpu-a" is not HOST:PORT (an address of IPv6 stands in brackets)`},
		{"bad file", vars("WANRUN_RDZV=file:here"), Given{}, `! WANRUN_RDZV: "file:here": want file: and an absolute path`},
		{"bad job id", nil, Given{JobID: "../x"}, `! --job-id: "../x", want letters, digits, - _ and . alone, at most 128`},

		{"Slurm, one task a node", recorded(t, "step_2x1_task1"), Given{}, "slurm | agent | node 1/2 | nproc 0 gpus 8 | gpu-01:* | slurm-lab-1-0-0"},
		{"Slurm, nproc", recorded(t, "step_2x1_task1"), Given{RanksPerNode: 4}, "slurm | agent | node 1/2 | nproc 4 gpus 8 | gpu-01:* | slurm-lab-1-0-0"},
		{"Slurm, equal flags", recorded(t, "step_2x1_task1"), Given{NumNodes: 2, NodeRank: ref(1), Rendezvous: "10.0.0.1:7"},
			"slurm | agent | node 1/2 | nproc 0 gpus 8 | 10.0.0.1:7 | slurm-lab-1-0-0"},
		{"Slurm, a smaller world", recorded(t, "step_2x1_task1"), Given{NumNodes: 1},
			"! --nnodes is 1, but Slurm step 1.0 has 2 nodes: make them equal, or use --placement alone for a job of its own on each"},
		{"Slurm, a smaller world of PET_", with(recorded(t, "step_2x1_task1"), "PET_NNODES=1"), Given{},
			"! PET_NNODES is 1, but Slurm step 1.0 has 2 nodes: make them equal, or use --placement alone for a job of its own on each"},
		{"Slurm, alone", recorded(t, "step_2x1_task1"), Given{Source: Alone}, "alone | agent | node 0/1 | nproc 0 gpus 8 |  | "},
		{"Slurm, step on one of two", recorded(t, "step_1of2"), Given{}, "slurm | agent | node 0/1 | nproc 0 gpus 8 |  | slurm-lab-1-1-0"},
		{"Slurm, one task per GPU", recorded(t, "tasks_1x8_task3"), Given{}, "slurm | rank | node 0/1 rank 3/8 local 3 | nproc 8 gpus 1 | 127.0.0.1:* | slurm-lab-2-0-0"},
		{"Slurm, one task per GPU, nproc 8", recorded(t, "tasks_1x8_task3"), Given{RanksPerNode: 8}, "slurm | rank | node 0/1 rank 3/8 local 3 | nproc 8 gpus 1 | 127.0.0.1:* | slurm-lab-2-0-0"},
		{"Slurm, one task per GPU, nproc 4", recorded(t, "tasks_1x8_task3"), Given{RanksPerNode: 4},
			"! --nproc is 4, but Slurm step 2.0 has started 8 processes on this node, each of which is one rank: leave it out, or start one process a node"},
		{"Slurm, 2 x 4 tasks", recorded(t, "step_2x4_task5"), Given{}, "slurm | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus 2 | gpu-01:* | slurm-lab-1-2-0"},
		{"Slurm, tasks dealt in turn", with(recorded(t, "step_2x4_task5"), "SLURM_PROCID=3"), Given{}, "slurm | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus 2 | gpu-01:* | slurm-lab-1-2-0"},
		{"Slurm, uneven", recorded(t, "uneven_task2"), Given{}, "slurm | rank | node 1/2 rank 2/3 local 0 | nproc 1 gpus 2 | gpu-01:* | slurm-lab-3-0-0"},
		{"Slurm, array", recorded(t, "array_task"), Given{}, "slurm | agent | node 0/1 | nproc 0 gpus 8 |  | slurm-lab-5_3-0-0"},
		{"Slurm, batch script of two nodes", recorded(t, "batch_2x1"), Given{},
			`! Slurm job 1 has 2 nodes, but this is no step on them: start with "srun --ntasks-per-node=1 wanrun …", or use --nnodes 1 for this node alone`},
		{"Slurm, batch script, this node", recorded(t, "batch_2x1"), Given{NumNodes: 1}, "flags | agent | node 0/1 | nproc 0 gpus 8 |  | "},
		{"Slurm, batch script, by flags", recorded(t, "batch_2x1"), Given{NumNodes: 2, NodeRank: ref(1), Rendezvous: "a:1"}, "flags | agent | node 1/2 | nproc 0 gpus 8 | a:1 | "},
		{"Slurm, batch script of one node, two by flags", with(recorded(t, "batch_2x1"), "SLURM_JOB_NODELIST=gpu-01", "SLURM_JOB_NUM_NODES=1"), Given{NumNodes: 2, Rendezvous: "a:1"},
			"! --nnodes 2: several nodes need --node-rank (WANRUN_NODE_RANK), 0 to 1"},
		{"Slurm, het job", recorded(t, "het"), Given{},
			`! heterogeneous Slurm jobs are not supported (SLURM_HET_SIZE=2): submit one job without ":", whose nodes are alike (--placement alone does not look at it)`},
		{"Slurm, broken, alone", with(recorded(t, "het"), "WANRUN_PLACEMENT=alone"), Given{}, "alone | agent | node 0/1 | nproc 0 gpus -1 |  | "},

		{"torchrun's rank", torchrun, Given{}, "torchrun | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus -1 | gpu-a:* | torchrun-gpu-a-29500"},
		{"torchrun, static store", with(torchrun, "TORCHELASTIC_USE_AGENT_STORE=False"), Given{}, "torchrun | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus -1 | gpu-a:29500 | torchrun-gpu-a-29500"},
		{"deepspeed's rank", vars("RANK=1", "LOCAL_RANK=1", "WORLD_SIZE=2", "LOCAL_SIZE=2", "CROSS_RANK=0", "CROSS_SIZE=1", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=29500"), Given{},
			"torchrun | rank | node 0/1 rank 1/2 local 1 | nproc 2 gpus -1 | 127.0.0.1:* | torchrun-127.0.0.1-29500"},
		{"a world of one says nothing", vars("RANK=0", "LOCAL_RANK=0", "WORLD_SIZE=1"), Given{RanksPerNode: 8}, "alone | agent | node 0/1 | nproc 8 gpus -1 |  | "},
		{"torchrun, no address", with(torchrun, "MASTER_PORT="), Given{}, "! RANK, WORLD_SIZE and LOCAL_RANK are set, MASTER_ADDR or MASTER_PORT is not: set both (--placement alone does not look at it)"},
		{"torchrun, no local size", with(torchrun, "LOCAL_WORLD_SIZE="), Given{},
			"! RANK, WORLD_SIZE and LOCAL_RANK are set, LOCAL_WORLD_SIZE is not: set it to the ranks of this node (--placement alone does not look at it)"},
		{"torchrun, a world of others", torchrun, Given{NumNodes: 1}, "! --nnodes is 1, but torchrun has 2 nodes: make them equal, or use --placement alone for a job of its own on each"},
		{"torchrun, wrong rank", with(torchrun, "RANK=8"), Given{}, `! RANK="8", want a number from 0 to 7 (--placement alone does not look at it)`},
		{"script that copies Slurm's numbers", with(recorded(t, "step_2x4_task5"), "RANK=5", "WORLD_SIZE=8", "LOCAL_RANK=1", "MASTER_ADDR=gpu-01", "MASTER_PORT=29500"), Given{},
			"slurm | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus 2 | gpu-01:* | slurm-lab-1-2-0"},

		{"Kubeflow Trainer", trainer, Given{}, "PET_* | agent | node 1/2 | nproc 8 gpus -1 | wan-node-0-0.wan:29400 | torchrun-wan-node-0-0.wan"},
		{"Kubeflow Trainer, one node", with(trainer, "PET_NNODES=1", "PET_NODE_RANK=0"), Given{}, "PET_* | agent | node 0/1 | nproc 8 gpus -1 |  | "},
		{"PyTorchJob", vars("KUBERNETES_SERVICE_HOST=10.0.0.1", "RANK=1", "WORLD_SIZE=2", "MASTER_ADDR=wan-master-0", "MASTER_PORT=23456"), Given{},
			"pytorchjob | agent | node 1/2 | nproc 0 gpus -1 | wan-master-0:23456 | pytorchjob-wan-master-0"},
		{"LWS", lws, Given{}, "lws | agent | node 1/2 | nproc 0 gpus -1 | wan-0.wan.video:29400 | lws-wan-0.wan.video"},
		{"LWS, half of it", with(lws, "LWS_GROUP_SIZE="), Given{}, "! LWS_GROUP_SIZE is not set, although other variables of LeaderWorkerSet are (--placement alone does not look at it)"},
		{"LWS, a smaller world", lws, Given{NumNodes: 1}, "! --nnodes is 1, but LeaderWorkerSet has 2 nodes: make them equal, or use --placement alone for a job of its own on each"},
		{"JobSet", jobset, Given{}, "jobset | agent | node 1/2 | nproc 0 gpus -1 | wan-node-0-0.wan:29400 | jobset-wan-node-1"},
		{"JobSet without a number", with(jobset, "WANRUN_NNODES="), Given{}, "! JobSet wan does not say how many pods it has: set WANRUN_NNODES in the manifest (--placement alone does not look at it)"},
		{"Indexed Job as an array", vars("JOB_COMPLETION_INDEX=3"), Given{}, "alone | agent | node 0/1 | nproc 0 gpus -1 |  | "},
		{"Indexed Job as nodes", vars("JOB_COMPLETION_INDEX=1", "WANRUN_NNODES=2", "WANRUN_RDZV=wan-0.wan:29400"), Given{}, "index | agent | node 1/2 | nproc 0 gpus -1 | wan-0.wan:29400 | "},
		{"Indexed Job without address", vars("JOB_COMPLETION_INDEX=1", "WANRUN_NNODES=2"), Given{}, "! WANRUN_NNODES 2: several nodes need --rdzv HOST:PORT of node 0 (WANRUN_RDZV)"},

		{"mpirun's rank, no address", mpi, Given{}, "! Open MPI: several nodes need --rdzv HOST:PORT of node 0 (WANRUN_RDZV)"},
		{"mpirun's rank", mpi, Given{Rendezvous: "gpu-a:4000"}, "mpi | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus -1 | gpu-a:4000 | mpi-prterun-vm-12_1"},
		{"mpirun on one node", with(mpi, "OMPI_COMM_WORLD_LOCAL_SIZE=8", "OMPI_COMM_WORLD_LOCAL_RANK=5"), Given{}, "mpi | rank | node 0/1 rank 5/8 local 5 | nproc 8 gpus -1 | 127.0.0.1:* | mpi-prterun-vm-12_1"},
		{"mpirun, one a node", with(mpi, "OMPI_COMM_WORLD_LOCAL_SIZE=1", "OMPI_COMM_WORLD_LOCAL_RANK=0", "MASTER_ADDR=gpu-a"), Given{}, "mpi | agent | node 5/8 | nproc 0 gpus -1 | gpu-a:29400 | mpi-prterun-vm-12_1"},
		{"mpirun --map-by node", with(mpi, "OMPI_COMM_WORLD_RANK=4"), Given{},
			"! rank 4 of 8 is rank 1 of 4 on its node, so ranks do not go node by node: place them so (mpirun: --map-by slot) (--placement alone does not look at it)"},
		{"mpirun of one", vars("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=1"), Given{}, "alone | agent | node 0/1 | nproc 0 gpus -1 |  | "},
		{"mpirun within Slurm", with(recorded(t, "step_2x1_task1"), "OMPI_COMM_WORLD_RANK=5", "OMPI_COMM_WORLD_SIZE=8", "OMPI_COMM_WORLD_LOCAL_RANK=1", "OMPI_COMM_WORLD_LOCAL_SIZE=4", "WANRUN_RDZV=a:1"), Given{},
			"mpi | rank | node 1/2 rank 5/8 local 1 | nproc 4 gpus 8 | a:1 | "},
		{"mpiexec of MPICH", vars("PMI_RANK=1", "PMI_SIZE=2", "MPI_LOCALRANKID=1", "MPI_LOCALNRANKS=2", "WANRUN_JOB_ID=j"), Given{}, "mpi | rank | node 0/1 rank 1/2 local 1 | nproc 2 gpus -1 | 127.0.0.1:* | j"},
		{"srun --mpi=pmi2", with(recorded(t, "step_2x1_task1"), "PMI_RANK=1", "PMI_SIZE=2"), Given{}, "slurm | agent | node 1/2 | nproc 0 gpus 8 | gpu-01:* | slurm-lab-1-0-0"},
		{"PMI without local numbers", vars("PMI_RANK=1", "PMI_SIZE=2"), Given{}, "! PMI_RANK and PMI_SIZE are set, MPI_LOCALRANKID and MPI_LOCALNRANKS are not: wanrun cannot tell this node's ranks (--placement alone does not look at it)"},

		{"one source by name", with(lws, "RANK=1", "LOCAL_RANK=1", "WORLD_SIZE=2"), Given{Source: FromLWS}, "lws | agent | node 1/2 | nproc 0 gpus -1 | wan-0.wan.video:29400 | lws-wan-0.wan.video"},
		{"a source that is not there", nil, Given{Source: FromSlurm}, "! --placement slurm: its variables are not set here"},
		{"an unknown source", nil, Given{Source: "pbs"}, `! --placement is "pbs", want auto, alone, torchrun, mpi, slurm, lws, jobset, pytorchjob or index`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Find(environ.Map(tc.env), tc.given)
			got := summary(p)
			if err != nil {
				got = "! " + err.Error()
				if diff := cmp.Diff(Placement{}, p); diff != "" {
					t.Errorf("a placement beside the error: %s", diff)
				}
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestSlurmDetails looks at what a summary leaves out.
func TestSlurmDetails(t *testing.T) {
	env := with(recorded(t, "step_2x1_task1"), "SLURM_JOB_END_TIME=1795464000", "SLURM_RESTART_COUNT=2")
	p, err := Find(environ.Map(env), Given{RanksPerNode: 4})
	if err != nil {
		t.Fatal(err)
	}
	if !p.End.Equal(time.Unix(1795464000, 0)) || p.Restarts != 2 || p.CPUs != 16 || p.NodeName != "gpu-02" || !slices.Equal(p.Hosts, []string{"gpu-01", "gpu-02"}) {
		t.Errorf("%+v", p)
	}
	if index, count := p.Agent(); index != 1 || count != 2 {
		t.Errorf("agent %d of %d, want 1 of 2", index, count)
	}
	// Both nodes find the same ports, another attempt finds others, all in order of trial.
	other, err := Find(environ.Map(with(env, "SLURM_NODEID=0", "SLURM_PROCID=0", "SLURMD_NODENAME=gpu-01")), Given{})
	if err != nil || !reflect.DeepEqual(other.Rendezvous, p.Rendezvous) {
		t.Errorf("node 0 meets at %v, node 1 at %v (%v)", other.Rendezvous, p.Rendezvous, err)
	}
	next, err := Find(environ.Map(with(env, "SLURM_RESTART_COUNT=3")), Given{})
	if err != nil || slices.Equal(next.Rendezvous.Ports, p.Rendezvous.Ports) {
		t.Errorf("the next attempt meets at %v too (%v)", next.Rendezvous.Ports, err)
	}
	var lines []string
	for _, v := range p.Values {
		lines = append(lines, v.Name+" = "+v.Value+"  ("+v.From+")")
	}
	want := []string{
		"placement = slurm  (Slurm step 1.0 has one task on each of 2 nodes: this is node 1 (gpu-02))",
		"mode = agent  (Slurm step 1.0)",
		"nodes = 2  (Slurm step 1.0)",
		"node rank = 1  (Slurm step 1.0)",
		"ranks per node = 4  (--nproc)",
		"rendezvous = " + p.Rendezvous.String() + "  (Slurm step 1.0)",
		"job id = slurm-lab-1-0-2  (Slurm step 1.0)",
		"restarts = 2  (Slurm step 1.0)",
		"end = 2026-11-23T20:00:00Z  (Slurm step 1.0)",
		"cpus = 16  (Slurm step 1.0)",
		"gpus = 8  (CUDA_VISIBLE_DEVICES or Slurm step 1.0)",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

// TestTasksAreRanks: eight tasks become eight different ranks that meet at one place.
func TestTasksAreRanks(t *testing.T) {
	seen := map[int]bool{}
	var first Rendezvous
	for task := range 8 {
		env := with(recorded(t, "tasks_1x8_task3"), fmt.Sprintf("SLURM_PROCID=%d", task), fmt.Sprintf("SLURM_LOCALID=%d", task))
		p, err := Find(environ.Map(env), Given{})
		if err != nil {
			t.Fatal(err)
		}
		index, count := p.Agent()
		if seen[index] || count != 8 || p.Mode != Rank || p.LocalRank != task {
			t.Errorf("task %d: agent %d of %d, %+v", task, index, count, p)
		}
		seen[index] = true
		if task == 0 {
			first = p.Rendezvous
		}
		if !reflect.DeepEqual(p.Rendezvous, first) || !p.Rendezvous.Loopback() {
			t.Errorf("task %d meets at %v, task 0 at %v", task, p.Rendezvous, first)
		}
	}
}

func TestDerivedPorts(t *testing.T) {
	for i := range 1000 {
		ports := derived("a", fmt.Sprint(i)).Ports
		sorted := slices.Clone(ports)
		slices.Sort(sorted)
		if len(slices.Compact(sorted)) != 8 || sorted[0] < 21000 || sorted[len(sorted)-1] >= 29000 {
			t.Fatalf("job %d: ports %v", i, ports)
		}
	}
}

func TestGPUs(t *testing.T) {
	for list, want := range map[string]int{"": 0, "0": 1, "0,1,2,3,4,5,6,7": 8, "GPU-8932f937-d72c,GPU-3": 2, "MIG-1": 1, "0,-1,1": 1, "NoDevFiles": 0, " 3, 4": 2} {
		if got := gpus(environ.Map(map[string]string{"CUDA_VISIBLE_DEVICES": list}), 5); got != want {
			t.Errorf("CUDA_VISIBLE_DEVICES=%q: %d GPUs, want %d", list, got, want)
		}
	}
	if got := gpus(environ.Map(nil), 5); got != 5 {
		t.Errorf("by the scheduler: %d", got)
	}
	if got := gpus(environ.Map(nil), 0); got != -1 {
		t.Errorf("nobody says: %d", got)
	}
}

func FuzzFind(f *testing.F) {
	for _, name := range []string{"step_2x4_task5", "batch_2x1", "het", "uneven_task2"} {
		var text []string
		for k, v := range recorded(f, name) {
			text = append(text, k+"="+v)
		}
		slices.Sort(text)
		f.Add(strings.Join(text, "\n"))
	}
	f.Add("RANK=5\nLOCAL_RANK=1\nWORLD_SIZE=8\nLOCAL_WORLD_SIZE=4\nMASTER_ADDR=a\nMASTER_PORT=1")
	f.Add("PET_NNODES=2\nPET_NODE_RANK=1\nPET_MASTER_ADDR=a")
	f.Add("OMPI_COMM_WORLD_RANK=5\nOMPI_COMM_WORLD_SIZE=8\nOMPI_COMM_WORLD_LOCAL_RANK=1\nOMPI_COMM_WORLD_LOCAL_SIZE=4\nWANRUN_RDZV=a:1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Find(environ.List(strings.Split(text, "\n")), Given{})
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		index, count := p.Agent()
		if index < 0 || index >= count || p.NodeRank < 0 || p.NodeRank >= p.NumNodes || count > 1 && p.Rendezvous.isZero() || environ.Name(p.JobID) != p.JobID {
			t.Errorf("%+v", p)
		}
		if p.Mode == Rank && (p.LocalRank >= p.RanksPerNode || p.RanksPerNode > p.WorldSize) {
			t.Errorf("%+v", p)
		}
		if _, err := json.Marshal(p); err != nil {
			t.Error(err)
		}
	})
}
