package doctor

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// unknown stands for a number that no line says.
const unknown int64 = -1

var sizeText = regexp.MustCompile(`(\d{1,15}(?:\.\d{1,6})?)\s?([KMGT]i?B|kB|bytes|B)\b`)

var units = map[string]float64{"bytes": 1, "B": 1, "kB": 1 << 10, "KB": 1 << 10, "KiB": 1 << 10, "MB": 1 << 20, "MiB": 1 << 20,
	"GB": 1 << 30, "GiB": 1 << 30, "TB": 1 << 40, "TiB": 1 << 40}

// sizeAfter returns the first size behind a text of a line, unknown if there is none within
// a few words. torch writes GiB, and GB for the same in older releases.
func sizeAfter(text, marker string) int64 {
	const near = 40
	i := strings.Index(text, marker)
	if i < 0 {
		return unknown
	}
	rest := text[i+len(marker):]
	return firstSize(rest[:min(len(rest), near)])
}

// sizeBefore returns the last size in front of a text.
func sizeBefore(text, marker string) int64 {
	const near = 40
	i := strings.Index(text, marker)
	if i < 0 {
		return unknown
	}
	all := sizeText.FindAllString(text[max(0, i-near):i], -1)
	if len(all) == 0 {
		return unknown
	}
	return firstSize(all[len(all)-1])
}

func firstSize(text string) int64 {
	m := sizeText.FindStringSubmatch(text)
	if m == nil {
		return unknown
	}
	x, err := strconv.ParseFloat(m[1], 64)
	x *= units[m[2]]
	if err != nil || x < 0 || x >= math.MaxInt64/2 {
		return unknown
	}
	return int64(x)
}

// numberAfter returns the whole number right behind a text, unknown if there is none.
func numberAfter(text, marker string) int64 {
	i := strings.Index(text, marker)
	if i < 0 {
		return unknown
	}
	rest := strings.TrimLeft(text[i+len(marker):], " ")
	end := 0
	for end < len(rest) && end < 18 && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(rest[:end], 10, 64)
	if err != nil {
		return unknown
	}
	return n
}

// formatBytes writes a size with three digits, in powers of 1024.
func formatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	x, names := float64(n), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := -1
	for x >= unit && i < len(names)-1 {
		x /= unit
		i++
	}
	digits := 2
	switch {
	case x == math.Trunc(x), x >= 99.5:
		digits = 0
	case x >= 9.95:
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, x, names[i])
}

// rankList writes ranks as "rank 3" or "ranks 0, 2-7"; "" for none. They are sorted.
func rankList(ranks []int) string {
	if len(ranks) == 0 {
		return ""
	}
	if len(ranks) == 1 {
		return fmt.Sprintf("rank %d", ranks[0])
	}
	var parts []string
	for i := 0; i < len(ranks); {
		j := i
		for j+1 < len(ranks) && ranks[j+1] == ranks[j]+1 {
			j++
		}
		if j == i {
			parts = append(parts, strconv.Itoa(ranks[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", ranks[i], ranks[j]))
		}
		i = j + 1
	}
	return "ranks " + strings.Join(parts, ", ")
}
