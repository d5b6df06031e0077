package generate

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// TestOwners: whole pieces of work go to a rank of each node first, and those who work on
// a node share its threads.
func TestOwners(t *testing.T) {
	for _, tc := range []struct {
		nodes   []int
		size    int
		owners  []int // of 5 pieces
		working []int // ranks of each rank's node, for 2 pieces
	}{
		{nil, 1, []int{0, 0, 0, 0, 0}, []int{1}},
		{nil, 3, []int{0, 1, 2, 0, 1}, []int{2, 2, 2}},
		{[]int{0, 0, 1, 1}, 4, []int{0, 2, 1, 3, 0}, []int{1, 1, 1, 1}},
		{[]int{1, 1, 0, 2}, 4, []int{0, 2, 3, 1, 0}, []int{1, 1, 1, 0}},
	} {
		n, err := newNode(tc.nodes, tc.size)
		if err != nil {
			t.Fatal(err)
		}
		var working []int
		var owners []int
		for rank, g := range local.New(tc.size, nil) {
			r := ranks{world: g, node: n}
			working = append(working, r.working(2))
			if rank == 0 {
				for i := range 5 {
					owners = append(owners, r.owner(i))
				}
			}
		}
		if d := cmp.Diff(tc.owners, owners); d != "" {
			t.Errorf("nodes %v: owners (-want +got)\n%s", tc.nodes, d)
		}
		if d := cmp.Diff(tc.working, working); d != "" {
			t.Errorf("nodes %v: working (-want +got)\n%s", tc.nodes, d)
		}
	}
	for _, nodes := range [][]int{{0}, {0, 2}, {-1, 0}} {
		if n, err := newNode(nodes, 2); err == nil {
			t.Errorf("nodes %v of 2 ranks: %v", nodes, n)
		}
	}
}

// prepared returns a run of the demo with a spread.
func prepared(t *testing.T, s Spread) *Run {
	t.Helper()
	ckpt, err := checkpoint.OpenDir("../../examples/demo-model/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ckpt.Close(); err != nil {
			t.Error(err)
		}
	})
	job := e2eCase{Kind: "i2v", Prompt: "p", MaxArea: 4096, FrameNum: 5, Seed: 1, Steps: 1, Shift: 3, GuideScale: 3, Solver: "unipc"}.job(t)
	job.First, job.Dump, job.Spread = readPicture(t, "../../examples", "in.jpg"), nil, s
	run, err := Prepare(t.Context(), job, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// TestPlanBranches: the branches run together as long as that fits, and all ranks choose
// alike by the node that has the least.
func TestPlanBranches(t *testing.T) {
	const gib = 64 << 30
	b := cpu.New(1)
	defer b.Close()
	// The demo's DiT is so small that its VAE takes the most: this one is as wide as the
	// official ones, and has more to do.
	wide := func(s Spread) *Run {
		run := prepared(t, s)
		run.spec.DiT.Dim *= 16
		run.spec.DiT.FFNDim *= 16
		run.latT, run.job.FrameNum = 61, 241
		return run
	}
	peak := func(s Spread) (bytes int64) {
		plans, err := wide(s).Plan(t.Context(), b, testHost())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range plans {
			bytes += p.Peak().Total() + p.HostWeights()
		}
		return bytes
	}
	mesh := func(cfg, ulysses int) sharding.Mesh {
		return sharding.Mesh{CFG: cfg, Ring: 1, Ulysses: ulysses, FSDP: cfg * ulysses}
	}
	one, two, shared := Spread{Mesh: mesh(1, 1)}, Spread{Mesh: mesh(1, 2)}, Spread{Mesh: mesh(1, 2), Rest: fsdp.OnHost}
	nodes := Spread{Mesh: mesh(1, 2), Nodes: []int{0, 1}}
	needOne, needTwo, needShared := peak(one), peak(two), peak(shared)
	for _, tc := range []struct {
		name  string
		s     Spread
		have  []int64
		apart bool
		why   string
	}{
		{"enough", one, []int64{gib}, false, "together: the run will take"},
		{"just enough", one, []int64{needOne}, false, "together"},
		{"a byte less", one, []int64{needOne - 1}, true, "apart: together the run would take"},
		{"much less", one, []int64{1}, true, "apart"},
		{"not known", one, []int64{0}, false, "not known"},
		{"two ranks", two, []int64{gib, gib}, false, "together: the ranks will take"},
		{"the sum of the node counts", two, []int64{needTwo - 1, 1}, false, "together: the ranks will take"},
		{"two ranks, a byte less", two, []int64{needTwo / 2, needTwo - needTwo/2 - 1}, true, "apart: together the ranks would take"},
		{"shared weights count once", shared, []int64{needShared - 1, 1}, false, "together"},
		{"shared weights, less", shared, []int64{needShared - 2, 1}, true, "apart"},
		{"two nodes, the second tight", nodes, []int64{gib, 1}, true, "apart: together node 1, the tightest, would take"},
		{"two nodes, one unknown", nodes, []int64{gib, 0}, false, "together: node 0, the tightest, will take"},
		{"branches on ranks of their own", Spread{Mesh: mesh(2, 1)}, []int64{1, 1}, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			size := len(tc.have)
			var wg sync.WaitGroup
			for rank, world := range local.New(size, nil) {
				run := wide(tc.s)
				wg.Go(func() {
					plans, why, err := run.PlanBranches(context.Background(), b, testHost(), world, tc.have[rank])
					if err != nil || len(plans) != size || run.BranchesApart() != tc.apart || !strings.Contains(why, tc.why) || (why == "") != (tc.why == "") {
						t.Errorf("rank %d: apart %v, %q, %d plans (%v), want apart %v, %q", rank, run.BranchesApart(), why, len(plans), err, tc.apart, tc.why)
					}
				})
			}
			wg.Wait()
		})
	}
	run := prepared(t, one)
	if _, why, err := run.PlanBranches(t.Context(), b, testHost(), nil, 1); err != nil || run.BranchesApart() || !strings.Contains(why, "and apart no less") {
		t.Errorf("where the VAE takes the most: apart %v, %q (%v)", run.BranchesApart(), why, err)
	}
}

