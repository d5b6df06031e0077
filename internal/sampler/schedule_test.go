package sampler

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		kind  string
		steps int
		shift float64
		want  string // in the error; "" accepts
	}{
		{UniPC, 1, 1, ""},
		{DPMPP, 1, 1, ""},
		{UniPC, MaxSteps, 5, ""},
		{DPMPP, 40, MinShift, ""},
		{DPMPP, 40, MaxShift, ""},
		{"euler", 40, 5, "unipc, dpm++"},
		{"", 40, 5, "unipc, dpm++"},
		{UniPC, 0, 5, "nearest is 1"},
		{UniPC, -3, 5, "nearest is 1"},
		{UniPC, MaxSteps + 1, 5, "nearest is 10000"},
		{UniPC, math.MaxInt, 5, "nearest is 10000"},
		{UniPC, 40, 0, "nearest is 0.0001"},
		{UniPC, 40, -1, "nearest is 0.0001"},
		{UniPC, 40, math.Inf(1), "nearest is 10000"},
		{UniPC, 40, math.Inf(-1), "nearest is 0.0001"},
		{UniPC, 40, math.NaN(), "not a number"},
	} {
		s, err := New(tc.kind, tc.steps, tc.shift)
		if tc.want == "" && (err != nil || s == nil) {
			t.Errorf("New(%q, %d, %v): %v", tc.kind, tc.steps, tc.shift, err)
		}
		if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("New(%q, %d, %v): error %v, want one with %q", tc.kind, tc.steps, tc.shift, err, tc.want)
		}
	}
}

// TestNearestShiftIsAccepted: with very many steps, neighbouring levels of an extreme
// shift meet in float32; the shift that the error names must work, and not be far off.
func TestNearestShiftIsAccepted(t *testing.T) {
	numRefused := 0
	for _, kind := range Kinds() {
		for _, steps := range []int{1, 50, 1000, MaxSteps} {
			for _, shift := range []float64{MinShift, 0.01, 1, 50, 1000, MaxShift} {
				err := Check(kind, steps, shift)
				if err == nil {
					continue
				}
				numRefused++
				_, number, ok := strings.Cut(err.Error(), "nearest shift is ")
				nearest, parseErr := strconv.ParseFloat(number, 64)
				if !ok || parseErr != nil {
					t.Fatalf("error %q names no shift", err)
				}
				if err := Check(kind, steps, nearest); err != nil {
					t.Errorf("%s with %d steps: the named shift %v is refused: %v", kind, steps, nearest, err)
				}
				if further := nearest * 1.3; shift > 1 && Check(kind, steps, further) == nil {
					t.Errorf("%s with %d steps: shift %v is named as nearest to %v, but %v works", kind, steps, nearest, shift, further)
				}
			}
		}
	}
	if numRefused == 0 {
		t.Error("no case was refused, so nothing was tested")
	}
}

// TestScheduleFalls: levels fall from at most 1 to 0 and timesteps follow them.
func TestScheduleFalls(t *testing.T) {
	for _, kind := range Kinds() {
		for steps := 1; steps < 200; steps += 7 {
			for _, shift := range []float64{0.1, 1, 3, 5, 16, 100} {
				s := mustNew(t, kind, steps, shift)
				name := fmt.Sprintf("%s, %d steps, shift %v", kind, steps, shift)
				sigmas, timesteps := s.Sigmas(), s.Timesteps()
				if len(sigmas) != steps+1 || len(timesteps) != steps || sigmas[steps] != 0 {
					t.Fatalf("%s: %d sigmas, %d timesteps, last sigma %v", name, len(sigmas), len(timesteps), sigmas[steps])
				}
				for i, timestep := range timesteps {
					if sigmas[i] <= sigmas[i+1] {
						t.Fatalf("%s: sigma %d is %v, the next %v", name, i, sigmas[i], sigmas[i+1])
					}
					if d := float64(sigmas[i])*1000 - float64(timestep); d < -1e-4 || d > 1+1e-4 {
						t.Fatalf("%s: timestep %d for sigma %v", name, timestep, sigmas[i])
					}
				}
			}
		}
	}
}

// TestOfficialFirstLevels: the two solvers start at different levels.
func TestOfficialFirstLevels(t *testing.T) {
	if s := mustNew(t, DPMPP, 40, 5); s.Sigmas()[0] != 1 || s.Timesteps()[0] != 1000 {
		t.Errorf("dpm++ starts at %v, %d; want 1, 1000", s.Sigmas()[0], s.Timesteps()[0])
	}
	if s := mustNew(t, UniPC, 40, 1); s.Sigmas()[0] != float32(0.999) || s.Timesteps()[0] != 999 {
		t.Errorf("unipc starts at %v, %d; want 0.999, 999", s.Sigmas()[0], s.Timesteps()[0])
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("unipc", 40, 5.0)
	f.Add("dpm++", 10000, 9999.0)
	f.Add("dpm++", 0, math.NaN())
	f.Fuzz(func(t *testing.T, kind string, steps int, shift float64) {
		s, err := New(kind, steps, shift)
		if err != nil {
			return
		}
		x, out := []float32{1, -1}, []float32{0.5, 2}
		for i := range min(steps, 4) {
			if err := s.Step(i, x, out); err != nil {
				t.Fatal(err)
			}
		}
		for _, v := range x {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Errorf("%s, %d steps, shift %v: latent is %v", kind, steps, shift, x)
			}
		}
	})
}
