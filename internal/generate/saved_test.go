package generate

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/sampler"
	"github.com/wanrun/wanrun/pkg/comm"
	"github.com/wanrun/wanrun/pkg/sharding"
	"github.com/wanrun/wanrun/pkg/tensor"
)

const demoCheckpoint = "../../examples/demo-model/checkpoint"

// savedRun runs the job on its ranks, from saved if that is not nil, with exactly the
// memory that was planned, and returns what the first rank dumped and saved.
type savedRun struct {
	dump  *Dump
	saved []Saved
	errs  []error
}

func runSaved(t *testing.T, job Job, saved *Saved, draining func(rank, next int) bool) (r savedRun) {
	t.Helper()
	size := max(job.Spread.Mesh.Size(), 1)
	worlds := []comm.Group{nil}
	if size > 1 {
		worlds = local.New(size, nil)
	}
	r.errs = make([]error, size)
	var wg sync.WaitGroup
	for rank, world := range worlds {
		own := job
		own.Dump = NewDump()
		host := testHost()
		next := 0
		if saved != nil {
			next = saved.Solver.Next
		}
		host.Progress = func(p Progress) {
			if p.Phase == PhaseDenoise && p.Total == job.Steps {
				next = p.Done
			}
		}
		var from *Saved
		if rank == 0 {
			r.dump = own.Dump
			from = saved
			host.Save = func(s Saved) error {
				s.Latent = slices.Clone(s.Latent)
				for _, x := range history(&s.Solver) {
					*x = slices.Clone(*x)
				}
				r.saved = append(r.saved, s)
				return nil
			}
		}
		if draining != nil {
			host.Draining = func() bool { return draining(rank, next) }
		}
		wg.Go(func() { r.errs[rank] = runSavedRank(t, own, rank, world, host, from) })
	}
	wg.Wait()
	return r
}

func runSavedRank(t *testing.T, job Job, rank int, world comm.Group, host Host, saved *Saved) (err error) {
	defer func() {
		if world != nil && err != nil {
			world.Abort(err)
		}
		if world != nil {
			_ = world.Close() // an aborted one says so again
		}
	}()
	ckpt, err := checkpoint.OpenDir(demoCheckpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ckpt.Close()) }()
	run, err := Prepare(t.Context(), job, ckpt)
	if err != nil {
		return err
	}
	if err := run.Continue(t.Context(), world, saved); err != nil {
		return err
	}
	b := cpu.New(1)
	defer b.Close()
	plans, err := run.Plan(t.Context(), b, host)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	space, err := tensor.Reserve(b, plans[rank].Peak())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, space.Close()) }()
	used, err := run.Execute(t.Context(), b, space, world, Discard{}, host)
	if err != nil {
		return err
	}
	if len(used.Phases) != len(plans[rank].Phases) {
		return fmt.Errorf("%d phases, planned %d", len(used.Phases), len(plans[rank].Phases))
	}
	for i, p := range used.Phases {
		if q := plans[rank].Phases[i]; p.Name != q.Name || p.Peak != q.Peak || p.HostWeights != q.HostWeights {
			t.Errorf("rank %d: %s used %v, planned for %s %v", rank, p.Name, p.Peak, q.Name, q.Peak)
		}
	}
	return nil
}

func savedJob(t *testing.T, solver string, steps int) Job {
	t.Helper()
	job := e2eCase{Kind: "i2v", Prompt: "the red ball moves right", Negative: "blurry", MaxArea: 4096, FrameNum: 5, Seed: 42, Steps: steps, Shift: 3,
		GuideScale: 3, Solver: solver}.job(t)
	job.First = readPicture(t, "../../examples", "in.jpg")
	return job
}

// sameEnd compares the bits of what a run ends with.
func sameEnd(t *testing.T, got, want *Dump) {
	t.Helper()
	for _, name := range []string{"final_latent", "video", "video_uint8_FHWC"} {
		if len(want.arrays[name].data) == 0 {
			t.Fatalf("no %s to compare with", name)
		}
		if !bytes.Equal(got.arrays[name].data, want.arrays[name].data) {
			t.Errorf("%s has other bits than that of the whole run", name)
		}
	}
}

