package tokenizer

import "unicode/utf8"

// aligned is text on its way through normalisation. src[i] is the byte offset,
// in the text given to Encode, of the character that text[i] came from.
type aligned struct {
	text  []byte
	src   []int
	limit int // text is not let grow beyond; at most maxGrowth times the input
}

// maxGrowth bounds how much longer normalisation may make a text. U+FDFA grows
// elevenfold in NFKC, the most; only a file made to use up memory gets beyond,
// and then the text ends there.
const maxGrowth = 32

// newAligned copies s and replaces every byte that is not UTF-8 with U+FFFD.
func newAligned(s string) aligned {
	a := aligned{make([]byte, 0, len(s)), make([]int, 0, len(s)), maxGrowth*len(s) + 1024}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			a.append(string(utf8.RuneError), i)
		} else {
			a.append(s[i:i+n], i)
		}
		i += n
	}
	return a
}

// empty makes room for what a step of normalisation makes of a.
func (a aligned) empty(capacity int) aligned {
	return aligned{make([]byte, 0, capacity), make([]int, 0, capacity), a.limit}
}

// append adds s, all of which came from the character at src.
func (a *aligned) append(s string, src int) {
	if len(a.text)+len(s) > a.limit {
		return
	}
	a.text = append(a.text, s...)
	for range len(s) {
		a.src = append(a.src, src)
	}
}

// appendSlice adds a part of another text with its own offsets.
func (a *aligned) appendSlice(b aligned) {
	a.text = append(a.text, b.text...)
	a.src = append(a.src, b.src...)
}

func (a aligned) slice(lo, hi int) aligned { return aligned{a.text[lo:hi], a.src[lo:hi], a.limit} }

func (a aligned) len() int { return len(a.text) }

// runeLen is the length of the character at i; the text is valid UTF-8.
func (a aligned) runeLen(i int) int {
	_, n := utf8.DecodeRune(a.text[i:])
	return n
}
