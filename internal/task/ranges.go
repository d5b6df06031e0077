package task

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The ranges of the settings. Steps and shift are those of the solvers, which
// also refuse a few extreme pairs of both.
const (
	MaxSteps = 10_000
	MinShift = 1e-4
	MaxShift = 1e4
	MaxGuide = 100
	MaxFPS   = 240
)

// Solvers lists the solvers by their official names; the first is the default.
func Solvers() []string { return []string{"unipc", "dpm++"} }

// CheckSolver accepts the names in Solvers.
func CheckSolver(name string) error {
	if !slices.Contains(Solvers(), name) {
		return fmt.Errorf("unknown solver %q; known: %s", name, strings.Join(Solvers(), ", "))
	}
	return nil
}

// CheckSteps accepts 1 to MaxSteps.
func CheckSteps(steps int) error { return checkInt("steps are", steps, 1, MaxSteps) }

// CheckFPS accepts 1 to MaxFPS frames a second.
func CheckFPS(fps int) error { return checkInt("frames a second are", fps, 1, MaxFPS) }

// CheckShift accepts MinShift to MaxShift.
func CheckShift(shift float64) error {
	return checkFloat("shift is", shift, MinShift, MaxShift, "the official values are 3, 5 and 16")
}

// CheckGuide accepts -MaxGuide to MaxGuide.
func CheckGuide(scale float64) error {
	return checkFloat("guidance scale is", scale, -MaxGuide, MaxGuide, "the official value is 5")
}

func checkInt(what string, v, low, high int) error {
	if nearest := min(max(v, low), high); nearest != v {
		return fmt.Errorf("%s %d, want %d to %d; nearest is %d", what, v, low, high, nearest)
	}
	return nil
}

// checkFloat names the nearest value, or for NaN, which is near nothing, what is usual.
func checkFloat(what string, v, low, high float64, usual string) error {
	if math.IsNaN(v) {
		return fmt.Errorf("%s not a number, want %v to %v; %s", what, low, high, usual)
	}
	if nearest := min(max(v, low), high); nearest != v {
		return fmt.Errorf("%s %v, want %v to %v; nearest is %v", what, v, low, high, nearest)
	}
	return nil
}

// ParseSeed reads a seed: 0 to 2^63-1, or a negative number, which asks for a random one.
func ParseSeed(s string) (int64, error) {
	seed, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	switch {
	case err == nil:
		return seed, nil
	case errors.Is(err, strconv.ErrRange):
		// ParseInt returns the end of the range that was passed.
		return 0, fmt.Errorf("seed %s is out of range, want 0 to %d, or a negative number for a random one; nearest is %d", strings.TrimSpace(s), int64(math.MaxInt64), seed)
	default:
		return 0, fmt.Errorf("seed %q is not a whole number from 0 to %d, or a negative one for a random seed", s, int64(math.MaxInt64))
	}
}
