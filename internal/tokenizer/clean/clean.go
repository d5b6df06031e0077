// Package clean prepares a prompt the way the official text pipeline does
// before it is tokenised: ftfy's fix_text, Python's html.unescape twice, strip,
// and every run of Unicode whitespace to one space.
//
// Text is handled as []rune while it is repaired, because a byte that is not
// UTF-8 has to keep its own identity for a while: Python reads such a byte of a
// command line as a lone surrogate (surrogateescape), and ftfy turns it into
// U+FFFD only after its first look for mojibake.
//
// Sources: ftfy 6.3 (behaviour), CPython 3.11 html and re modules (behaviour).
package clean

import (
	"strings"
	"unicode/utf8"
)

// Prompt returns the cleaned prompt: valid UTF-8, no whitespace at either end,
// single spaces between words. It accepts any bytes and never fails.
func Prompt(s string) string {
	s = fixText(decode(s))
	s = unescapeHTML(unescapeHTML(s))
	return collapseSpace(s)
}

// surrogateEscape is added to a byte that is not part of valid UTF-8.
const surrogateEscape = 0xDC00

// decode reads UTF-8 and keeps each invalid byte b as the lone surrogate
// U+DC00+b, as Python does with command line arguments.
func decode(s string) []rune {
	rs := make([]rune, 0, len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			r = surrogateEscape + rune(s[i])
		}
		rs = append(rs, r)
		i += n
	}
	return rs
}

// isSpace is Python's notion of whitespace (str.isspace, and \s in re): Unicode
// White_Space plus the separators U+001C..U+001F.
func isSpace(r rune) bool {
	switch {
	case r < 0x80:
		return r == ' ' || r >= '\t' && r <= '\r' || r >= 0x1C && r <= 0x1F
	case r == 0x85, r == 0xA0, r == 0x1680, r == 0x2028, r == 0x2029, r == 0x202F, r == 0x205F, r == 0x3000:
		return true
	}
	return r >= 0x2000 && r <= 0x200A
}

// collapseSpace strips both ends and turns every inner run of whitespace into
// one space.
func collapseSpace(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	pending := false
	for _, r := range s {
		if isSpace(r) {
			pending = true
			continue
		}
		if pending && b.Len() > 0 {
			b.WriteByte(' ')
		}
		pending = false
		b.WriteRune(r)
	}
	return b.String()
}
