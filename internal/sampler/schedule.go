package sampler

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// MaxSteps bounds the number of steps. Training knew 1000 noise levels; more
// steps than that only repeat timesteps.
const MaxSteps = 10_000

const numTrainTimesteps = 1000 // original config, num_train_timesteps

// schedule is the noise levels of a run and what the network is told of them.
type schedule struct {
	sigmas    []float32 // steps+1, the last 0
	timesteps []int64   // steps
}

// newSchedule spaces the levels evenly and then shifts them towards noise:
// s' = shift*s / (1+(shift-1)*s). UniPC starts below 1, at the highest level of
// training; dpm++ starts at 1 itself. Levels are float64 until they are
// stored, and the timestep is cut, not rounded, from the float64 level.
func newSchedule(kind string, steps int, shift float64) schedule {
	first := 1.0
	if kind == UniPC {
		first = float64(float32(1 - 1.0/numTrainTimesteps)) // the table it comes from is float32
	}
	s := schedule{make([]float32, steps+1), make([]int64, steps)}
	delta := -first / float64(steps)
	for i := range steps {
		level := float64(float64(i)*delta) + first // rounded twice, as numpy.linspace does it
		level = float64(shift*level) / (1 + float64((shift-1)*level))
		s.sigmas[i] = float32(level)
		s.timesteps[i] = int64(level * numTrainTimesteps)
	}
	return s
}

// falls says whether the levels go down at every step, without which the solvers would divide by 0.
func (s schedule) falls() bool {
	for i, sigma := range s.sigmas[:len(s.sigmas)-1] {
		if !(sigma > s.sigmas[i+1]) || sigma > 1 {
			return false
		}
	}
	return true
}

// CheckKind accepts the names in Kinds.
func CheckKind(kind string) error {
	if !slices.Contains(Kinds(), kind) {
		return fmt.Errorf("unknown solver %q; known: %s", kind, strings.Join(Kinds(), ", "))
	}
	return nil
}

// CheckSteps accepts 1 to MaxSteps.
func CheckSteps(steps int) error {
	if nearest := min(max(steps, 1), MaxSteps); nearest != steps {
		return fmt.Errorf("steps are %d, want 1 to %d; nearest is %d", steps, MaxSteps, nearest)
	}
	return nil
}

// The shifts that CheckShift accepts; beyond them most steps would have nearly the same noise level.
const (
	MinShift = 1e-4
	MaxShift = 1e4
)

// CheckShift accepts MinShift to MaxShift.
func CheckShift(shift float64) error {
	if math.IsNaN(shift) {
		return fmt.Errorf("shift is not a number, want %v to %v; the official values are 3, 5 and 16", MinShift, MaxShift)
	}
	if nearest := min(max(shift, MinShift), MaxShift); nearest != shift {
		return fmt.Errorf("shift is %v, want %v to %v; nearest is %v", shift, MinShift, MaxShift, nearest)
	}
	return nil
}

// Check accepts what New can run: a known kind, steps and shift in range, and the
// two not both so extreme that noise levels of neighbouring steps are equal in float32.
// The error names the nearest value that would be accepted.
func Check(kind string, steps int, shift float64) error {
	if err := CheckKind(kind); err != nil {
		return err
	}
	if err := CheckSteps(steps); err != nil {
		return err
	}
	if err := CheckShift(shift); err != nil {
		return err
	}
	if newSchedule(kind, steps, shift).falls() {
		return nil
	}
	return fmt.Errorf("shift %v with %d steps gives two steps the same noise level; nearest shift is %v",
		shift, steps, nearestShift(kind, steps, shift))
}

// nearestShift looks for the accepted shift closest to one that is not, by
// halving the way to shift 1, which every number of steps accepts.
func nearestShift(kind string, steps int, shift float64) float64 {
	good, bad := 0.0, math.Log10(shift)
	for range 30 {
		middle := (good + bad) / 2
		if newSchedule(kind, steps, math.Pow(10, middle)).falls() {
			good = middle
		} else {
			bad = middle
		}
	}
	// Two digits are enough to say; shorten towards 1.
	unit := math.Pow(10, math.Floor(good)-1)
	if shift > 1 {
		return math.Floor(math.Pow(10, good)/unit) * unit
	}
	return math.Ceil(math.Pow(10, good)/unit) * unit
}
