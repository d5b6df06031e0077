package clean

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxMarks is the number of combining marks in a row up to which x/text is
// trusted. From 30 on (a mark decomposes to three at most) it inserts U+034F, as
// Stream-Safe Text Format asks; Python's unicodedata does not.
const maxMarks = 8

// composeNFC returns text in normalisation form C. text holds no surrogates.
func composeNFC(text []rune) []rune {
	if !slices.ContainsFunc(text, func(r rune) bool { return r >= 0x300 }) {
		return text // everything below the combining marks is NFC already
	}
	if longestMarkRun(text) > maxMarks {
		return composeSlow(text)
	}
	s := string(text)
	if norm.NFC.IsNormalString(s) {
		return text
	}
	return []rune(norm.NFC.String(s))
}

func longestMarkRun(text []rune) int {
	longest, run := 0, 0
	for _, r := range text {
		if r < 0x300 || combiningClass(r) == 0 {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

func decompose(r rune) []rune {
	return []rune(norm.NFD.String(string(r)))
}

func combiningClass(r rune) uint8 {
	var buf [utf8.UTFMax]byte
	return norm.NFC.Properties(buf[:utf8.EncodeRune(buf[:], r)]).CCC()
}

// composeSlow is the canonical composition algorithm of Unicode, section 3.11,
// without a bound on the number of combining marks.
func composeSlow(text []rune) []rune {
	type mark struct {
		r   rune
		ccc uint8
	}
	var chars []mark
	for _, r := range text {
		for _, d := range decompose(r) {
			chars = append(chars, mark{d, combiningClass(d)})
		}
	}
	for i := 0; i < len(chars); {
		if chars[i].ccc == 0 {
			i++
			continue
		}
		end := i
		for end < len(chars) && chars[end].ccc != 0 {
			end++
		}
		slices.SortStableFunc(chars[i:end], func(a, b mark) int { return int(a.ccc) - int(b.ccc) })
		i = end
	}

	out := make([]rune, 0, len(chars))
	starter := -1    // place in out of the last starter
	var last uint8   // class of the last character kept after it
	adjacent := true // nothing was kept after the starter
	for _, c := range chars {
		if starter >= 0 && (adjacent || last < c.ccc) {
			if both, ok := composePair(out[starter], c.r); ok {
				out[starter] = both
				continue
			}
		}
		if c.ccc == 0 {
			starter, adjacent = len(out), true
		} else {
			adjacent = false
		}
		last = c.ccc
		out = append(out, c.r)
	}
	return out
}

// composePair returns the primary composite of two characters.
func composePair(a, b rune) (rune, bool) {
	s := norm.NFC.String(string([]rune{a, b}))
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s) && r != utf8.RuneError
}
