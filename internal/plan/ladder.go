package plan

import (
	"cmp"
	"slices"
)

// Ladder returns steps from a small video up to that of c, for runs that try how much holds:
// c itself last.
func (s Search) Ladder(c Choice) []Choice {
	var out []Choice
	add := func(quarters, frames int) {
		o := c
		if !s.Fixed["size"] && !s.Fixed["max-area"] {
			o.Width, o.Height = side(c.Width, quarters), side(c.Height, quarters)
		}
		if !s.Fixed["frames"] {
			o.Frames = frames
		}
		out = append(out, o)
	}
	half := (c.Frames-1)/8*4 + 1 // 4n+1
	add(2, min(5, c.Frames))
	add(2, c.Frames)
	add(3, c.Frames)
	add(4, half)
	add(4, c.Frames)
	slices.SortStableFunc(out, func(a, b Choice) int { return cmp.Compare(a.video(), b.video()) })
	return slices.Compact(out)
}

// side is so many quarters of a side, a multiple of 16.
func side(n, quarters int) int { return max(n*quarters/4/16*16, 16) }
