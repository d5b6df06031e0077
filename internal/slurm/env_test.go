package slurm

import (
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/environ"
)

// recorded reads an environment that Slurm 22.05 has set (testdata/env), with changes
// of the form NAME=VALUE; an empty value unsets.
func recorded(t *testing.T, name string, changes ...string) environ.Lookup {
	t.Helper()
	data, err := os.ReadFile("testdata/env/" + name + ".env")
	if err != nil {
		t.Fatal(err)
	}
	return environ.List(append(strings.Split(string(data), "\n"), changes...))
}

func TestReadRecorded(t *testing.T) {
	both := []string{"gpu-01", "gpu-02"}
	for _, tc := range []struct {
		name  string
		want  Env
		ranks bool // tasks are ranks
		job   string
	}{
		{"batch_2x1", Env{JobID: "1", JobName: "wan", Hosts: both, NumNodes: 2, NodeName: "gpu-01",
			CPUsPerTask: 16, CPUsOnNode: 16, GPUsOnNode: 8}, false, "slurm-lab-1-0"},
		{"step_2x1_task1", Env{JobID: "1", JobName: "wan", InStep: true, StepID: "0", Hosts: both, NumNodes: 2, NodeRank: 1,
			NumTasks: 2, Task: 1, Tasks: []int{1, 1}, NodeName: "gpu-02", CPUsPerTask: 16, CPUsOnNode: 16, GPUsOnNode: 8}, false, "slurm-lab-1-0-0"},
		// A step on one node of an allocation of two: SLURM_NODELIST still says two.
		{"step_1of2", Env{JobID: "1", JobName: "wan", InStep: true, StepID: "1", Hosts: both[:1], NumNodes: 1,
			NumTasks: 1, Tasks: []int{1}, NodeName: "gpu-01", CPUsPerTask: 16, CPUsOnNode: 16, GPUsOnNode: 8}, false, "slurm-lab-1-1-0"},
		{"step_2x4_task5", Env{JobID: "1", JobName: "wan", InStep: true, StepID: "2", Hosts: both, NumNodes: 2, NodeRank: 1,
			NumTasks: 8, Task: 5, LocalTask: 1, Tasks: []int{4, 4}, NodeName: "gpu-02", CPUsPerTask: 4, CPUsOnNode: 16, GPUsOnNode: 8}, true, "slurm-lab-1-2-0"},
		{"tasks_1x8_task3", Env{JobID: "2", JobName: "rec.sh", InStep: true, StepID: "0", Hosts: both[:1], NumNodes: 1,
			NumTasks: 8, Task: 3, LocalTask: 3, Tasks: []int{8}, NodeName: "gpu-01", CPUsOnNode: 8, GPUsOnNode: 8}, true, "slurm-lab-2-0-0"},
		{"uneven_task2", Env{JobID: "3", JobName: "rec.sh", InStep: true, StepID: "0", Hosts: both, NumNodes: 2, NodeRank: 1,
			NumTasks: 3, Task: 2, Tasks: []int{2, 1}, NodeName: "gpu-02", CPUsOnNode: 1, GPUsOnNode: 2}, true, "slurm-lab-3-0-0"},
		{"array_task", Env{JobID: "6", JobName: "wrap", ArrayJobID: "5", ArrayTaskID: "3", InStep: true, StepID: "0", Hosts: both[:1],
			NumNodes: 1, NumTasks: 1, Tasks: []int{1}, NodeName: "gpu-01", CPUsOnNode: 1, GPUsOnNode: 8}, false, "slurm-lab-5_3-0-0"},
		{"requeued", Env{JobID: "7", JobName: "rq.sh", Restarts: 1, InStep: true, StepID: "0", Hosts: both[:1],
			NumNodes: 1, NumTasks: 1, Tasks: []int{1}, NodeName: "gpu-01", CPUsOnNode: 1}, false, "slurm-lab-7-0-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Cluster = "lab"
			got, there, err := Read(recorded(t, tc.name))
			if err != nil || !there {
				t.Fatalf("there %v, error %v", there, err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if got.TasksAreRanks() != tc.ranks {
				t.Errorf("TasksAreRanks = %v", !tc.ranks)
			}
			if name := got.Name(); name != tc.job {
				t.Errorf("Name = %q, want %q", name, tc.job)
			}
		})
	}
	if _, there, err := Read(environ.Map(map[string]string{"SLURM_CONF": "/etc/slurm.conf"})); there || err != nil {
		t.Errorf("outside Slurm: there %v, error %v", there, err)
	}
}

func TestReadEnd(t *testing.T) {
	e, _, err := Read(recorded(t, "step_2x1_task1", "SLURM_JOB_END_TIME=1795464000"))
	if err != nil || !e.End.Equal(time.Unix(1795464000, 0)) {
		t.Errorf("End %v, %v", e.End, err)
	}
	// salloc's interactive step is a shell, not a task.
	e, _, err = Read(recorded(t, "step_1of2", "SLURM_STEP_ID=4294967290", "SLURM_JOB_NODELIST=gpu-[01-02]"))
	if err != nil || e.InStep || e.NumNodes != 2 || e.Name() != "slurm-lab-1-0" {
		t.Errorf("interactive step: %+v, %v", e, err)
	}
}

func TestReadErrors(t *testing.T) {
	for _, tc := range []struct{ name, change, want string }{
		{"het", "", `heterogeneous Slurm jobs are not supported (SLURM_HET_SIZE=2)`},
		{"step_2x1_task1", "SLURM_NODEID=2", `SLURM_NODEID="2", want a number from 0 to 1`},
		{"step_2x1_task1", "SLURM_NODEID=", `SLURM_NODEID is not set, although SLURM_STEP_ID=0 is`},
		{"step_2x1_task1", "SLURM_PROCID=x", `SLURM_PROCID="x", want a number from 0 to 1`},
		{"step_2x1_task1", "SLURM_LOCALID=1", `SLURM_LOCALID="1", want a number from 0 to 0`},
		{"step_2x1_task1", "SLURM_STEP_NUM_NODES=3", `SLURM_STEP_NUM_NODES=3, but SLURM_STEP_NODELIST="gpu-[01-02]" has 2 nodes`},
		{"step_2x1_task1", "SLURM_STEP_NODELIST=gpu-[01-", `SLURM_STEP_NODELIST: hostlist "gpu-[01-": at byte 4: [ is not closed`},
		{"step_2x1_task1", "SLURM_STEP_NODELIST=,", `SLURM_STEP_NODELIST: no nodes in it`},
		{"step_2x1_task1", "SLURM_STEP_TASKS_PER_NODE=1(x3)", `is 3 tasks on 3 nodes, but SLURM_STEP_NUM_TASKS=2 and SLURM_STEP_NUM_NODES=2`},
		{"step_2x1_task1", "SLURM_STEP_TASKS_PER_NODE=1(x", `SLURM_STEP_TASKS_PER_NODE: list of counts "1(x": at byte 1`},
		{"step_2x1_task1", "SLURM_JOB_ID=../7", `SLURM_JOB_ID="../7" is no number`},
		{"step_2x1_task1", "SLURM_CLUSTER_NAME=a\nb", `SLURM_CLUSTER_NAME="a\nb" is not printable`},
		{"batch_2x1", "SLURM_JOB_NODELIST=gpu-01", `SLURM_JOB_NUM_NODES=2, but SLURM_JOB_NODELIST="gpu-01" has 1 nodes`},
	} {
		e, there, err := Read(recorded(t, tc.name, tc.change))
		if !there || err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s with %s: %v, want %s", tc.name, tc.change, err, tc.want)
		}
		if diff := cmp.Diff(Env{}, e); diff != "" {
			t.Errorf("%s with %s: values beside the error: %s", tc.name, tc.change, diff)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("SLURM_STEP_NODELIST", "gpu-[01-02]", "SLURM_STEP_TASKS_PER_NODE", "2,1")
	f.Add("SLURM_STEP_ID", "4294967290", "SLURM_JOB_NODELIST", "")
	f.Add("SLURM_CLUSTER_NAME", "../x", "SLURM_JOB_END_TIME", "-1")
	data, err := os.ReadFile("testdata/env/step_2x4_task5.env")
	if err != nil {
		f.Fatal(err)
	}
	base := map[string]string{}
	for _, line := range strings.Split(string(data), "\n") {
		name, value, _ := strings.Cut(line, "=")
		base[name] = value
	}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		env := maps.Clone(base)
		env[name1], env[name2] = value1, value2
		e, there, err := Read(environ.Map(env))
		if err != nil || !there {
			return
		}
		if len(e.Hosts) != e.NumNodes || e.NumNodes < 1 || e.InStep && (e.NodeRank >= e.NumNodes || e.Task >= e.NumTasks || e.LocalTask >= e.Tasks[e.NodeRank]) {
			t.Errorf("numbers do not fit: %+v", e)
		}
		if strings.ContainsAny(e.Name(), "/ \x00\n") {
			t.Errorf("Name = %q", e.Name())
		}
	})
}
