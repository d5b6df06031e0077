package generate

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/fsdp"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// executeRanks runs the job on the ranks of its mesh and returns the first rank's dump.
// What one rank alone does, it does on more threads.
func executeRanks(t *testing.T, dir string, job Job) *Dump {
	t.Helper()
	memory := &local.Memory{}
	dump, errs := runRanks(t, dir, job, func(int) Host {
		h := testHost()
		h.Share = func(ctx context.Context, g comm.Group, n int64) ([]byte, func() error, error) {
			b, err := memory.Share(ctx, g, n)
			return b, func() error { return nil }, err
		}
		h.Wide = func(working int) (tensor.Backend, func()) {
			b := cpu.New(4 - working)
			return b, b.Close
		}
		return h
	})
	if err := firstCause(errs); err != nil {
		t.Fatal(err)
	}
	return dump
}

// runRanks runs the job on goroutines that each reserve exactly what was planned.
func runRanks(t *testing.T, dir string, job Job, host func(rank int) Host) (dump *Dump, errs []error) {
	t.Helper()
	dump = NewDump()
	size := job.Spread.Mesh.Size()
	errs = make([]error, size)
	var wg sync.WaitGroup
	for rank, world := range local.New(size, nil) {
		wg.Go(func() {
			own := job
			own.Dump = NewDump()
			if rank == 0 {
				own.Dump = dump
			}
			errs[rank] = executeRank(t, dir, own, rank, world, host(rank))
		})
	}
	wg.Wait()
	return dump, errs
}

func executeRank(t *testing.T, dir string, job Job, rank int, world comm.Group, host Host) (err error) {
	defer func() {
		if err != nil {
			world.Abort(err)
		}
		if closeErr := world.Close(); err == nil {
			err = closeErr
		}
	}()
	ckpt, err := checkpoint.OpenDir(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err := ckpt.Close(); err != nil {
			t.Error(err)
		}
	}()
	run, err := Prepare(t.Context(), job, ckpt)
	if err != nil {
		return err
	}
	b := cpu.New(1)
	defer b.Close()
	plans, err := run.Plan(t.Context(), b, host)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	planned := plans[rank]
	space, err := tensor.Reserve(b, planned.Peak())
	if err != nil {
		return err
	}
	defer func() {
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	}()
	used, err := run.Execute(t.Context(), b, space, world, Discard{}, host)
	if err != nil {
		return err
	}
	for i, p := range used.Phases {
		if q := planned.Phases[i]; p.Name != q.Name || p.Peak != q.Peak || p.HostWeights != q.HostWeights {
			t.Errorf("rank %d: %s used %v and %d bytes on the host, planned for %s %v and %d", rank, p.Name, p.Peak, p.HostWeights, q.Name, q.Peak, q.HostWeights)
		}
	}
	return nil
}

// spreads lists every mesh of size ranks for guidance and heads.
func spreads(size, heads int) (out []Spread) {
	for _, cfg := range []int{1, 2} {
		if size%cfg != 0 {
			continue
		}
		for _, ulysses := range sharding.Divisors(size / cfg) {
			m := sharding.Mesh{CFG: cfg, Ring: size / cfg / ulysses, Ulysses: ulysses, FSDP: size}
			if m.Check(size, heads) == nil {
				out = append(out, Spread{Mesh: m})
			}
		}
	}
	return out
}

// TestRanksEqualOne runs a job on every mesh of up to 8 ranks, with whole and
// sharded weights resting in each place, and compares with one rank. Noise,
// contexts, image latents and decoded frames are made by the same arithmetic and
// have the same bits; the DiT's attention adds in another order in a ring, whose
// result moves by rounding.
func TestRanksEqualOne(t *testing.T) {
	dir := "../../examples/demo-model/checkpoint"
	job := e2eCase{Kind: "i2v", Prompt: "the red ball moves right", MaxArea: 4096, FrameNum: 5, Seed: 42, Steps: 2, Shift: 3,
		GuideScale: 3, Solver: "unipc"}.job(t)
	job.First = readPicture(t, "../../examples", "in.jpg")
	execute(t, dir, job)
	want := job.Dump
	sizes := []int{2, 3, 4, 5, 6, 8}
	if testing.Short() {
		sizes = []int{2, 4} // all of them take minutes under the race detector
	}
	for _, size := range sizes {
		for i, spread := range spreads(size, 8) {
			// Whole weights and weights sharded over groups of every size, and each place of
			// rest, take turns over the meshes.
			spread.ShardDiT, spread.ShardT5 = i%2 == 0, i%3 == 0
			groups := sharding.Divisors(size)
			spread.Mesh.FSDP = groups[len(groups)-1-i%len(groups)]
			spread.BranchesApart = i%4 == 1
			spread.Rest = []fsdp.Rest{fsdp.OnDevice, fsdp.OnHost, fsdp.InFile}[i%3]
			if i%5 == 4 { // ranks of two nodes, taking turns
				for rank := range size {
					spread.Nodes = append(spread.Nodes, rank%2)
				}
			}
			t.Run(fmt.Sprintf("%d/%v/dit=%v/t5=%v/rest=%d/nodes=%v", size, spread.Mesh, spread.ShardDiT, spread.ShardT5, spread.Rest, spread.Nodes), func(t *testing.T) {
				job := job
				job.Spread = spread
				compareDumps(t, executeRanks(t, dir, job), want, spread.Mesh.Ring == 1)
			})
		}
	}
}

// compareDumps compares with the dump of one rank.
func compareDumps(t *testing.T, got, want *Dump, exact bool) {
	t.Helper()
	for name, w := range want.arrays {
		g := got.arrays[name]
		if exact || name == "noise" || name == "y" || name == "clip_fea" || name == "context" || name == "context_null" || name == "timesteps" {
			if !bytes.Equal(g.data, w.data) {
				t.Errorf("%s differs from one rank's", name)
				golden.CompareShape(t, name, w.shape, g.floats(), w.floats(), 0)
			}
		} else if w.dtype == tensor.F32 {
			golden.CompareShape(t, name, w.shape, g.floats(), w.floats(), 5e-4)
		}
	}
}

// TestOfficialRunsOnRanks compares spread runs with the official code directly:
// tokens that no number of ranks divides, one frame, two pictures.
func TestOfficialRunsOnRanks(t *testing.T) {
	for _, tc := range []struct {
		name string
		mesh sharding.Mesh
	}{
		{"i2v_17f_unipc", sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 4, FSDP: 4}},
		{"i2v_1f_unipc", sharding.Mesh{CFG: 1, Ring: 3, Ulysses: 1, FSDP: 3}},
		{"t2v_9f_unipc", sharding.Mesh{CFG: 2, Ring: 1, Ulysses: 2, FSDP: 4}},
		{"t2v_quick_5f_unipc", sharding.Mesh{CFG: 1, Ring: 2, Ulysses: 4, FSDP: 8}},
		{"flf2v_9f_dpm_generalised", sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 5, FSDP: 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := readCase(t, "../../testdata/e2e/"+tc.name+".json")
			job := c.job(t)
			job.Spread = Spread{Mesh: tc.mesh, ShardDiT: true, ShardT5: true}
			dump := executeRanks(t, "../../testdata/ckpt_"+c.Ckpt, job)
			want := golden.Load(t, "../../testdata/e2e/"+c.Name+".safetensors")
			compareDump(t, dump, want, officialTolerances)
			compareFrames(t, dump, want)
		})
	}
}
