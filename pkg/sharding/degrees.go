package sharding

import (
	"fmt"
	"strings"
)

// Divisors returns the degrees that divide heads, ascending: how many ranks can
// share an attention with equally many heads each. For 40 heads 1, 2, 4, 5, 8, 10,
// 20, 40, for 12 heads 1, 2, 3, 4, 6, 12.
func Divisors(heads int) []int {
	var out []int
	for d := 1; d <= heads; d++ {
		if heads%d == 0 {
			out = append(out, d)
		}
	}
	return out
}

// Nearest returns the divisors of heads next to degree: the greatest below and the
// least above it, or degree itself.
func Nearest(heads, degree int) []int {
	below, above := 0, 0
	for _, d := range Divisors(heads) {
		switch {
		case d == degree:
			return []int{d}
		case d < degree:
			below = d
		case above == 0:
			above = d
		}
	}
	var out []int
	for _, d := range []int{below, above} {
		if d > 0 {
			out = append(out, d)
		}
	}
	return out
}

// CheckEven returns an error unless degree ranks can share heads equally.
func CheckEven(heads, degree int) error {
	if degree >= 1 && heads >= 1 && heads%degree == 0 {
		return nil
	}
	return fmt.Errorf("%d heads do not divide over %d ranks; %s, of %v", heads, degree, nearestText(heads, degree), Divisors(heads))
}

// CheckUneven returns an error unless degree ranks can share heads with at least
// one head each. Degrees that do not divide heads cost time: see Imbalance.
func CheckUneven(heads, degree int) error {
	if degree >= 1 && degree <= heads {
		return nil
	}
	return fmt.Errorf("%d heads cannot be shared by %d ranks, as each needs one; %s", heads, degree, nearestText(heads, degree))
}

func nearestText(heads, degree int) string {
	near := Nearest(heads, degree)
	words := make([]string, len(near))
	for i, d := range near {
		words[i] = fmt.Sprint(d)
	}
	return "nearest choices that do: " + strings.Join(words, " and ")
}

// Imbalance returns how much longer the slowest of size ranks works on n equal
// pieces than if they divided evenly, at least 1: ceil(n/size) / (n/size).
//
// For uneven head ranges it is the price of the attention, in time and in the
// memory of its q, k and v; all else of a block goes by tokens and is not touched.
// 12 heads over 8 ranks give four ranks 2 heads and four ranks 1: attention
// takes 2/1.5 = 1.33 times as long as over ranks that divide. 40 heads over 6 ranks
// (7, 7, 7, 7, 6, 6) cost 1.05.
func Imbalance(n, size int) float64 {
	if n < 1 || size < 1 {
		return 1
	}
	most := (n + size - 1) / size
	return float64(most) * float64(size) / float64(n)
}
