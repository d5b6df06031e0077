package sampler

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/golden"
)

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func mustNew(t testing.TB, kind string, steps int, shift float64) Solver {
	t.Helper()
	s, err := New(kind, steps, shift)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchedulesEqualOfficial(t *testing.T) {
	var tables []struct {
		Solver    string
		Steps     int
		Shift     float64
		Timesteps []int64
		Sigmas    []float32
	}
	readJSON(t, "testdata/tables.json", &tables)
	if len(tables) < 56 {
		t.Fatalf("only %d tables", len(tables))
	}
	for _, tc := range tables {
		name := fmt.Sprintf("%s, %d steps, shift %v", tc.Solver, tc.Steps, tc.Shift)
		s := mustNew(t, tc.Solver, tc.Steps, tc.Shift)
		if d := cmp.Diff(tc.Timesteps, s.Timesteps()); d != "" {
			t.Errorf("%s: timesteps (-want +got)\n%s", name, d)
		}
		golden.Compare(t, name+": sigmas", s.Sigmas(), tc.Sigmas, 0)
	}
}

type trajectory struct {
	Key    string
	Solver string
	Steps  int
	Shift  float64
}

func loadTrajectories(t *testing.T) ([]trajectory, map[string]golden.Tensor) {
	t.Helper()
	var cases []trajectory
	readJSON(t, "testdata/trajectories.json", &cases)
	if len(cases) < 22 {
		t.Fatalf("only %d trajectories", len(cases))
	}
	return cases, golden.Load(t, "testdata/trajectories.safetensors")
}

// trajectoryTolerance: the official float32 run is up to 1.7e-6 from a float64
// one; the last bits of its logarithms differ from ours.
const trajectoryTolerance = 1e-5

func TestTrajectoriesEqualOfficial(t *testing.T) {
	cases, tensors := loadTrajectories(t)
	worst := 0.0
	for _, tc := range cases {
		latents, outs := tensors[tc.Key+".latents"], tensors[tc.Key+".model_out"]
		if len(outs.Shape) == 0 || outs.Shape[0] != tc.Steps {
			t.Fatalf("%s: testdata is incomplete", tc.Key)
		}
		n := len(outs.F32) / tc.Steps
		s := mustNew(t, tc.Solver, tc.Steps, tc.Shift)
		latent := slices.Clone(latents.F32[:n])
		for i := range tc.Steps {
			if err := s.Step(i, latent, outs.F32[i*n:(i+1)*n]); err != nil {
				t.Fatalf("%s: %v", tc.Key, err)
			}
			want := latents.F32[(i+1)*n : (i+2)*n]
			golden.CompareShape(t, fmt.Sprintf("%s after step %d", tc.Key, i), outs.Shape[1:], latent, want, trajectoryTolerance)
			worst = max(worst, golden.MaxDiff(latent, want))
		}
	}
	t.Logf("worst difference %.3g", worst)
}

// TestTrajectoriesWithOwnModel computes the synthetic model here, from our own
// latents, so that an error would feed back as it does in a real run.
func TestTrajectoriesWithOwnModel(t *testing.T) {
	cases, tensors := loadTrajectories(t)
	for _, tc := range cases {
		latents := tensors[tc.Key+".latents"]
		n := len(latents.F32) / (tc.Steps + 1)
		s := mustNew(t, tc.Solver, tc.Steps, tc.Shift)
		latent, out := slices.Clone(latents.F32[:n]), make([]float32, n)
		for i, timestep := range s.Timesteps() {
			for k := range out {
				before := latent[(k+n-1)%n]
				out[k] = float32(0.7*float64(latent[k]) - 0.3*float64(before) + math.Sin(3*float64(timestep)/1000+0.01*float64(k)))
			}
			if err := s.Step(i, latent, out); err != nil {
				t.Fatalf("%s: %v", tc.Key, err)
			}
		}
		golden.CompareShape(t, tc.Key+" at the end", latents.Shape[1:], latent, latents.F32[tc.Steps*n:], trajectoryTolerance)
	}
}

// TestResume stops after each step and goes on with a fresh solver: not a bit changes.
func TestResume(t *testing.T) {
	const steps, n = 7, 50
	for _, kind := range Kinds() {
		run := func(s Solver, latent []float32, from, to int) {
			out := make([]float32, n)
			for i := from; i < to; i++ {
				for k := range out {
					out[k] = float32(math.Sin(float64(i*k))) - 0.5*latent[k]
				}
				if err := s.Step(i, latent, out); err != nil {
					t.Fatal(err)
				}
			}
		}
		start := make([]float32, n)
		for k := range start {
			start[k] = float32(math.Cos(float64(3 * k)))
		}
		whole := slices.Clone(start)
		run(mustNew(t, kind, steps, 5), whole, 0, steps)
		for stop := range steps + 1 {
			first, latent := mustNew(t, kind, steps, 5), slices.Clone(start)
			run(first, latent, 0, stop)
			// Through JSON, as a resume point on disk might be.
			data, err := json.Marshal(first.State())
			if err != nil {
				t.Fatal(err)
			}
			var state State
			if err := json.Unmarshal(data, &state); err != nil {
				t.Fatal(err)
			}
			second := mustNew(t, kind, steps, 5)
			if err := second.Restore(state); err != nil {
				t.Fatalf("%s stopped before step %d: %v", kind, stop, err)
			}
			if d := cmp.Diff(first.State(), second.State()); d != "" {
				t.Errorf("%s stopped before step %d: state (-saved +restored)\n%s", kind, stop, d)
			}
			for _, h := range [][]float32{state.X0, state.PrevX0, state.Sample} {
				for k := range h {
					h[k] = float32(math.NaN()) // Restore has copied
				}
			}
			run(second, latent, stop, steps)
			golden.Compare(t, fmt.Sprintf("%s stopped before step %d", kind, stop), latent, whole, 0)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	full := State{Kind: UniPC, Steps: 4, Shift: 5, Next: 2,
		X0: make([]float32, 3), PrevX0: make([]float32, 3), Sample: make([]float32, 3)}
	for name, change := range map[string]func(*State){
		"kind":         func(s *State) { s.Kind = DPMPP },
		"steps":        func(s *State) { s.Steps = 5 },
		"shift":        func(s *State) { s.Shift = 3 },
		"next":         func(s *State) { s.Next = 5 },
		"negative":     func(s *State) { s.Next = -1 },
		"no history":   func(s *State) { s.X0 = nil },
		"half history": func(s *State) { s.Sample = s.Sample[:2] },
	} {
		s, state := mustNew(t, UniPC, 4, 5), full
		if err := s.Restore(full); err != nil {
			t.Fatal(err)
		}
		change(&state)
		if err := s.Restore(state); err == nil {
			t.Errorf("%s: a wrong state was taken", name)
		}
		if d := cmp.Diff(full, s.State()); d != "" {
			t.Errorf("%s: a refused state left traces\n%s", name, d)
		}
	}
	s := mustNew(t, UniPC, 4, 5)
	if err := s.Restore(full); err != nil {
		t.Fatal(err)
	}
	if err := s.Step(2, make([]float32, 4), make([]float32, 4)); err == nil {
		t.Error("a latent of another size than the restored history was taken")
	}
}

func TestStepRefuses(t *testing.T) {
	for _, kind := range Kinds() {
		s, x := mustNew(t, kind, 2, 5), make([]float32, 3)
		if s.Step(1, x, x) == nil {
			t.Errorf("%s: step 1 before step 0 was taken", kind)
		}
		if s.Step(0, x, x[:2]) == nil {
			t.Errorf("%s: a model output of another size was taken", kind)
		}
		if err := s.Step(0, x, x); err != nil {
			t.Fatal(err)
		}
		if s.Step(0, x, x) == nil {
			t.Errorf("%s: step 0 was taken twice", kind)
		}
		if s.Step(1, x[:2], x[:2]) == nil {
			t.Errorf("%s: a smaller latent was taken", kind)
		}
		if err := s.Step(1, x, x); err != nil {
			t.Fatal(err)
		}
		if s.Step(2, x, x) == nil {
			t.Errorf("%s: a third step of two was taken", kind)
		}
	}
}

// TestKnownTargetIsReached: a network that always points at the same clean
// latent ends there, whatever the schedule. Nothing but a NaN, a wrong sigma or a
// wrong last step can prevent it.
func TestKnownTargetIsReached(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	type run struct {
		steps int
		shift float64
	}
	runs := []run{{1, 5}, {2, MinShift}, {2, MaxShift}, {3, 0.5}, {MaxSteps, 1}, {1000, 16}, {40, 1000}}
	for range 60 {
		runs = append(runs, run{1 + r.IntN(60), math.Exp(r.NormFloat64() * 3)})
	}
	for _, kind := range Kinds() {
		for _, c := range runs {
			s, err := New(kind, c.steps, c.shift)
			if err != nil {
				t.Fatalf("%s with %+v: %v", kind, c, err)
			}
			sigmas := s.Sigmas()
			target, latent, out := make([]float32, 8), make([]float32, 8), make([]float32, 8)
			for k := range target {
				target[k], latent[k] = float32(r.NormFloat64()), float32(r.NormFloat64())
			}
			for i := range c.steps {
				for k := range out {
					out[k] = (latent[k] - target[k]) / sigmas[i]
				}
				if err := s.Step(i, latent, out); err != nil {
					t.Fatal(err)
				}
			}
			golden.Compare(t, fmt.Sprintf("%s with %+v", kind, c), latent, target, 1e-5)
		}
	}
}

func TestStepAllocatesOnce(t *testing.T) {
	for _, kind := range Kinds() {
		s := mustNew(t, kind, 200, 5)
		x, out := make([]float32, 1000), make([]float32, 1000)
		i := 0
		step := func() {
			if err := s.Step(i, x, out); err != nil {
				t.Fatal(err)
			}
			i++
		}
		step()
		if n := testing.AllocsPerRun(50, step); n > 3 { // the list of buffers, never the buffers
			t.Errorf("%s: %v allocations a step", kind, n)
		}
		if before := s.State().X0; &before[0] != &s.State().X0[0] {
			t.Errorf("%s: history moved", kind)
		}
	}
}

func TestClassifierFreeGuidance(t *testing.T) {
	cond, uncond := []float32{1, 2, 0.1, 3}, []float32{0.5, 2, 0.3, -1}
	dst := make([]float32, 4)
	ClassifierFreeGuidance(dst, cond, uncond, 5)
	want := []float32{3, 2, 0, 19}
	want[2] = uncond[2] + float32(5*float32(cond[2]-uncond[2]))
	golden.Compare(t, "scale 5", dst, want, 0)
	if dst[2] == 5*cond[2]-4*uncond[2] {
		t.Error("the case does not tell the official order of operations from another")
	}
	ClassifierFreeGuidance(uncond, cond, uncond, 5) // in place
	golden.Compare(t, "in place", uncond, want, 0)
}

func BenchmarkStep(b *testing.B) {
	const n = 16 * 21 * 60 * 104 // 480p, 81 frames
	for _, kind := range Kinds() {
		b.Run(kind+"/480p_81_frames", func(b *testing.B) {
			latent, out := make([]float32, n), make([]float32, n)
			s := mustNew(b, kind, MaxSteps, 1)
			b.SetBytes(4 * n)
			i := 0
			for b.Loop() {
				if err := s.Step(i, latent, out); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
