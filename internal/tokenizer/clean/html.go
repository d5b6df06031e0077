package clean

import (
	"html"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxEntityName is the longest named reference Python looks at, in
	// characters, without the semicolon.
	maxEntityName = 32
	// maxLegacyName is the longest name that may stand without a semicolon.
	maxLegacyName = 6
	// maxFtfyName is the longest name or number that ftfy looks at.
	maxFtfyName = 24
)

// unescapeHTML is Python's html.unescape. It differs from Go's in numeric
// references that are not valid (control characters and noncharacters vanish)
// and in names that end at any character except white space, "<", "&", "#", ";".
func unescapeHTML(s string) string {
	amp := strings.IndexByte(s, '&')
	if amp < 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for {
		b.WriteString(s[:amp])
		s = s[amp:]
		value, n := charRef(s)
		if n == 0 {
			value, n = s[:1], 1
		}
		b.WriteString(value)
		s = s[n:]
		if amp = strings.IndexByte(s, '&'); amp < 0 {
			b.WriteString(s)
			return b.String()
		}
	}
}

// charRef reads the character reference at the start of s (which begins with
// "&") and returns its replacement and its length in bytes, 0 if there is none.
func charRef(s string) (value string, n int) {
	if value, n = numericRef(s); n > 0 {
		return value, n
	}
	end, chars := 1, 0
	for end < len(s) && chars < maxEntityName && !strings.ContainsRune("\t\n\f <&#;", rune(s[end])) {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
		chars++
	}
	if chars == 0 {
		return "", 0
	}
	if end < len(s) && s[end] == ';' {
		end++
	}
	name := s[1:end]
	if value, ok := entity(name); ok {
		return value, end
	}
	for k := min(len(name)-1, maxLegacyName); k > 1; k-- {
		if value, ok := entity(name[:k]); ok {
			return value + name[k:], end
		}
	}
	return s[:end], end
}

// numericRef reads "&#123;", "&#x1F;" and the same without the semicolon.
func numericRef(s string) (value string, n int) {
	if len(s) < 3 || s[1] != '#' {
		return "", 0
	}
	i, base := 2, int64(10)
	if s[2] == 'x' || s[2] == 'X' {
		i, base = 3, 16
	}
	start, num := i, int64(0)
	for ; i < len(s); i++ {
		d := digit(s[i])
		if d >= base {
			break
		}
		num = min(num*base+d, utf8.MaxRune+1) // saturates: anything larger is invalid alike
	}
	if i == start {
		return "", 0
	}
	if i < len(s) && s[i] == ';' {
		i++
	}
	return numericChar(rune(num)), i
}

func digit(c byte) int64 {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0')
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10
	}
	return 99
}

// numericChar follows the HTML5 parsing rules as Python has them.
func numericChar(r rune) string {
	switch {
	case r == 0, r > utf8.MaxRune, r >= 0xD800 && r <= 0xDFFF:
		return "\ufffd"
	case r >= 0x80 && r <= 0x9F:
		return string(windows1252.decode[r])
	case r == '\t', r == '\n', r == '\f', r == '\r':
		return string(r)
	case r < 0x20, r == 0x7F, r >= 0xFDD0 && r <= 0xFDEF, r&0xFFFE == 0xFFFE:
		return ""
	}
	return string(r)
}

// entity looks up a named reference, "amp;" or "amp", exactly as written. The
// table is the standard library's, which is reached through its parser only:
// what that parser leaves over tells a shorter match from an exact one.
func entity(name string) (string, bool) {
	body, semicolon := strings.CutSuffix(name, ";")
	if len(body) == 0 || len(body) >= maxEntityName {
		return "", false
	}
	for i := range len(body) {
		if c := rune(body[i]); !isASCIILetter(c) && (c < '0' || c > '9') {
			return "", false
		}
	}
	switch name { // missing in the standard library's table
	case "nGt;":
		return "\u226b\u20d2", true
	case "nLt;":
		return "\u226a\u20d2", true
	}
	value := html.UnescapeString("&" + name)
	if value == "&"+name {
		return "", false
	}
	if semicolon {
		return value, name == "semi;" || !strings.HasSuffix(value, ";")
	}
	return value, utf8.RuneCountInString(value) == 1
}

// unescapeEntities is ftfy's cautious unescape: only references that end in a
// semicolon, and upper-cased names of lower-case entities ("&EACUTE;").
func unescapeEntities(text []rune) []rune {
	if !slices.Contains(text, '&') {
		return text
	}
	out := make([]rune, 0, len(text))
	for i := 0; i < len(text); {
		n := ftfyRefLen(text[i:])
		if n == 0 {
			out = append(out, text[i])
			i++
			continue
		}
		out = append(out, []rune(ftfyRef(string(text[i:i+n])))...)
		i += n
	}
	return out
}

// ftfyRefLen is the length of a match of &#?[0-9A-Za-z]{1,24}; at the start.
func ftfyRefLen(text []rune) int {
	if text[0] != '&' {
		return 0
	}
	i := 1
	if i < len(text) && text[i] == '#' {
		i++
	}
	start := i
	for i < len(text) && i-start < maxFtfyName && (isASCIILetter(text[i]) || text[i] >= '0' && text[i] <= '9') {
		i++
	}
	if i == start || i == len(text) || text[i] != ';' {
		return 0
	}
	return i + 1
}

func ftfyRef(ref string) string {
	if strings.HasPrefix(ref, "&#") {
		value := unescapeHTML(ref)
		if strings.Contains(value, ";") {
			return ref // only a part of it was a reference
		}
		return value
	}
	name := ref[1:]
	if value, ok := entity(name); ok {
		return value
	}
	if lower := strings.ToLower(name); name == strings.ToUpper(name) && unescapeHTML(ref) == ref {
		if value, ok := entity(lower); ok {
			return upper(value)
		}
	}
	return ref
}

// upper is Python's str.upper for the values of named entities: the simple
// mapping, and the full one for the few characters that grow.
func upper(s string) string {
	switch s {
	case "\u00df":
		return "SS"
	case "\u0149":
		return "\u02bcN"
	case "\ufb00":
		return "FF"
	case "\ufb01":
		return "FI"
	case "\ufb02":
		return "FL"
	case "\ufb03":
		return "FFI"
	case "\ufb04":
		return "FFL"
	}
	return strings.ToUpper(s)
}
