package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/wanrun/wanrun/"

// rules say what a tree of packages may import from this module; "std" imports
// and the listed outside modules are stated too where they matter. A package is
// ruled by its longest matching prefix.
var rules = []struct {
	tree    string
	allowed []string // trees of this module
	outside []string // import path prefixes outside it; nil allows any
}{
	{"pkg/tensor", nil, []string{}},
	{"pkg/comm", []string{"pkg/tensor"}, []string{}},
	{"pkg/sharding", nil, []string{}},
	{"pkg/ulysses", []string{"pkg/tensor", "pkg/comm", "pkg/sharding"}, []string{}},
	{"pkg/fsdp", []string{"pkg/tensor", "pkg/comm", "pkg/sharding"}, []string{}},
	{"internal/parallel", []string{"pkg/tensor", "pkg/comm", "pkg/sharding"}, []string{}},
	{"internal/nn", []string{"pkg/tensor"}, []string{}},
	{"internal/model", []string{"pkg/tensor", "internal/nn"}, []string{}},
	{"internal/backend", []string{"pkg/tensor", "internal/onednn", "internal/cgroup", "internal/backend"}, []string{"golang.org/x/sys"}},
	{"internal/comm", []string{"pkg/tensor", "pkg/comm", "internal/peercred", "internal/comm"}, []string{"golang.org/x/sys"}},
	{"internal/onednn", nil, []string{}},
	{"internal/checkpoint", []string{"pkg/tensor", "internal/checkpoint", "internal/model"}, []string{"golang.org/x/sys"}},
	{"internal/weights", []string{"pkg/tensor", "internal/nn", "internal/checkpoint"}, []string{}},
	{"internal/tokenizer", []string{"internal/tokenizer"}, []string{"golang.org/x/text", "github.com/rivo/uniseg"}},
	{"internal/sampler", nil, []string{}},
	{"internal/noise", nil, []string{}},
	{"internal/task", nil, []string{}},
	{"internal/ends", nil, []string{}},
	{"internal/runfolder", nil, []string{"golang.org/x/sys"}},
	{"internal/plan", []string{"pkg/sharding"}, []string{}},
	{"internal/media", []string{"internal/media"}, []string{"golang.org/x/image", "golang.org/x/sys"}},
	{"internal/control", []string{"proto", "internal/ends", "internal/peercred"}, nil},
	// What a scheduler, the kernel and /sys say of this process: pure parsing.
	{"internal/environ", nil, []string{}},
	{"internal/slurm", []string{"internal/environ"}, []string{}},
	{"internal/kube", []string{"internal/environ"}, []string{}},
	{"internal/placement", []string{"internal/environ", "internal/slurm", "internal/kube"}, []string{}},
	{"internal/cgroup", nil, []string{}},
	{"internal/peercred", nil, []string{"golang.org/x/sys"}},
	// The launcher is pure Go without tensors, models or cgo.
	{"internal/launch", []string{"proto", "internal/ends", "internal/control", "internal/task", "internal/media", "internal/settings", "internal/environ", "internal/slurm", "internal/placement", "internal/cgroup", "internal/node", "internal/agents", "internal/output", "internal/guard", "internal/jobs", "pkg/sharding"}, nil},
	{"internal/guard", []string{"internal/cgroup"}, []string{"golang.org/x/sys"}},
	{"internal/node", []string{"proto", "internal/ends", "internal/control", "internal/guard", "internal/output", "internal/watch", "internal/cgroup", "internal/placement", "internal/environ", "internal/slurm", "internal/node", "internal/jobs/owner"}, nil},
	{"internal/jobs", []string{"proto", "internal/node", "internal/control/group", "internal/peercred", "internal/environ", "internal/ends", "internal/jobs"}, nil},
	{"internal/top", []string{"internal/jobs"}, []string{}},
	{"internal/timeline", []string{"proto", "internal/node"}, []string{}},
	{"internal/vram", nil, []string{"github.com/NVIDIA/go-nvml"}},
	{"internal/output", []string{"internal/node", "internal/environ", "internal/settings"}, nil},
	{"internal/watch", []string{"internal/node", "internal/cgroup", "internal/slurm", "internal/environ", "internal/control/group"}, nil},
	{"internal/agents", []string{"proto", "internal/ends", "internal/control", "internal/node", "internal/environ", "internal/placement"}, nil},
	{"internal/settings", []string{"internal/runfolder", "internal/task", "internal/ends", "internal/noise", "internal/sampler", "internal/placement", "internal/control/group", "internal/plan", "pkg/sharding"}, nil},
	{"internal/doctor", []string{"internal/ends", "internal/environ", "internal/output", "internal/settings", "internal/watch"}, []string{}},
	{"cmd/launcher", []string{"internal/doctor", "internal/runfolder", "proto", "internal/ends", "internal/control", "internal/task", "internal/media", "internal/settings", "internal/environ", "internal/slurm", "internal/placement", "internal/cgroup", "internal/launch", "internal/guard", "internal/node", "internal/agents", "internal/output", "internal/watch", "internal/jobs", "internal/timeline", "internal/top", "internal/plan", "internal/tokenizer", "internal/version", "examples"}, nil},
}

// cgoTrees are the only packages that may import "C".
var cgoTrees = []string{"internal/cuda", "internal/onednn"}

func under(pkg, tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") }

func underAny(pkg string, trees []string) bool {
	for _, tree := range trees {
		if under(pkg, tree) {
			return true
		}
	}
	return false
}

func TestImports(t *testing.T) {
	root := "../.."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "testdata" || name == "tools" || (strings.HasPrefix(name, ".") && name != "..")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			target, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			seen[pkg] = true
			check(t, rel, pkg, target)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 10 {
		t.Errorf("only %d packages looked at; the walk is broken", len(seen))
	}
}

func check(t *testing.T, file, pkg, target string) {
	if target == "C" && !underAny(pkg, cgoTrees) {
		t.Errorf("%s imports C; cgo is allowed only in %v", file, cgoTrees)
	}
	best := -1
	for i, r := range rules {
		if under(pkg, r.tree) && (best < 0 || len(r.tree) > len(rules[best].tree)) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	r := rules[best]
	if own, ok := strings.CutPrefix(target, module); ok {
		if !underAny(own, r.allowed) && !(under(own, r.tree) && under(pkg, r.tree)) {
			t.Errorf("%s imports %s; %s may import %v", file, own, r.tree, r.allowed)
		}
		return
	}
	if r.outside != nil && strings.Contains(strings.SplitN(target, "/", 2)[0], ".") && !underAny(target, r.outside) {
		t.Errorf("%s imports %s; %s may import from outside %v", file, target, r.tree, r.outside)
	}
}

// TestModelsApart sees that no model imports another.
func TestModelsApart(t *testing.T) {
	for _, model := range []string{"wan", "umt5", "clip", "vae"} {
		files, err := filepath.Glob(filepath.Join("../model", model, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files of model %s (%v)", model, err)
		}
		for _, p := range files {
			if strings.HasSuffix(p, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range f.Imports {
				if strings.Contains(imp.Path.Value, module+"internal/model/") {
					t.Errorf("%s imports %s", p, imp.Path.Value)
				}
			}
		}
	}
}
