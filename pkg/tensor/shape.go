package tensor

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Shape is the length of each dim, outermost first.
type Shape []int

// NumElements returns the product of the dims, and false if a dim is negative
// or the product overflows.
func (s Shape) NumElements() (int64, bool) {
	n := int64(1)
	for _, d := range s {
		if d < 0 || (d > 0 && n > math.MaxInt64/int64(d)) {
			return 0, false
		}
		n *= int64(d)
	}
	return n, true
}

// Equal reports whether the shapes have the same dims.
func (s Shape) Equal(o Shape) bool { return slices.Equal(s, o) }

// String prints the shape as PyTorch does: [2, 3].
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = fmt.Sprint(d)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
