package output

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Show says which ranks' lines go to the console as they come. The zero value shows
// nothing.
type Show struct {
	all    bool
	usual  bool  // rank 0, and what all write to stderr
	ranks  []int // sorted
	failed bool
}

// maxRank bounds the numbers that ParseShow takes when the world's size is unknown.
const maxRank = 1 << 20

// ParseShow reads the value of --show for a world of that size, 0 if it is unknown:
//
//	(empty)   rank 0, and what all ranks write to stderr
//	all       everything
//	none      nothing
//	failed    nothing as it comes; at the end the last lines of the rank that failed first
//	0,4-7     both streams of these ranks
func ParseShow(s string, size int) (Show, error) {
	switch s {
	case "":
		return Show{usual: true}, nil
	case "all":
		return Show{all: true}, nil
	case "none":
		return Show{}, nil
	case "failed":
		return Show{failed: true}, nil
	}
	if size <= 0 {
		size = maxRank
	}
	var show Show
	for item := range strings.SplitSeq(s, ",") {
		first, last, err := parseRanks(item)
		if err != nil {
			return Show{}, fmt.Errorf("--show %q: %w", s, err)
		}
		if last >= size {
			return Show{}, fmt.Errorf("--show %q: there is no rank %d; the last one is %d", s, last, size-1)
		}
		if len(show.ranks)+last-first >= maxRank {
			return Show{}, fmt.Errorf("--show %q names more than %d ranks", s, maxRank)
		}
		for rank := first; rank <= last; rank++ {
			show.ranks = append(show.ranks, rank)
		}
	}
	slices.Sort(show.ranks)
	show.ranks = slices.Compact(show.ranks)
	return show, nil
}

// parseRanks reads "4" or "4-7".
func parseRanks(item string) (first, last int, err error) {
	from, to, isRange := strings.Cut(strings.TrimSpace(item), "-")
	if !isRange {
		to = from
	}
	first, err1 := parseRank(from)
	last, err2 := parseRank(to)
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%q is neither a rank nor a range of ranks; want all, none, failed, or for example 0,4-7", item)
	}
	if first > last {
		return 0, 0, fmt.Errorf("range %q goes backwards; write %d-%d", item, last, first)
	}
	return first, last, nil
}

func parseRank(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err
}

// Shows says whether a rank's stream is shown as it comes.
func (s Show) Shows(rank int, stream string) bool {
	if s.all || s.usual && (rank == 0 || stream == Stderr) {
		return true
	}
	_, found := slices.BinarySearch(s.ranks, rank)
	return found
}

// Failed says that the last lines of the rank that failed are all that is wanted.
func (s Show) Failed() bool { return s.failed }
