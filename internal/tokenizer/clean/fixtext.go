package clean

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// maxSegment is the longest stretch, in code points, that is repaired as
	// one (ftfy's max_decode_length); lines are segments of their own.
	maxSegment = 1_000_000

	// maxPasses bounds how often one segment is repaired until nothing changes.
	// Real text needs two or three passes. ftfy has no bound and needs one pass
	// for each "amp;" of "&amp;amp;amp;...", which is quadratic; here what is
	// nested deeper than this stays as it is.
	maxPasses = 64
)

// fixText is ftfy.fix_text with its default configuration.
func fixText(text []rune) string {
	var b strings.Builder
	b.Grow(len(text))
	entities := true
	for len(text) > 0 {
		end := slices.Index(text, '\n') + 1
		if end == 0 {
			end = len(text)
		}
		end = min(end, maxSegment)
		segment := text[:end]
		text = text[end:]
		// A "<" says that the text is HTML on purpose. ftfy then leaves entities
		// alone in this segment and in all that follow it.
		if slices.Contains(segment, '<') {
			entities = false
		}
		for _, r := range fixSegment(segment, entities) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// fixSegment applies all fixers in ftfy's order until nothing changes.
func fixSegment(text []rune, entities bool) []rune {
	for range maxPasses {
		before := text
		if entities {
			text = unescapeEntities(text)
		}
		text = fixEncoding(text)
		text = expandRunes(text)
		text = fixLineBreaks(text)
		text = fixSurrogates(text)
		text = removeTerminalEscapes(text)
		text = slices.DeleteFunc(slices.Clone(text), isStrayControl)
		text = composeNFC(text)
		if slices.Equal(text, before) {
			break
		}
	}
	return text
}

// ligatures are Latin typographical ligatures and legacy digraphs, taken apart.
var ligatures = map[rune]string{
	'\u0132': "IJ", '\u0133': "ij", '\u0149': "\u02bcn",
	'\u01f1': "DZ", '\u01f2': "Dz", '\u01f3': "dz",
	'\u01c4': "D\u017d", '\u01c5': "D\u017e", '\u01c6': "d\u017e",
	'\u01c7': "LJ", '\u01c8': "Lj", '\u01c9': "lj",
	'\u01ca': "NJ", '\u01cb': "Nj", '\u01cc': "nj",
	'\ufb00': "ff", '\ufb01': "fi", '\ufb02': "fl", '\ufb03': "ffi", '\ufb04': "ffl",
	'\ufb05': "\u017ft", '\ufb06': "st",
}

// expandRunes applies the four fixers that look at one character at a time: C1
// controls are read as Windows-1252, ligatures are taken apart, full and half
// width forms become standard width, curly quotes become straight.
func expandRunes(text []rune) []rune {
	first := slices.IndexFunc(text, func(r rune) bool { return r >= 0x80 })
	if first < 0 {
		return text
	}
	out := append(make([]rune, 0, len(text)), text[:first]...)
	for _, r := range text[first:] {
		if r >= 0x80 && r <= 0x9F {
			r = windows1252.decode[r]
		}
		if s, ok := ligatures[r]; ok {
			for _, l := range s {
				out = append(out, straightQuote(l))
			}
			continue
		}
		switch {
		case r == 0x3000:
			r = ' '
		case r >= 0xFF01 && r <= 0xFFEF:
			for _, w := range norm.NFKC.String(string(r)) {
				out = append(out, straightQuote(w))
			}
			continue
		}
		out = append(out, straightQuote(r))
	}
	return out
}

func straightQuote(r rune) rune {
	switch {
	case r == 0x02BC, r >= 0x2018 && r <= 0x201B:
		return '\''
	case r >= 0x201C && r <= 0x201F:
		return '"'
	}
	return r
}

// fixLineBreaks turns CRLF, CR, U+2028, U+2029 and U+0085 into LF.
func fixLineBreaks(text []rune) []rune {
	isBreak := func(r rune) bool { return r == '\r' || r == 0x2028 || r == 0x2029 || r == 0x85 }
	if !slices.ContainsFunc(text, isBreak) {
		return text
	}
	out := make([]rune, 0, len(text))
	for i, r := range text {
		switch {
		case r == '\r' && i+1 < len(text) && text[i+1] == '\n':
		case isBreak(r):
			out = append(out, '\n')
		default:
			out = append(out, r)
		}
	}
	return out
}

// fixSurrogates turns lone surrogates into U+FFFD. Pairs do not occur: decode
// makes low surrogates only.
func fixSurrogates(text []rune) []rune {
	isSurrogate := func(r rune) bool { return r >= 0xD800 && r <= 0xDFFF }
	if !slices.ContainsFunc(text, isSurrogate) {
		return text
	}
	out := slices.Clone(text)
	for i, r := range out {
		if isSurrogate(r) {
			out[i] = utf8.RuneError
		}
	}
	return out
}

// removeTerminalEscapes drops ESC [ parameters letter. Parameters are digits of
// any script and semicolons, as Python's \d has it.
func removeTerminalEscapes(text []rune) []rune {
	if !slices.Contains(text, 0x1B) {
		return text
	}
	out := make([]rune, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == 0x1B && i+1 < len(text) && text[i+1] == '[' {
			end := i + 2
			for end < len(text) && (text[end] == ';' || unicode.Is(unicode.Nd, text[end])) {
				end++
			}
			if end < len(text) && isASCIILetter(text[end]) {
				i = end
				continue
			}
		}
		out = append(out, text[i])
	}
	return out
}

func isASCIILetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

// isStrayControl reports the control characters that ftfy removes. Tab, line
// feed, form feed, carriage return, C1 controls, joiners and direction marks stay.
func isStrayControl(r rune) bool {
	switch {
	case r < 0x20:
		return r != '\t' && r != '\n' && r != '\f' && r != '\r'
	case r == 0x7F, r == 0xFEFF:
		return true
	}
	return r >= 0x206A && r <= 0x206F || r >= 0xFFF9 && r <= 0xFFFC
}
