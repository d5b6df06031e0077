package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// noID marks a node at which no piece ends, and a piece that is not there.
const noID int32 = -1

// trie finds all pieces that begin at a place. Nodes are numbered level by
// level, so the children of a node lie side by side, sorted: three flat arrays,
// built in one pass over the sorted pieces.
type trie struct {
	root  [256]uint32 // child of the root by byte, 0 if none: the widest node, used most
	first []uint32    // children of node n are first[n] .. first[n+1]-1
	label []byte      // the byte that leads to a node
	id    []int32     // piece that ends at a node, or noID
}

// trieEntry is a piece to be sorted in. head is its first eight bytes, so that
// most comparisons need not look at the string.
type trieEntry struct {
	head  uint64
	piece string
	order int
}

func (e *trieEntry) at(depth int) byte {
	if depth < 8 {
		return byte(e.head >> (56 - 8*depth))
	}
	return e.piece[depth]
}

// newTrie maps pieces[i] to ids[i]. Empty pieces are left out; of equal pieces
// the last one counts.
func newTrie(pieces []string, ids []int32) *trie {
	entries := make([]trieEntry, 0, len(pieces))
	size := 0
	for i, p := range pieces {
		if p != "" {
			var head [8]byte
			copy(head[:], p)
			entries = append(entries, trieEntry{binary.BigEndian.Uint64(head[:]), p, i})
			size += len(p)
		}
	}
	slices.SortFunc(entries, func(a, b trieEntry) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		return cmp.Or(strings.Compare(a.piece, b.piece), cmp.Compare(a.order, b.order))
	})

	// span is a node still to be made: the entries that share its prefix.
	type span struct{ lo, hi, depth int }
	guess := min(size, 5*len(entries)) + 1
	t := &trie{
		first: make([]uint32, 0, guess+1),
		label: make([]byte, 1, guess),
		id:    make([]int32, 0, guess),
	}
	level := []span{{0, len(entries), 0}}
	var next []span
	for len(level) > 0 {
		next = next[:0]
		for _, s := range level {
			t.first = append(t.first, uint32(len(t.label)))
			id := noID
			for s.lo < s.hi && len(entries[s.lo].piece) == s.depth {
				id = ids[entries[s.lo].order]
				s.lo++
			}
			t.id = append(t.id, id)
			for lo := s.lo; lo < s.hi; {
				c := entries[lo].at(s.depth)
				hi := lo + 1
				for hi < s.hi && entries[hi].at(s.depth) == c {
					hi++
				}
				t.label = append(t.label, c)
				next = append(next, span{lo, hi, s.depth + 1})
				lo = hi
			}
		}
		level, next = next, level
	}
	t.first = append(t.first, uint32(len(t.label)))
	for n := t.first[0]; n < t.first[1]; n++ {
		t.root[t.label[n]] = n
	}
	return t
}

// child returns the node that byte c leads to, 0 (the root) if there is none.
func (t *trie) child(node uint32, c byte) uint32 {
	if node == 0 {
		return t.root[c]
	}
	lo, hi := t.first[node], t.first[node+1]
	if k := bytes.IndexByte(t.label[lo:hi], c); k >= 0 {
		return lo + uint32(k)
	}
	return 0
}

// lookup returns the id of a piece, noID if it is none.
func (t *trie) lookup(piece []byte) int32 {
	if len(piece) == 0 {
		return noID
	}
	node := uint32(0)
	for _, c := range piece {
		if node = t.child(node, c); node == 0 {
			return noID
		}
	}
	return t.id[node]
}

// longest returns the longest piece at the start of text; length 0 if none.
func (t *trie) longest(text []byte) (id int32, length int) {
	id = noID
	node := uint32(0)
	for i, c := range text {
		if node = t.child(node, c); node == 0 {
			break
		}
		if t.id[node] != noID {
			id, length = t.id[node], i+1
		}
	}
	return id, length
}

// count is the number of different pieces.
func (t *trie) count() int {
	n := 0
	for _, id := range t.id {
		if id != noID {
			n++
		}
	}
	return n
}
