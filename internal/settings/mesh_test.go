package settings

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/pkg/sharding"
)

// TestMesh is the table of what is asked for and what runs. The i2v model has 40
// heads, t2v13 12, the demo 8.
func TestMesh(t *testing.T) {
	t2v13 := "--ckpt_dir t2v13 --prompt p "
	i2v := "--ckpt_dir i2v --image a --prompt p "
	for _, tc := range []struct {
		line string
		want string // cfg x ring x ulysses
		plan string // words of it
	}{
		{i2v, "1x1x1", "one rank"},
		{i2v + "--nproc 1", "1x1x1", "one rank"},
		{i2v + "--nproc 8", "1x1x8", "8 ranks: ulysses 8; 5 of 40 heads each; weights whole on each rank (--dit-fsdp and --t5-fsdp shard them)"},
		{i2v + "--ulysses 8", "1x1x8", "8 ranks: ulysses 8"},
		{i2v + "--nproc_per_node 8 --ulysses_size 8 --dit_fsdp --t5_fsdp", "1x1x8", "weights of T5 and the DiT sharded"},
		{i2v + "--nproc 8 --ulysses 4", "2x1x4", "8 ranks: cfg 2 x ulysses 4; 10 of 40 heads each"},
		{i2v + "--nproc 8 --ulysses 4 --cfg-parallel 1", "1x2x4", "8 ranks: ring 2 x ulysses 4"},
		{i2v + "--nproc 8 --ulysses_size 4 --ring_size 2", "1x2x4", "8 ranks: ring 2 x ulysses 4"},
		{i2v + "--nproc 8 --ring 2", "1x2x4", "ring 2 x ulysses 4"},
		{i2v + "--nproc 6", "1x1x6", "7 or 6 of 40 heads each, so that the attention takes 1.05 times"},
		{i2v + "--nproc 8 --cfg-parallel 2", "2x1x4", ""},
		{i2v + "--cfg-parallel 2", "2x1x1", "2 ranks: cfg 2; 40 of 40 heads each"},
		{i2v + "--ring 3 --ulysses 2", "1x3x2", "6 ranks: ring 3 x ulysses 2"},
		{i2v + "--ring 2 --dit-fsdp", "1x2x1", "weights of the DiT sharded"},
		{i2v + "--ring 2 --t5-fsdp", "1x2x1", "weights of T5 sharded, the DiT's whole on each rank"},
		{i2v + "--ring 2 --offload dit=file", "1x2x1", "weights of the DiT sharded, which stay in the file"},
		{i2v + "--ring 2 --offload dit=file --dit-fsdp=false", "1x2x1", "weights not sharded, the DiT's in the file, from which each rank reads them whole"},
		{i2v + "--ring 2 --offload dit=host", "1x2x1", "weights not sharded, the DiT's whole in host memory, once a node"},
		{i2v + "--ring 2 --offload dit=host --dit-fsdp", "1x2x1", "weights of the DiT sharded, which rest in host memory"},
		{i2v + "--nproc 8 --dit-fsdp --t5-fsdp --fsdp-size 4", "1x1x8", "weights of T5 and the DiT sharded over groups of 4 ranks; branches of guidance together if that fits"},
		{i2v + "--nproc 8 --dit-fsdp --fsdp-size 8", "1x1x8", "weights of the DiT sharded; "},
		{i2v + "--nproc 8 --t5-fsdp --fsdp-size 0 --offload dit=host", "1x1x8", "weights of T5 sharded, the DiT's whole in host memory, once a node; "},
		{i2v + "--nproc 8 --cfg-batch False", "1x1x8", "branches of guidance apart"},
		{i2v + "--nproc 8 --cfg-batch yes", "1x1x8", "branches of guidance together"},
		{t2v13 + "--nproc 8", "2x1x4", "3 of 12 heads each"},
		{t2v13 + "--ulysses 8", "1x1x8", "2 or 1 of 12 heads each, so that the attention takes 1.33 times as long"},
		{t2v13 + "--nproc 5", "1x5x1", "ring 5"},
		{t2v13 + "--nproc 5 --ulysses 5", "1x1x5", "3 or 2 of 12 heads each"},
		{"--nproc 8", "1x1x8", "1 of 8 heads each"},
		{"--nproc 3", "1x3x1", "8 of 8 heads each"},
	} {
		s, err := resolve(t, nil, strings.Fields(tc.line)...)
		got := fmt.Sprintf("%dx%dx%d", s.CFG, s.Ring, s.Ulysses)
		if err != nil || got != tc.want || s.Nproc != s.CFG*s.Ring*s.Ulysses || !strings.Contains(s.Plan, tc.plan) {
			t.Errorf("%s: %s of %d ranks, plan %q (%v), want %s with %q", tc.line, got, s.Nproc, s.Plan, err, tc.want, tc.plan)
		}
		if told := strings.Contains(strings.Join(s.Notices, "\n"), s.Plan); told != (s.Nproc > 1) {
			t.Errorf("%s: notices %q, plan %q", tc.line, s.Notices, s.Plan)
		}
	}
}

