package settings

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// parseBool reads what the official command line reads as a truth value, and on and off.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "yes", "t", "y", "1", "on":
		return true, nil
	case "false", "no", "f", "n", "0", "off":
		return false, nil
	default:
		return false, fmt.Errorf("%q is neither True nor False", s)
	}
}

// parseInt reads a whole number. One out of int's range comes back as the end of
// the range that it passed, for the range check to word.
func parseInt(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if errors.Is(err, strconv.ErrRange) {
		return n, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

// parseReal reads a decimal number; too large a one is infinite.
func parseReal(s string) (float64, error) {
	x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if errors.Is(err, strconv.ErrRange) {
		return x, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return x, nil
}

// parseChoice accepts a choice in any letter case.
func parseChoice(s string, choices []string) (string, error) {
	for _, c := range choices {
		if strings.EqualFold(strings.TrimSpace(s), c) {
			return c, nil
		}
	}
	return "", fmt.Errorf("%q is not known; one of %s%s", s, strings.Join(choices, ", "), Suggest("%s", s, choices))
}
