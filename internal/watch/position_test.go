package watch

import (
	"slices"
	"testing"
)

func TestMinority(t *testing.T) {
	at := func(places ...string) (p []Position) {
		for rank, where := range places {
			p = append(p, Position{rank, where})
		}
		return p
	}
	const a, v, d = "all-to-all #812", "vae_encode", "denoise 3/50"
	for _, tc := range []struct {
		name      string
		positions []Position
		ranks     []int
		text      string
	}{
		{"one of eight", at(a, v, a, a, a, a, a, a), []int{1}, "7 of 8 wait in all-to-all #812, rank 1 is in vae_encode"},
		{"two places", at(a, v, a, a, d, v, v, a, a, a), []int{1, 4, 5, 6}, "6 of 10 wait in all-to-all #812, ranks 1, 5-6 are in vae_encode, rank 4 is in denoise 3/50"},
		{"all at one place", at(a, a), nil, ""},
		{"half and half", at(a, v), nil, ""},
		{"everybody elsewhere", at(a, v, d), nil, ""},
		{"nobody", nil, nil, ""},
	} {
		if ranks, text := Minority(tc.positions); !slices.Equal(ranks, tc.ranks) || text != tc.text {
			t.Errorf("%s: %v %q, want %v %q", tc.name, ranks, text, tc.ranks, tc.text)
		}
	}
}