// TestSharedHostMemory: weights at rest in host memory are there once on a node, whether
// they are whole on each rank or sharded within groups.
func TestSharedHostMemory(t *testing.T) {
	b := cpu.New(1)
	defer b.Close()
	hostBytes := func(s Spread) (each []int64, sum int64) {
		plans, err := prepared(t, s).Plan(t.Context(), b, testHost())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range plans {
			each, sum = append(each, p.HostWeights()), sum+p.HostWeights()
		}
		return each, sum
	}
	mesh := sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 4, FSDP: 4}
	_, whole := hostBytes(Spread{Mesh: mesh, Rest: fsdp.OnHost})
	if whole == 0 {
		t.Fatal("no weights rest in host memory")
	}
	for _, tc := range []struct {
		name   string
		fsdp   int
		shard  bool
		nodes  []int
		copies int64
		owners string // which ranks count bytes
	}{
		{"whole, one node", 4, false, nil, 1, "1000"},
		{"whole, two nodes", 4, false, []int{0, 0, 1, 1}, 2, "1010"},
		{"sharded over all", 4, true, nil, 1, "1111"},
		{"sharded over all, two nodes", 4, true, []int{0, 0, 1, 1}, 1, "1111"},
		{"sharded in pairs, one node", 2, true, nil, 1, "1100"},
		{"sharded in pairs, a node each", 2, true, []int{0, 0, 1, 1}, 2, "1111"},
		{"sharded in pairs, a rank of each on a node", 2, true, []int{0, 1, 0, 1}, 1, "1100"},
		{"sharded alone", 1, true, nil, 1, "1000"},
	} {
		m := mesh
		m.FSDP = tc.fsdp
		each, sum := hostBytes(Spread{Mesh: m, Rest: fsdp.OnHost, ShardDiT: tc.shard, Nodes: tc.nodes})
		owners := ""
		for _, n := range each {
			owners += map[bool]string{true: "1", false: "0"}[n > 0]
		}
		// Shards are padded to 256 bytes, a unit's parts each.
		if want := tc.copies * whole; sum < want*99/100 || sum > want*103/100 || owners != tc.owners {
			t.Errorf("%s: %v bytes, in sum %d, want %d copies of %d, by ranks %s", tc.name, each, sum, tc.copies, whole, tc.owners)
		}
	}
}