// TestContinue stops a run after each of its steps and goes on with what was saved: the
// video has the same bits, and the plan of what is left is exact.
func TestContinue(t *testing.T) {
	for _, tc := range []struct {
		solver string
		steps  int
		spread Spread
	}{
		{sampler.UniPC, 5, Spread{}},
		{sampler.DPMPP, 4, Spread{}},
		{sampler.UniPC, 3, Spread{BranchesApart: true}},
		{sampler.UniPC, 4, Spread{Mesh: sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 2, FSDP: 2}, ShardDiT: true, ShardT5: true}},
		{sampler.DPMPP, 3, Spread{Mesh: sharding.Mesh{CFG: 2, Ring: 1, Ulysses: 1, FSDP: 2}}},
	} {
		t.Run(fmt.Sprintf("%s/%v/apart=%v", tc.solver, tc.spread.Mesh, tc.spread.BranchesApart), func(t *testing.T) {
			job := savedJob(t, tc.solver, tc.steps)
			job.Spread = tc.spread
			whole := runSaved(t, job, nil, nil)
			if err := firstCause(whole.errs); err != nil {
				t.Fatal(err)
			}
			if len(whole.saved) != tc.steps {
				t.Fatalf("saved %d times, want once after each of %d steps", len(whole.saved), tc.steps)
			}
			// How the branches run is taken from what was saved.
			job.Spread.BranchesApart = !tc.spread.BranchesApart && tc.spread.Mesh.CFG < 2
			for i, saved := range whole.saved {
				if saved.Solver.Next != i+1 || saved.Apart != tc.spread.BranchesApart {
					t.Fatalf("saved %d stands before step %d, apart %v", i, saved.Solver.Next, saved.Apart)
				}
				rest := runSaved(t, job, &saved, nil)
				if err := firstCause(rest.errs); err != nil {
					t.Fatalf("from step %d: %v", i+1, err)
				}
				sameEnd(t, rest.dump, whole.dump)
				if len(rest.saved) != tc.steps-i-1 {
					t.Errorf("from step %d: saved %d times", i+1, len(rest.saved))
				}
			}
		})
	}
}

// TestDrain asks one rank of several to save and to end: all end before the same step,
// and the run goes on from there to the same bits.
func TestDrain(t *testing.T) {
	job := savedJob(t, sampler.UniPC, 3)
	job.Spread = Spread{Mesh: sharding.Mesh{CFG: 1, Ring: 1, Ulysses: 2, FSDP: 2}, ShardDiT: true}
	whole := runSaved(t, job, nil, nil)
	for step := range 3 {
		drained := runSaved(t, job, nil, func(rank, next int) bool { return rank == 1 && next >= step })
		for rank, err := range drained.errs {
			if !errors.Is(err, ErrDrained) {
				t.Fatalf("rank %d: %v", rank, err)
			}
		}
		last := drained.saved[len(drained.saved)-1]
		if last.Solver.Next != step {
			t.Errorf("drained before step %d, saved before %d", step, last.Solver.Next)
		}
		rest := runSaved(t, job, &last, nil)
		if err := firstCause(rest.errs); err != nil {
			t.Fatal(err)
		}
		sameEnd(t, rest.dump, whole.dump)
	}
}

// TestContinueRefuses holds saved states to the job.
func TestContinueRefuses(t *testing.T) {
	job := savedJob(t, sampler.UniPC, 2)
	good := runSaved(t, job, nil, nil).saved[0]
	for _, tc := range []struct {
		name   string
		change func(*Saved)
		want   string
	}{
		{"steps", func(s *Saved) { s.Solver.Steps = 7 }, "7 steps"},
		{"solver", func(s *Saved) { s.Solver.Kind = sampler.DPMPP }, "dpm++"},
		{"size", func(s *Saved) { s.Latent = s.Latent[1:] }, "elements"},
		{"history", func(s *Saved) { s.Solver.PrevX0 = nil }, "history"},
		{"NaN", func(s *Saved) { s.Latent = slices.Clone(s.Latent); s.Latent[5] /= 0 * s.Latent[5] }, "element 5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			saved := good
			tc.change(&saved)
			err := runSaved(t, job, &saved, nil).errs[0]
			if ends.CodeOf(err) != ends.BadInput || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// TestFacts: facts are the same for the same job, and tell another seed, picture and
// checkpoint.
func TestFacts(t *testing.T) {
	facts := func(dir string, change func(*Job)) map[string]string {
		t.Helper()
		ckpt, err := checkpoint.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer ckpt.Close()
		job := savedJob(t, sampler.UniPC, 2)
		if change != nil {
			change(&job)
		}
		run, err := Prepare(t.Context(), job, ckpt)
		if err != nil {
			t.Fatal(err)
		}
		return run.Facts()
	}
	differ := func(a, b map[string]string) (names []string) {
		for name, v := range a {
			if b[name] != v {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	base := facts(demoCheckpoint, nil)
	for _, tc := range []struct {
		name, dir string
		change    func(*Job)
		want      string
	}{
		{"the same", demoCheckpoint, nil, ""},
		{"memory", demoCheckpoint, func(j *Job) { j.Spread.ShardT5 = true }, ""},
		{"seed", demoCheckpoint, func(j *Job) { j.Seed = 43 }, "seed"},
		{"picture", demoCheckpoint, func(j *Job) { j.First.Pix[7]++ }, "the first picture"},
		{"checkpoint", "../../testdata/ckpt_i2v", nil, "CLIP weights,DiT weights,T5 weights,VAE weights"},
	} {
		if got := strings.Join(differ(base, facts(tc.dir, tc.change)), ","); got != tc.want {
			t.Errorf("%s: facts that differ: %q, want %q", tc.name, got, tc.want)
		}
	}
}
