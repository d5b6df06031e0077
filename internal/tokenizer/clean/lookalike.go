package clean

import "sync"

// clue says which bytes of UTF-8 a character may stand for, in Latin-1 or one of
// the Windows encodings like it.
type clue uint8

const (
	leads2 clue = 1 << iota // C2..DF
	leads3                  // E0..EF
	leads4                  // F0, F3: the planes in use
	continues
	continuesOnly // and does not stand for itself beside mojibake
)

// clues is made from the code pages. Characters that are common beside mojibake
// (dashes, quotation marks, the bullet, the ellipsis) continue, but not only.
var clues = sync.OnceValue(func() map[rune]clue {
	m := make(map[rune]clue)
	for _, c := range []*codepage{latin1, windows1250, windows1251, windows1252, windows1253, windows1254, windows1257} {
		for b := 0x80; b <= 0xFF; b++ {
			switch {
			case b <= 0xBF:
				m[c.decode[b]] |= continues | continuesOnly
			case b >= 0xC2 && b <= 0xDF:
				m[c.decode[b]] |= leads2
			case b >= 0xE0 && b <= 0xEF:
				m[c.decode[b]] |= leads3
			case b == 0xF0 || b == 0xF3:
				m[c.decode[b]] |= leads4
			}
		}
	}
	for _, r := range "\u2013\u2014\u2015\u2018\u2019\u201a\u201c\u201d\u201e\u2022\u2026" {
		m[r] &^= continuesOnly
	}
	m[' '] = continues // may have been byte A0
	return m
})

// utf8Lookalike returns how many characters from text[i] on look like UTF-8
// characters in a row, 0 if none or if a continuation stands before them: a part
// of a larger garble is left alone.
func utf8Lookalike(text []rune, i int) int {
	m := clues()
	if i > 0 && m[text[i-1]]&continuesOnly != 0 {
		return 0
	}
	n := 0
	for {
		k := lookalikeChar(m, text[i+n:])
		if k == 0 {
			return n
		}
		n += k
	}
}

func lookalikeChar(m map[rune]clue, text []rune) int {
	if len(text) == 0 {
		return 0
	}
	first := m[text[0]]
	for size, lead := range [...]clue{2: leads2, 3: leads3, 4: leads4} {
		if size < 2 || first&lead == 0 || len(text) < size {
			continue
		}
		k := 1
		for k < size && m[text[k]]&continues != 0 {
			k++
		}
		if k == size {
			return size
		}
	}
	return 0
}
