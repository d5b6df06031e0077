package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/environ"
)

type vars = map[string]string

// readers name every reader; those that need a number of nodes get 4.
var readers = map[string]func(environ.Lookup) (Group, bool, error){
	"lws":        ReadLWS,
	"torchrun":   ReadTorchrun,
	"pytorchjob": ReadPyTorchJob,
	"jobset":     func(l environ.Lookup) (Group, bool, error) { return ReadJobSet(l, 4) },
	"jobset 0":   func(l environ.Lookup) (Group, bool, error) { return ReadJobSet(l, 0) },
	"index":      func(l environ.Lookup) (Group, bool, error) { return ReadIndex(l, 4) },
}

func TestReaders(t *testing.T) {
	trainer := vars{"PET_NNODES": "2", "PET_NPROC_PER_NODE": "8", "PET_NODE_RANK": "1",
		"PET_MASTER_ADDR": "wan-node-0-0.wan", "PET_MASTER_PORT": "29400", "JOB_COMPLETION_INDEX": "1"}
	for _, tc := range []struct {
		name   string
		reader string
		vars   vars
		want   Group
		absent bool
		err    string
	}{
		{name: "LWS worker", reader: "lws",
			vars: vars{"LWS_LEADER_ADDRESS": "wan-0.wan.video", "LWS_GROUP_SIZE": "4", "LWS_WORKER_INDEX": "3"},
			want: Group{NumNodes: 4, NodeRank: 3, Host: "wan-0.wan.video", Name: "lws-wan-0.wan.video"}},
		{name: "LWS leader by address", reader: "lws",
			vars: vars{"LWS_LEADER_ADDRESS": "fd00::7", "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "0"},
			want: Group{NumNodes: 2, Host: "fd00::7", Name: "lws-fd00__7"}},
		{name: "LWS without address", reader: "lws",
			vars: vars{"LWS_GROUP_SIZE": "4", "LWS_WORKER_INDEX": "3"},
			err:  "LWS_LEADER_ADDRESS is not set, although other variables of LeaderWorkerSet are"},
		{name: "LWS index too high", reader: "lws",
			vars: vars{"LWS_LEADER_ADDRESS": "a", "LWS_GROUP_SIZE": "4", "LWS_WORKER_INDEX": "4"},
			err:  `LWS_WORKER_INDEX="4", want a number from 0 to 3`},
		{name: "no LWS", reader: "lws", vars: trainer, absent: true},

		{name: "Trainer", reader: "torchrun", vars: trainer,
			want: Group{NumNodes: 2, NodeRank: 1, RanksPerNode: 8, Host: "wan-node-0-0.wan", Port: 29400, Name: "torchrun-wan-node-0-0.wan"}},
		{name: "a word for ranks", reader: "torchrun", vars: vars{"PET_NPROC_PER_NODE": "gpu"}},
		{name: "PyTorchJob with elastic policy", reader: "torchrun",
			vars: vars{"PET_NNODES": "2:2", "PET_RDZV_ENDPOINT": "wan-worker-0:29400", "PET_RDZV_ID": "wan", "PET_RDZV_BACKEND": "c10d", "PET_MAX_RESTARTS": "3"},
			want: Group{NumNodes: 2, Host: "wan-worker-0", Port: 29400, Name: "torchrun-wan"}},
		{name: "elastic", reader: "torchrun", vars: vars{"PET_NNODES": "1:4"},
			err: `PET_NNODES="1:4" is a range of nodes, but the number is fixed here: set one number`},
		{name: "ranks are no number", reader: "torchrun", vars: vars{"PET_NPROC_PER_NODE": "many"},
			err: `PET_NPROC_PER_NODE="many", want a number from 1 to 65536`},
		{name: "node rank too high", reader: "torchrun", vars: vars{"PET_NNODES": "2", "PET_NODE_RANK": "2"},
			err: `PET_NODE_RANK="2", want a number from 0 to 1`},
		{name: "address", reader: "torchrun", vars: vars{"PET_MASTER_ADDR": "a b"},
			err: `PET_MASTER_ADDR: "a b" is no host name or address: ' ' at byte 1`},
		{name: "no torchrun", reader: "torchrun", vars: vars{"RANK": "1"}, absent: true},

		{name: "PyTorchJob", reader: "pytorchjob",
			vars: vars{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "wan-master-0", "MASTER_PORT": "23456"},
			want: Group{NumNodes: 2, NodeRank: 1, Host: "wan-master-0", Port: 23456, Name: "pytorchjob-wan-master-0"}},
		{name: "torchrun's child in a pod", reader: "pytorchjob", absent: true,
			vars: vars{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "1"}},
		{name: "not in Kubernetes", reader: "pytorchjob", absent: true,
			vars: vars{"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}},

		{name: "JobSet of one Job", reader: "jobset",
			vars: vars{"JOBSET_NAME": "wan", "REPLICATED_JOB_NAME": "node", "JOB_COMPLETION_INDEX": "3", "JOBSET_RESTART_ATTEMPT": "2"},
			want: Group{NumNodes: 4, NodeRank: 3, Host: "wan-node-0-0.wan", Restarts: 2, Name: "jobset-wan-node-2"}},
		{name: "JobSet of two Jobs of two", reader: "jobset",
			vars: vars{"JOBSET_NAME": "wan", "REPLICATED_JOB_NAME": "node", "JOB_INDEX": "1", "REPLICATED_JOB_REPLICAS": "2", "JOB_COMPLETION_INDEX": "0"},
			want: Group{NumNodes: 4, NodeRank: 2, Host: "wan-node-0-0.wan", Name: "jobset-wan-node-0"}},
		{name: "JobSet of three Jobs", reader: "jobset",
			vars: vars{"JOBSET_NAME": "wan", "REPLICATED_JOB_NAME": "node", "REPLICATED_JOB_REPLICAS": "3", "JOB_COMPLETION_INDEX": "0"},
			err:  "4 nodes do not divide over the 3 Jobs of JobSet wan (REPLICATED_JOB_REPLICAS)"},
		{name: "JobSet without a number", reader: "jobset 0",
			vars: vars{"JOBSET_NAME": "wan", "REPLICATED_JOB_NAME": "node", "JOB_COMPLETION_INDEX": "0"},
			err:  "JobSet wan does not say how many pods it has: set WANRUN_NNODES in the manifest"},
		{name: "JobSet, index too high", reader: "jobset",
			vars: vars{"JOBSET_NAME": "wan", "REPLICATED_JOB_NAME": "node", "JOB_COMPLETION_INDEX": "4"},
			err:  `JOB_COMPLETION_INDEX="4", want a number from 0 to 3`},
		{name: "JobSet, half of it", reader: "jobset", vars: vars{"JOBSET_NAME": "wan", "JOB_COMPLETION_INDEX": "1"},
			err: "REPLICATED_JOB_NAME is not set, although other variables of JobSet are"},
		{name: "no JobSet", reader: "jobset", vars: vars{"JOB_COMPLETION_INDEX": "1"}, absent: true},

		{name: "index", reader: "index", vars: vars{"JOB_COMPLETION_INDEX": "1"}, want: Group{NumNodes: 4, NodeRank: 1}},
		{name: "no index", reader: "index", absent: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, there, err := readers[tc.reader](environ.Map(tc.vars))
			if there == tc.absent {
				t.Errorf("there = %v", there)
			}
			if tc.err != "" && (err == nil || err.Error() != tc.err) || tc.err == "" && err != nil {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzReaders(f *testing.F) {
	f.Add("PET_NNODES=2\nPET_NODE_RANK=1\nPET_RDZV_ENDPOINT=a:1")
	f.Add("LWS_GROUP_SIZE=4\nLWS_WORKER_INDEX=3\nLWS_LEADER_ADDRESS=a")
	f.Add("JOBSET_NAME=a\nREPLICATED_JOB_NAME=b\nJOB_COMPLETION_INDEX=1\nJOB_INDEX=1\nREPLICATED_JOB_REPLICAS=2")
	f.Add("KUBERNETES_SERVICE_HOST=a\nRANK=1\nWORLD_SIZE=2\nMASTER_ADDR=a\nMASTER_PORT=1")
	f.Fuzz(func(t *testing.T, text string) {
		for name, read := range readers {
			g, there, err := read(environ.List(strings.Split(text, "\n")))
			if err != nil || !there {
				if diff := cmp.Diff(Group{}, g); diff != "" {
					t.Errorf("%s: values without an answer: %s", name, diff)
				}
				continue
			}
			if g.NumNodes > 0 && g.NodeRank >= g.NumNodes || g.NodeRank < 0 || g.Host != "" && environ.CheckHost(g.Host) != nil || environ.Name(g.Name) != g.Name {
				t.Errorf("%s: %+v", name, g)
			}
		}
	})
}
