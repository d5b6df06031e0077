package sharding

import "fmt"

// Axis is an axis of a mesh: a way of dividing the work.
type Axis uint8

// The axes.
const (
	CFG      Axis = iota // the branches of classifier-free guidance: one forward a coordinate
	Ring                 // chunks of the sequence, whose keys and values go round
	Ulysses              // tokens traded for heads
	Sequence             // Ring and Ulysses together: the ranks of one sequence, in token order
	FSDP                 // ranks that share one copy of the weights
)

var axisNames = [...]string{"cfg", "ring", "ulysses", "sequence", "fsdp"}

// String returns the axis's name in flags and reports.
func (a Axis) String() string { return axisNames[a] }

// Mesh arranges ranks: rank = (cfg*Ring + ring)*Ulysses + ulysses. Ulysses is
// innermost, as its exchanges are the most frequent and belong on the fastest
// links; CFG is outermost, as its two halves exchange a prediction a step.
type Mesh struct {
	CFG     int // 1, or 2 for a group each for the two branches of guidance
	Ring    int
	Ulysses int
	// FSDP is how many consecutive ranks share one copy of the weights: Size for
	// all, 1 for a whole copy each. It divides Size.
	FSDP int
}

// Coord is a rank's place on the axes.
type Coord struct {
	CFG, Ring, Ulysses int
}

// Size returns the number of ranks.
func (m Mesh) Size() int { return m.CFG * m.Ring * m.Ulysses }

// SequenceSize returns the number of ranks that share one sequence.
func (m Mesh) SequenceSize() int { return m.Ring * m.Ulysses }

// Check returns what is wrong with the mesh for world ranks and a model with so many
// heads.
func (m Mesh) Check(world, heads int) error {
	for _, f := range []struct {
		axis   Axis
		degree int
	}{{CFG, m.CFG}, {Ring, m.Ring}, {Ulysses, m.Ulysses}, {FSDP, m.FSDP}} {
		if f.degree < 1 || f.degree > world {
			return fmt.Errorf("%v degree %d; want 1 to the %d ranks there are", f.axis, f.degree, world)
		}
	}
	switch {
	case m.CFG > 2:
		return fmt.Errorf("cfg degree %d; guidance has 2 branches", m.CFG)
	case int64(m.CFG)*int64(m.Ring)*int64(m.Ulysses) != int64(world):
		return fmt.Errorf("cfg %d x ring %d x ulysses %d are %d ranks, but there are %d",
			m.CFG, m.Ring, m.Ulysses, int64(m.CFG)*int64(m.Ring)*int64(m.Ulysses), world)
	case world%m.FSDP != 0:
		return fmt.Errorf("fsdp degree %d does not divide the %d ranks; choices: %v", m.FSDP, world, Divisors(world))
	}
	return CheckUneven(heads, m.Ulysses)
}

// Coord returns the place of a rank, 0 <= rank < Size.
func (m Mesh) Coord(rank int) Coord {
	return Coord{CFG: rank / (m.Ring * m.Ulysses), Ring: rank / m.Ulysses % m.Ring, Ulysses: rank % m.Ulysses}
}

// Rank undoes Coord.
func (m Mesh) Rank(c Coord) int { return (c.CFG*m.Ring+c.Ring)*m.Ulysses + c.Ulysses }

// Color returns the number of rank's group along an axis: the ranks of equal
// color are one group, ordered by rank. It is what a split of the whole group takes.
func (m Mesh) Color(a Axis, rank int) int {
	c := m.Coord(rank)
	switch a {
	case CFG:
		return c.Ring*m.Ulysses + c.Ulysses
	case Ring:
		return c.CFG*m.Ulysses + c.Ulysses
	case Ulysses:
		return c.CFG*m.Ring + c.Ring
	case Sequence:
		return c.CFG
	}
	return rank / m.FSDP
}

// Group returns the ranks of rank's group along an axis, ascending.
func (m Mesh) Group(a Axis, rank int) []int {
	color := m.Color(a, rank)
	var out []int
	for other := range m.Size() {
		if m.Color(a, other) == color {
			out = append(out, other)
		}
	}
	return out
}

// String prints the axes that have more than one rank.
func (m Mesh) String() string {
	s := ""
	for _, f := range []struct {
		axis   Axis
		degree int
	}{{CFG, m.CFG}, {Ring, m.Ring}, {Ulysses, m.Ulysses}, {FSDP, m.FSDP}} {
		if f.degree > 1 {
			if s != "" {
				s += ", "
			}
			s += fmt.Sprintf("%v %d", f.axis, f.degree)
		}
	}
	if s == "" {
		return "one rank"
	}
	return s
}
