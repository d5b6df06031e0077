package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseCounts reads a number for each node, as in SLURM_TASKS_PER_NODE and
// SLURM_JOB_CPUS_PER_NODE: "2(x3),1" is 2, 2, 2, 1. A wrong list is an error with the
// byte at which it fails.
func ParseCounts(list string) ([]int, error) {
	if len(list) > maxListBytes {
		return nil, fmt.Errorf("list of counts has %d bytes, want at most %d", len(list), maxListBytes)
	}
	var counts []int
	pos := 0
	for _, entry := range strings.Split(list, ",") {
		number, times, repeated := strings.Cut(entry, "(x")
		count, err := smallNumber(number)
		if err != nil {
			return nil, fmt.Errorf("list of counts %s: at byte %d: %w", clip(list), pos, err)
		}
		n := 1
		if repeated {
			inner, closed := strings.CutSuffix(times, ")")
			if n, err = smallNumber(inner); err == nil && (!closed || n == 0) {
				err = fmt.Errorf("want (xN), N at least 1")
			}
			if err != nil {
				return nil, fmt.Errorf("list of counts %s: at byte %d: %w", clip(list), pos+len(number), err)
			}
		}
		if n > maxHosts-len(counts) {
			return nil, fmt.Errorf("list of counts %s: at byte %d: more than %d nodes", clip(list), pos, maxHosts)
		}
		for range n {
			counts = append(counts, count)
		}
		pos += len(entry) + 1
	}
	return counts, nil
}

// smallNumber reads a number without sign, at most 2^20.
func smallNumber(s string) (int, error) {
	const most = 1 << 20
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s is no number from 0 to %d", clip(s), most)
	}
	return int(n), nil
}

// clip quotes s for a message, its beginning alone if it is long.
func clip(s string) string {
	const shown = 60
	if len(s) > shown {
		s = s[:shown] + "…"
	}
	return strconv.Quote(s)
}
