package launch

import (
	"fmt"
	"math"
	"time"
)

// formatBytes writes a size with three digits, in powers of 1024.
func formatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	x, units := float64(n), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := -1
	for x >= unit && i < len(units)-1 {
		x /= unit
		i++
	}
	return fmt.Sprintf("%.*f %s", digits(x), x, units[i])
}

// formatSeconds writes a short time in seconds and a long one in hours and minutes.
func formatSeconds(seconds float64) string {
	const minute = 60
	switch {
	case math.IsNaN(seconds) || seconds < 0 || seconds > 1e9:
		return "?"
	case seconds < minute:
		return fmt.Sprintf("%.*f s", digits(seconds), seconds)
	default:
		return time.Duration(math.Round(seconds) * float64(time.Second)).String()
	}
}

// digits after the point that make three in all, at most two.
func digits(x float64) int {
	switch {
	case x >= 99.5:
		return 0
	case x >= 9.95:
		return 1
	default:
		return 2
	}
}