// TestHybridWeights: in groups of N ranks each keeps 1/N of the units and room for two
// gathered ones.
func TestHybridWeights(t *testing.T) {
	b := cpu.New(1)
	defer b.Close()
	weights := map[int]int64{}
	gathered := map[int]int64{}
	for _, n := range []int{1, 2, 4, 8} {
		s := Spread{Mesh: sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 8, FSDP: n}, ShardDiT: true}
		plans, err := prepared(t, s).Plan(t.Context(), b, testHost())
		if err != nil {
			t.Fatal(err)
		}
		for rank, p := range plans {
			i := slices.IndexFunc(p.Phases, func(q PhaseResult) bool { return q.Name == PhaseDenoise })
			if i < 0 {
				t.Fatalf("no phase %s", PhaseDenoise)
			}
			peak := p.Phases[i].Peak
			if rank > 0 && (peak[tensor.Weights] != weights[n] || peak[tensor.Gathered] != gathered[n]) {
				t.Errorf("groups of %d: rank %d keeps %d bytes and gathers %d, rank 0 %d and %d", n, rank, peak[tensor.Weights], peak[tensor.Gathered], weights[n], gathered[n])
			}
			weights[n], gathered[n] = peak[tensor.Weights], peak[tensor.Gathered]
		}
	}
	for _, n := range []int{2, 4, 8} {
		want := weights[1] / int64(n)
		if got := weights[n]; got < want || got > want*105/100 {
			t.Errorf("groups of %d: %d bytes of weights at rest, want 1/%d of %d and rounding", n, got, n, weights[1])
		}
		if got := gathered[n]; got > gathered[1]*105/100 {
			t.Errorf("groups of %d: %d bytes gathered, in groups of 1 %d", n, got, gathered[1])
		}
	}
}

// TestNoSharedMemory: a host that cannot share memory ends the run with the reason.
func TestNoSharedMemory(t *testing.T) {
	refused := errors.New("no memory for you")
	for _, tc := range []struct {
		want  string
		share func(context.Context, comm.Group, int64) ([]byte, func() error, error)
	}{
		{"no way to share host memory", nil},
		{refused.Error(), func(context.Context, comm.Group, int64) ([]byte, func() error, error) { return nil, nil, refused }},
	} {
		job := prepared(t, Spread{Mesh: sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 2, FSDP: 2}, Rest: fsdp.OnHost}).job
		_, errs := runRanks(t, "../../examples/demo-model/checkpoint", job, func(int) Host {
			h := testHost()
			h.Share = tc.share
			return h
		})
		if err := firstCause(errs); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
	}
}

// TestWide: ranks that encode what is not spread do it with the node's threads, divided
// among those who do. TestRanksEqualOne sees that the bits are the same.
func TestWide(t *testing.T) {
	for _, tc := range []struct {
		ranks   int
		shardT5 bool
		nodes   []int
		want    [][]int // by rank: among how many the threads were divided, each time
	}{
		{3, false, nil, [][]int{{2, 1}, {2}, nil}}, // two prompts, a picture
		{3, true, nil, [][]int{{1}, nil, nil}},
		{3, false, []int{0, 0, 1}, [][]int{{1, 1}, nil, {1}}},
	} {
		var mu sync.Mutex
		got, open := make([][]int, tc.ranks), 0
		mesh := sharding.Mesh{CFG: 1, Ring: 1, Ulysses: tc.ranks, FSDP: tc.ranks}
		job := prepared(t, Spread{Mesh: mesh, ShardT5: tc.shardT5, Nodes: tc.nodes}).job
		_, errs := runRanks(t, "../../examples/demo-model/checkpoint", job, func(rank int) Host {
			h := testHost()
			h.Wide = func(working int) (tensor.Backend, func()) {
				mu.Lock()
				defer mu.Unlock()
				got[rank] = append(got[rank], working)
				open++
				b := cpu.New(4 / working)
				return b, func() {
					mu.Lock()
					defer mu.Unlock()
					open--
					b.Close()
				}
			}
			return h
		})
		if err := firstCause(errs); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tc.want, got); d != "" || open != 0 {
			t.Errorf("%+v: (-want +got)\n%s%d left open", tc, d, open)
		}
	}
}
