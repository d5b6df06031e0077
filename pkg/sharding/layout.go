package sharding

import (
	"fmt"
	"math"
)

// Align is what parameters and shards of a flat layout begin at a multiple of, in
// bytes: the alignment of every allocation, so that a parameter can be used where
// it lies, and a shard never begins inside of an element.
const Align = 256

// Param is a parameter of a unit as it is kept in memory: row-major elements.
type Param struct {
	Name         string
	Elements     int64
	ElementBytes int64
}

// Slot is where a parameter lies in its unit's flat bytes.
type Slot struct {
	Param
	Offset int64
}

// Bytes returns the bytes of the parameter's elements.
func (s Slot) Bytes() int64 { return s.Elements * s.ElementBytes }

// Layout is the flat form of a unit: its parameters one after the other, each at a
// multiple of Align, padded at the end so that Size ranks hold ShardBytes each: rank
// r the bytes from r*ShardBytes on. An all-gather of the shards is the unit.
//
// The rounding costs less than Align a parameter and Align*Size a unit.
type Layout struct {
	Slots      []Slot
	Size       int
	ShardBytes int64
}

// NewLayout lays out params in their order over size ranks.
func NewLayout(params []Param, size int) (Layout, error) {
	if size < 1 {
		return Layout{}, fmt.Errorf("flat layout over %d ranks; want at least 1", size)
	}
	l := Layout{Size: size}
	end := int64(0)
	for _, p := range params {
		const most = math.MaxInt64 / 4
		if p.Elements < 1 || p.ElementBytes < 1 || p.Elements > most/p.ElementBytes {
			return Layout{}, fmt.Errorf("parameter %q has %d elements of %d bytes", p.Name, p.Elements, p.ElementBytes)
		}
		s := Slot{Param: p, Offset: end}
		if s.Bytes() > most-end {
			return Layout{}, fmt.Errorf("parameter %q: the unit has too many bytes", p.Name)
		}
		l.Slots = append(l.Slots, s)
		end = roundUp(s.Offset+s.Bytes(), Align)
	}
	l.ShardBytes = roundUp((end+int64(size)-1)/int64(size), Align)
	return l, nil
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// Bytes returns the bytes of the whole unit with its padding.
func (l Layout) Bytes() int64 { return l.ShardBytes * int64(l.Size) }

// Piece is a run of elements of one parameter and where it goes.
type Piece struct {
	Slot         int   // of Layout.Slots
	First, Count int64 // elements
	At           int64 // the first byte's distance from the start of the range asked for
}

// Pieces returns what of the parameters lies in bytes [from, from+n) of the unit, in
// order. from and n are multiples of every element size; Align is one. What no piece
// covers is padding.
func (l Layout) Pieces(from, n int64) []Piece {
	var out []Piece
	for i, s := range l.Slots {
		lo, hi := max(s.Offset, from), min(s.Offset+s.Bytes(), from+n)
		if lo < hi {
			out = append(out, Piece{Slot: i, First: (lo - s.Offset) / s.ElementBytes, Count: (hi - lo) / s.ElementBytes, At: lo - from})
		}
	}
	return out
}

// Shard returns what rank holds: the only elements that it reads from the
// checkpoint. A piece's At is relative to the shard.
func (l Layout) Shard(rank int) []Piece { return l.Pieces(int64(rank)*l.ShardBytes, l.ShardBytes) }
