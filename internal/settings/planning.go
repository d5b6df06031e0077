package settings

import (
	"fmt"
	"maps"
	"slices"

	"github.com/wanrun/wanrun/internal/plan"
	"github.com/wanrun/wanrun/internal/task"
)

// PlanFlags are the rows that `wanrun plan` and `wanrun fit` have beside Flags.
func PlanFlags() []Flag {
	return []Flag{
		{Name: "gpu", Value: "DEVICES", Group: groupPlan, Local: true,
			Help: "plan for these: h100x8, 80GiB,80GiB, or with the TFLOP/s of matrix products 24GiBx2:150; by default this machine's processors"},
		{Name: "host", Value: "SIZE", Group: groupPlan, Local: true,
			Help: "host memory of a node, as in 512GiB; by default this machine's, and with --gpu unknown"},
	}
}

// FitFlags are those of `wanrun fit`.
func FitFlags() []Flag {
	return append(PlanFlags(),
		Flag{Name: "run", Kind: Switch, Group: groupPlan, Local: true, Help: "start the best"},
		Flag{Name: "progressive", Kind: Switch, Group: groupPlan, Local: true,
			Help: "run a step of each for real, from small to large, and keep the largest that held"})
}

const groupPlan = "The plan"

// unnamed stands for a picture that a plan does without.
const unnamed = "-"

// planning settles what a plan is for, and what the plan of a run may change.
func (r *resolver) planning() {
	r.s.Fixed = slices.Sorted(maps.Keys(r.given))
	r.s.MemLimit = r.bytes("mem-limit", "0", "default: no limit")
	r.s.Auto, r.s.NoRefuse = r.truth("auto", false), r.truth("no-refuse", false)
	if !r.in.Planning {
		return
	}
	r.s.More = map[string]bool{}
	for _, f := range r.in.More {
		if f.Kind == Switch {
			r.s.More[f.Name] = r.truth(f.Name, false)
		}
	}
	r.s.HostMemory = r.bytes("host", "0", "default")
	if g, ok := r.given["gpu"]; ok {
		devices, err := plan.ParseDevices(g.Text)
		if err != nil {
			r.failAt(g, err)
		}
		r.s.GPU, r.gpus = g.Text, len(devices)
	}
	_, ckpt := r.given["ckpt-dir"]
	_, named := r.given["task"]
	r.s.Official = named && !ckpt
}

// bytes settles a size such as 8GiB.
func (r *resolver) bytes(name, def, from string) int64 {
	text := r.text(name, def, from, func(s string) error {
		_, err := plan.ParseBytes(s)
		return err
	})
	n, _ := plan.ParseBytes(text) // checked where it was given
	return n
}

// degreeGiven says that some degree of the mesh was.
func (r *resolver) degreeGiven() bool {
	for _, name := range []string{"ulysses", "ring", "cfg-parallel"} {
		if _, ok := r.given[name]; ok {
			return true
		}
	}
	return false
}

// planned puts a stand-in for pictures that a plan does without.
func (r *resolver) planned(image, first, last string) (string, string, string) {
	if r.in.Planning && image == "" && first == "" && last == "" {
		switch r.s.Task.Kind() {
		case task.KindI2V:
			return unnamed, "", ""
		case task.KindFLF2V:
			return "", unnamed, unnamed
		}
	}
	return image, first, last
}

// officialModel is what there is to know of the official checkpoint of a task; one that is
// not a task's name is told where the task is settled.
func officialModel(name string) model {
	n, err := task.Parse(name)
	if err != nil {
		return model{}
	}
	m := model{modelType: n.ModelType(), dim: 5120, heads: 40, from: fmt.Sprintf("the official %s", n)}
	if n == task.T2V13B {
		m.dim, m.heads = 1536, 12
	}
	return m
}
