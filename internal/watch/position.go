package watch

import (
	"fmt"
	"slices"
	"strings"
)

// Position is where a rank is: a phase and step, a collective and its number, or what the
// kernel waits for.
type Position struct {
	Rank  int
	Where string
}

// Minority returns the ranks that are elsewhere than more than half of all, and a line:
// "7 of 8 wait in all-to-all #812, rank 1 is in vae_encode". Both are empty where all are
// at one place, or no place has most.
func Minority(positions []Position) (ranks []int, text string) {
	at := map[string][]int{}
	for _, p := range positions {
		at[p.Where] = append(at[p.Where], p.Rank)
	}
	var most string
	for where, there := range at {
		if 2*len(there) > len(positions) {
			most = where
		}
	}
	if len(at) < 2 || len(at[most]) == 0 {
		return nil, ""
	}
	var places []string
	for where := range at {
		if where != most {
			slices.Sort(at[where])
			places = append(places, where)
			ranks = append(ranks, at[where]...)
		}
	}
	slices.SortFunc(places, func(a, b string) int { return at[a][0] - at[b][0] })
	text = fmt.Sprintf("%d of %d wait in %s", len(at[most]), len(positions), most)
	for _, where := range places {
		verb := "rank %s is in %s"
		if len(at[where]) > 1 {
			verb = "ranks %s are in %s"
		}
		text += fmt.Sprintf(", "+verb, foldRanks(at[where]), where)
	}
	slices.Sort(ranks)
	return ranks, text
}

// foldRanks writes sorted numbers as "1, 5-7".
func foldRanks(ranks []int) string {
	var parts []string
	for i := 0; i < len(ranks); {
		j := i
		for j+1 < len(ranks) && ranks[j+1] == ranks[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(ranks[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", ranks[i], ranks[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}
