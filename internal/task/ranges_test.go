package task

import (
	"fmt"
	"math"
	"testing"

	"github.com/wanrun/wanrun/internal/sampler"
)

func TestCheckFrames(t *testing.T) {
	for frames, words := range map[int]string{
		1: "", 5: "", 13: "", 81: "", 4093: "",
		80: "nearest are 77 and 81", 82: "nearest are 81 and 85", 2: "nearest are 1 and 5", 3: "nearest are 1 and 5",
		0: "nearest is 1", -1: "nearest is 1", math.MinInt: "nearest is 1",
		4094: "nearest is 4093", 4092: "nearest are 4089 and 4093", 1_000_000_000: "nearest is 4093", math.MaxInt: "nearest is 4093",
	} {
		wantError(t, fmt.Sprint(frames, " frames"), CheckFrames(frames), words)
		wantError(t, fmt.Sprint(frames, " frames of i2v"), I2V14B.CheckFrames(frames), words)
	}
	wantError(t, "a picture", T2I14B.CheckFrames(1), "")
	wantError(t, "a picture of 81 frames", T2I14B.CheckFrames(81), "t2i-14B|nearest is 1")
}

func TestLatentFrames(t *testing.T) {
	for frames, want := range map[int]int{1: 1, 5: 2, 13: 4, 81: 21, MaxFrames: 1024} {
		if got := LatentFrames(frames); got != want {
			t.Errorf("LatentFrames(%d) = %d, want %d", frames, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, tc := range []struct {
		what  string
		err   error
		words string
	}{
		{"steps 1", CheckSteps(1), ""},
		{"steps 0", CheckSteps(0), "nearest is 1"},
		{"steps -4", CheckSteps(-4), "nearest is 1"},
		{"steps max", CheckSteps(math.MaxInt), "nearest is 10000"},
		{"shift 5", CheckShift(5), ""},
		{"shift 0.01", CheckShift(0.01), ""},
		{"shift 0", CheckShift(0), "shift is 0|nearest is 0.0001"},
		{"shift -0", CheckShift(math.Copysign(0, -1)), "nearest is 0.0001"},
		{"shift NaN", CheckShift(nan), "not a number|3, 5 and 16"},
		{"shift Inf", CheckShift(inf), "nearest is 10000"},
		{"guide 5", CheckGuide(5), ""},
		{"guide 0", CheckGuide(0), ""},
		{"guide 1", CheckGuide(1), ""},
		{"guide Inf", CheckGuide(inf), "guidance scale is +Inf|nearest is 100"},
		{"guide -Inf", CheckGuide(-inf), "nearest is -100"},
		{"guide NaN", CheckGuide(nan), "not a number"},
		{"fps 16", CheckFPS(16), ""},
		{"fps 0", CheckFPS(0), "nearest is 1"},
		{"fps 1000", CheckFPS(1000), "nearest is 240"},
		{"unipc", CheckSolver("unipc"), ""},
		{"dpm++", CheckSolver("dpm++"), ""},
		{"euler", CheckSolver("euler"), "unipc, dpm++"},
	} {
		wantError(t, tc.what, tc.err, tc.words)
	}
}

// TestRangesAreTheSolvers: what is accepted here must not be refused there, save
// for pairs of steps and shift that are extreme together.
func TestRangesAreTheSolvers(t *testing.T) {
	for _, kind := range append(Solvers(), "euler", "") {
		if (CheckSolver(kind) == nil) != (sampler.CheckKind(kind) == nil) {
			t.Errorf("solver %q: task says %v, sampler %v", kind, CheckSolver(kind), sampler.CheckKind(kind))
		}
	}
	for _, steps := range []int{-1, 0, 1, 40, MaxSteps, MaxSteps + 1} {
		if (CheckSteps(steps) == nil) != (sampler.CheckSteps(steps) == nil) {
			t.Errorf("%d steps: task says %v, sampler %v", steps, CheckSteps(steps), sampler.CheckSteps(steps))
		}
	}
	for _, shift := range []float64{-1, 0, MinShift, MinShift / 2, 1, MaxShift, MaxShift * 2, math.NaN(), math.Inf(1)} {
		if (CheckShift(shift) == nil) != (sampler.CheckShift(shift) == nil) {
			t.Errorf("shift %v: task says %v, sampler %v", shift, CheckShift(shift), sampler.CheckShift(shift))
		}
	}
	if Solvers()[0] != sampler.Kinds()[0] {
		t.Errorf("default solver is %s here and %s there", Solvers()[0], sampler.Kinds()[0])
	}
}

func TestParseSeed(t *testing.T) {
	for _, tc := range []struct {
		in    string
		want  int64
		words string
	}{
		{"0", 0, ""},
		{"42", 42, ""},
		{" 42\n", 42, ""},
		{"-1", -1, ""},
		{"9223372036854775807", math.MaxInt64, ""},
		{"18446744073709551616", 0, "nearest is 9223372036854775807"},
		{"9223372036854775808", 0, "nearest is 9223372036854775807"},
		{"-99999999999999999999", 0, "out of range|negative number for a random"},
		{"", 0, "not a whole number"},
		{"1.5", 0, "not a whole number"},
		{"0x10", 0, "not a whole number"},
		{"abc", 0, "not a whole number"},
	} {
		got, err := ParseSeed(tc.in)
		wantError(t, tc.in, err, tc.words)
		if got != tc.want {
			t.Errorf("ParseSeed(%q) = %d, want %d", tc.in, got, tc.want)
		}
	}
}
