package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/node/local"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/settings"
)

// Dry is what --dry-run --json prints.
type dry struct {
	Job        string              `json:"job"`
	World      int                 `json:"world"`
	Placement  placement.Placement `json:"placement"`
	Rendezvous string              `json:"rendezvous"` // "" on one node
	Program    string              `json:"program"`
	Arguments  []string            `json:"arguments"`
	Ranks      []dryRank           `json:"ranks"` // of this node
}

type dryRank struct {
	Rank  int               `json:"rank"`
	Node  int               `json:"node"`
	Local int               `json:"local"`
	Host  string            `json:"host"`
	GPU   string            `json:"gpu"` // "" where there is none
	CPUs  string            `json:"cpus"`
	Env   map[string]string `json:"env"` // what a rank has of its own
}

// dryRun prints who would be started here, and starts nothing.
func (j *job) dryRun() error {
	index, count := j.index()
	d := dry{Job: j.id, World: j.world, Placement: j.launch.Where, Program: j.path, Arguments: append([]string{}, j.args...)}
	if count > 1 {
		d.Rendezvous = j.launch.Where.Rendezvous.String()
	}
	start := &node.Start{MasterAddr: "127.0.0.1"}
	if count > 1 {
		start.MasterAddr = "(node 0's)"
	}
	for rank := range j.world {
		where := j.whereIs(rank)
		start.World = append(start.World, group.Place{Rank: rank, Node: where.Node, Local: where.Local})
	}
	options := j.localOptions(nil, func(string) {})
	base := j.env
	for rank, place := range start.World {
		if place.Node != index {
			continue
		}
		r := dryRank{Rank: rank, Node: place.Node, Local: place.Local, Host: j.whereIs(rank).Host, Env: map[string]string{}}
		if place.Local < len(j.division.Ranks) {
			r.CPUs = placement.FormatCPUList(j.division.Ranks[place.Local].CPUs)
		}
		if j.launch.Where.GPUs > place.Local {
			r.GPU = number(place.Local)
		}
		for _, pair := range local.Env(options, start, place) {
			name, value, _ := strings.Cut(pair, "=")
			if slices.Contains(base, pair) || name == "WANRUN_ERROR_FILE" || name == "MASTER_PORT" {
				continue
			}
			r.Env[name] = value
		}
		d.Ranks = append(d.Ranks, r)
	}
	if j.launch.JSON {
		data, err := json.MarshalIndent(d, "", "  ")
		if err == nil {
			fmt.Fprintf(j.w.stdout, "%s\n", data)
		}
		return err
	}
	fmt.Fprintf(j.w.stdout, "job %s: %d ranks on %d nodes; this is node %d (%s: %s)\n", d.Job, d.World, count, index, d.Placement.Source, d.Placement.Why)
	if d.Rendezvous != "" {
		fmt.Fprintf(j.w.stdout, "rendezvous %s\n", d.Rendezvous)
	}
	fmt.Fprintf(j.w.stdout, "program %s\n", settings.Escape(strings.Join(append([]string{d.Program}, d.Arguments[min(1, len(d.Arguments)):]...), " ")))
	for _, r := range d.Ranks {
		gpu := ""
		if r.GPU != "" {
			gpu = ", GPU " + r.GPU
		}
		fmt.Fprintf(j.w.stdout, "rank %d: node %d (%s), local rank %d%s, CPUs %s\n", r.Rank, r.Node, settings.Escape(r.Host), r.Local, gpu, r.CPUs)
		names := make([]string, 0, len(r.Env))
		for name := range r.Env {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(j.w.stdout, "    %s=%s\n", name, settings.Shorten(r.Env[name], 100))
		}
	}
	return nil
}
