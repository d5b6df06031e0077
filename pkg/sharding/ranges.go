package sharding

// Range is entries [Start, Start+Count) of something.
type Range struct {
	Start, Count int
}

// End returns the entry behind the last one.
func (r Range) End() int { return r.Start + r.Count }

// Overlap returns the part of r before entry n: what of a range of rows is not
// padding when n are real.
func (r Range) Overlap(n int) Range {
	return Range{r.Start, min(max(n-r.Start, 0), r.Count)}
}

// Even returns rank's part of n entries when all of size ranks get equally many,
// ceil(n/size): what lies from n on is padding, of which the last ranks may have
// nothing else. It is how the official code pads a sequence.
func Even(n, rank, size int) Range {
	count := (n + size - 1) / size
	return Range{rank * count, count}
}

// Balanced returns rank's part of n entries when parts differ by at most one
// entry and nothing is added. A part is empty where n < size.
func Balanced(n, rank, size int) Range {
	start := rank * (n / size)
	extra := n % size // the first ranks have one entry more
	start += min(rank, extra)
	count := n / size
	if rank < extra {
		count++
	}
	return Range{start, count}
}

// Tokens returns rank's rows of a sequence of n tokens: Balanced, but no rank is
// without rows. Where there are more ranks than tokens each has one row, and the
// rows from n on are padding, to be masked.
func Tokens(n, rank, size int) Range { return Balanced(max(n, size), rank, size) }

// All returns the parts of every rank in order.
func All(part func(n, rank, size int) Range, n, size int) []Range {
	out := make([]Range, size)
	for rank := range out {
		out[rank] = part(n, rank, size)
	}
	return out
}
