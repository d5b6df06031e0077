package local

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/node"
)

// env is a rank's environment: what is set for all, torchrun's variables, and for
// workers of ours where to attach.
func (at *attempt) env(r *rank) []string {
	a, s := at.agent, at.start
	nodes, local := 0, 0
	for _, p := range s.World {
		nodes = max(nodes, p.Node+1)
		if p.Node == a.Node {
			local++
		}
	}
	localRank := r.Local
	if a.LocalWorld > 0 {
		localRank, local = a.LocalRank, a.LocalWorld
	}
	rank, world := strconv.Itoa(r.Rank), strconv.Itoa(len(s.World))
	own := [][2]string{
		{"RANK", rank}, {"LOCAL_RANK", strconv.Itoa(localRank)}, {"WORLD_SIZE", world}, {"LOCAL_WORLD_SIZE", strconv.Itoa(local)},
		{"GROUP_RANK", strconv.Itoa(a.Node)}, {"GROUP_WORLD_SIZE", strconv.Itoa(nodes)},
		{"ROLE_RANK", rank}, {"ROLE_WORLD_SIZE", world}, {"ROLE_NAME", "default"},
		{"MASTER_ADDR", s.MasterAddr}, {"MASTER_PORT", strconv.Itoa(s.MasterPort)},
		{"TORCHELASTIC_RESTART_COUNT", strconv.Itoa(s.Attempt)}, {"TORCHELASTIC_MAX_RESTARTS", strconv.Itoa(s.Restarts)},
		{"TORCHELASTIC_RUN_ID", a.RunID}, {"WANRUN_RESTART_COUNT", strconv.Itoa(s.Attempt)}, {"WANRUN_ERROR_FILE", at.errorPath(r)},
		{"WANRUN_JOB", a.RunID},
	}
	if at.server != nil {
		own = append(own, [][2]string{{"WANRUN_CONTROL", at.server.Socket()}, {"WANRUN_TOKEN", at.server.Token()}, {"WANRUN_RANK", rank},
			{"WANRUN_WORLD_SIZE", world}, {"WANRUN_LOCAL_RANK", strconv.Itoa(localRank)}, {"WANRUN_LOCAL_WORLD_SIZE", strconv.Itoa(local)}}...)
	}
	if r.Local < len(a.Visible) {
		own = append(own, [2]string{"CUDA_VISIBLE_DEVICES", a.Visible[r.Local]})
		own[1][1] = "0" // it sees one device, and that is its first
	}
	lookup := environ.List(a.Env)
	if _, set := lookup("OMP_NUM_THREADS"); !set {
		threads := a.Threads
		if r.Local < len(a.CPUs) && len(a.CPUs[r.Local]) > 0 {
			threads = len(a.CPUs[r.Local])
		}
		own = append(own, [2]string{"OMP_NUM_THREADS", strconv.Itoa(max(threads, 1))})
	}
	ours := map[string]bool{"WANRUN_SECRET": true} // between the launchers, not for programs
	for _, v := range own {
		ours[v[0]] = true
	}
	env := slices.DeleteFunc(slices.Clone(a.Env), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return ours[name]
	})
	for _, v := range own {
		env = append(env, v[0]+"="+v[1])
	}
	return env
}

// Env is the environment of a rank as Start would make it, for a dry run.
func Env(o Options, s *node.Start, of group.Place) []string {
	at := &attempt{agent: &Agent{Options: o}, start: s}
	return at.env(&rank{Place: of})
}

// errorFile is what a rank wrote about its error, as torchrun's workers do: an object
// with "message", or with another in it that has one.
func (at *attempt) errorFile(r *rank) string {
	f, err := os.Open(at.errorPath(r))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxErrorFile))
	if err != nil || len(data) == 0 {
		return ""
	}
	var said struct {
		Type    string          `json:"type"`
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal(data, &said) != nil {
		return firstLine(string(data))
	}
	var text string
	var inner struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(said.Message, &text) != nil && json.Unmarshal(said.Message, &inner) == nil {
		text = inner.Message
	}
	if said.Type != "" && text != "" {
		text = fmt.Sprintf("%s: %s", said.Type, text)
	}
	return firstLine(text)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