// TestMeshOrigins: what was given, what follows and what was chosen is told apart.
func TestMeshOrigins(t *testing.T) {
	for _, tc := range []struct {
		args []string
		name string
		want Value
	}{
		{nil, "nproc", Value{"nproc", "1", "default"}},
		{[]string{"--ulysses", "4"}, "nproc", Value{"nproc", "4", "the product of the degrees"}},
		{[]string{"--ulysses", "4"}, "ring", Value{"ring", "1", "default"}},
		{[]string{"--nproc", "8", "--ulysses", "4"}, "cfg-parallel", Value{"cfg-parallel", "2", "chosen for 8 ranks and 40 heads"}},
		{[]string{"--nproc", "8", "--ulysses", "4"}, "ulysses", Value{"ulysses", "4", "--ulysses"}},
		{[]string{"--nproc", "2", "--offload", "dit=file"}, "dit-fsdp", Value{"dit-fsdp", "true", "follows from --offload"}},
		{[]string{"--nproc", "2", "--offload", "dit=file", "--dit-fsdp=false"}, "dit-fsdp", Value{"dit-fsdp", "false", "--dit-fsdp"}},
		{[]string{"--nproc", "2", "--offload", "dit=host"}, "dit-fsdp", Value{"dit-fsdp", "false", "default"}},
		{[]string{"--nproc", "4", "--dit-fsdp"}, "fsdp-size", Value{"fsdp-size", "4", "default: all ranks"}},
		{[]string{"--nproc", "4", "--dit-fsdp", "--fsdp-size", "2"}, "fsdp-size", Value{"fsdp-size", "2", "--fsdp-size"}},
		{nil, "cfg-batch", Value{"cfg-batch", "auto", "default"}},
		{[]string{"--cfg-batch", " Auto"}, "cfg-batch", Value{"cfg-batch", "auto", "--cfg-batch"}},
		{[]string{"--cfg-batch", "True"}, "cfg-batch", Value{"cfg-batch", "true", "--cfg-batch"}},
		{[]string{"--nproc", "2"}, "offload-model", Value{"offload-model", "false", "default"}},
		{nil, "offload-model", Value{"offload-model", "true", "default"}},
		{[]string{"--nproc", "2", "--dit-fsdp", "--offload_model", "True"}, "offload", Value{"offload", "dit=host", "follows from --offload-model with --dit-fsdp"}},
		{[]string{"--nproc", "2", "--dit-fsdp", "--offload_model", "False"}, "offload", Value{"offload", "dit=device", "default"}},
		{[]string{"--nproc", "2", "--offload_model", "True"}, "offload", Value{"offload", "dit=device", "default"}},
		{[]string{"--nproc", "2", "--offload_model", "True", "--offload", "dit=file"}, "offload", Value{"offload", "dit=file", "--offload"}},
		{[]string{"--nproc", "3"}, "threads", Value{"threads", "2", "8 processors for 3 ranks"}},
		{[]string{"--nproc", "20"}, "threads", Value{"threads", "1", "8 processors for 20 ranks"}},
		{[]string{"--nproc", "3", "--threads", "7"}, "threads", Value{"threads", "7", "--threads"}},
		{nil, "threads", Value{"threads", "0", "default: the processors that a rank may use"}},
	} {
		in := inputs(t, nil, append(append([]string{}, base...), tc.args...)...)
		in.Processors = 8
		s, err := Resolve(in)
		if got := values(s)[tc.name]; err != nil || got != tc.want {
			t.Errorf("%v: %+v (%v), want %+v", tc.args, got, err, tc.want)
		}
		if s.OffloadDiT != strings.TrimPrefix(values(s)["offload"].Text, "dit=") {
			t.Errorf("%v: DiT weights rest in %q, told is %q", tc.args, s.OffloadDiT, values(s)["offload"].Text)
		}
	}
}

// TestExplainMesh: --explain says how the ranks share the work, and why.
func TestExplainMesh(t *testing.T) {
	s, err := resolve(t, nil, "--ckpt_dir", "t2v13", "--prompt", "p", "--nproc", "8", "--explain")
	if err != nil {
		t.Fatal(err)
	}
	want := `
plan: 8 ranks: cfg 2 x ulysses 4; 3 of 12 heads each; weights whole on each rank (--dit-fsdp and --t5-fsdp shard them)
why: about 32760 tokens a forward, over 4 ranks; of the degrees left out, those with the best balance, then the smallest ring, then the smallest cfg
`
	if out := s.ExplainText(); !strings.HasSuffix(out, want) {
		t.Errorf("--explain ends with %q, want %q", out[max(0, len(out)-len(want)):], want)
	}
}

// TestCompletion: with nothing but the ranks given, the completion is what
// sharding.Choose says; whatever is given stays, and the product is right.
func TestCompletion(t *testing.T) {
	for _, heads := range []int{1, 8, 12, 40} {
		for world := 1; world <= 24; world++ {
			const tokens = 1000
			want, err := sharding.Choose(world, heads, tokens, branches)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := (degrees{nodes: 1, ranks: world}).complete(heads, tokens); !ok || got != want {
				t.Errorf("%d ranks, %d heads: %v (%v), sharding.Choose says %v", world, heads, got, ok, want)
			}
			for _, given := range []degrees{{ulysses: want.Ulysses}, {ring: want.Ring}, {cfg: want.CFG}, {ulysses: want.Ulysses, ring: want.Ring}} {
				given.ranks, given.nodes = world, 1
				m, err := given.settle(heads, tokens)
				if err != nil || m.Size() != world || (given.ulysses > 0 && m.Ulysses != given.ulysses) ||
					(given.ring > 0 && m.Ring != given.ring) || (given.cfg > 0 && m.CFG != given.cfg) {
					t.Errorf("%+v, %d heads: %v, %v", given, heads, m, err)
				}
			}
		}
	}
}
