package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
)

// State is what came out of a check.
type State string

// The states of checks.
const (
	Pass    State = "pass"
	Warn    State = "warn"    // it works, but something will be slower or may not fit
	Fail    State = "fail"    // a run will not work
	Unknown State = "unknown" // it could not be looked at
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Text  string `json:"text"` // what was found
	Fix   string `json:"fix"`  // what to do about it, "" if nothing
}

func check(name string, state State, fix, format string, args ...any) Check {
	return Check{Name: name, State: state, Text: settings.Shorten(fmt.Sprintf(format, args...), 400), Fix: fix}
}

// WriteChecks writes checks for people, with what to do below what is not well.
func WriteChecks(w io.Writer, checks []Check) error {
	var b strings.Builder
	marks := map[State]string{Pass: "ok", Warn: "warn", Fail: "FAIL", Unknown: "?"}
	count := map[State]int{}
	for _, c := range checks {
		count[c.State]++
		name := fmt.Sprintf("%-14s", c.Name)
		if len(name) > 14 {
			name += fmt.Sprintf("\n%20s", "") // a file's
		}
		fmt.Fprintf(&b, "%-5s %s %s\n", marks[c.State], name, wrap(c.Text, 21))
		if c.Fix != "" {
			fmt.Fprintf(&b, "%21s-> %s\n", "", wrap(c.Fix, 24))
		}
	}
	fmt.Fprintf(&b, "%d ok, %d warnings, %d failures, %d unknown\n", count[Pass], count[Warn], count[Fail], count[Unknown])
	_, err := io.WriteString(w, b.String())
	return err
}

// Failed returns whether a check failed.
func Failed(checks []Check) bool {
	for _, c := range checks {
		if c.State == Fail {
			return true
		}
	}
	return false
}
