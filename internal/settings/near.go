package settings

import (
	"fmt"
	"strings"
)

// Nearest returns the word of known that is most like word, "" if none is much like
// it: at most a third of the letters differ, or one begins with the other.
func Nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, bestCost := "", len(word)/3+2
	for _, k := range known {
		cost := editDistance(word, strings.ToLower(k))
		if len(word) >= 3 && (strings.HasPrefix(k, word) || strings.HasPrefix(word, k)) {
			cost = min(cost, 1)
		}
		if cost < bestCost && cost < len(k) {
			best, bestCost = k, cost
		}
	}
	return best
}

// maxCompared bounds the words that are compared: the time is their product.
const maxCompared = 64

// editDistance counts the letters to change, add, drop or swap with a neighbour.
func editDistance(a, b string) int {
	if len(a) > maxCompared || len(b) > maxCompared {
		return maxCompared
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// Suggest is the ending of an error about word: "; did you mean X?", or nothing.
// form writes the suggestion, as in "--%s".
func Suggest(form, word string, known []string) string {
	near := Nearest(word, known)
	if near == "" {
		return ""
	}
	return "; did you mean " + fmt.Sprintf(form, near) + "?"
}
