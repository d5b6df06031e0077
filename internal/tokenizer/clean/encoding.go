package clean

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// fixEncoding repairs mojibake: UTF-8 that was read as a single-byte encoding,
// once or several times over, wholly or in places.
func fixEncoding(text []rune) []rune {
	for range maxPasses {
		next := fixEncodingOnce(text)
		if slices.Equal(next, text) {
			break
		}
		text = next
	}
	return text
}

func fixEncodingOnce(text []rune) []rune {
	if !isBad(text) {
		return text
	}
	isLatin1 := false
	for _, c := range codepages {
		if !c.holds(text) {
			continue
		}
		isLatin1 = isLatin1 || c == latin1
		raw := c.bytes(text)
		if c.utf8a0 && findSequence(spacedUTF8, raw) >= 0 {
			raw = restoreA0(raw)
		}
		if c.sloppy {
			raw = replaceSequences(raw, lossyUTF8, func([]byte) []byte { return []byte("\ufffd") })
		}
		if fixed, ok := decodeLoosely(raw); ok {
			return fixed
		}
	}
	if fixed := fixEmbedded(text); !slices.Equal(fixed, text) {
		return fixed
	}
	if isLatin1 {
		if fixed, ok := decodeStrict1252(text); ok && !slices.Equal(fixed, text) {
			return fixed
		}
	}
	fixed := slices.Clone(text)
	for i, r := range fixed {
		if r >= 0x80 && r <= 0x9F {
			fixed[i] = windows1252.decode[r]
		}
	}
	return fixed
}

// fixEmbedded repairs those stretches that look like UTF-8 and look bad on their
// own, in text that no single code page holds.
func fixEmbedded(text []rune) []rune {
	var out []rune
	rest := 0
	for i := 0; i < len(text); {
		n := utf8Lookalike(text, i)
		if n == 0 {
			i++
			continue
		}
		// A stretch as long as the text would recurse for ever.
		if part := text[i : i+n]; n < len(text) && isBad(part) {
			out = append(append(out, text[rest:i]...), fixEncoding(part)...)
			rest = i + n
		}
		i += n
	}
	if rest == 0 {
		return text
	}
	return append(out, text[rest:]...)
}

// decodeStrict1252 reads text of Latin-1 as Windows-1252; false if a byte has no
// meaning there.
func decodeStrict1252(text []rune) ([]rune, bool) {
	out := make([]rune, len(text))
	for i, r := range text {
		switch r {
		case 0x81, 0x8D, 0x8F, 0x90, 0x9D:
			return nil, false
		case 0x1A: // the sloppy table has U+FFFD here
			out[i] = r
		default:
			out[i] = windows1252.decode[r]
		}
	}
	return out, true
}

// decodeLoosely decodes UTF-8. If the text has a byte ED or C0, surrogate pairs
// that were encoded one by one (CESU-8) and Java's C0 80 for NUL are read too.
func decodeLoosely(raw []byte) ([]rune, bool) {
	if bytes.IndexByte(raw, 0xED) < 0 && bytes.IndexByte(raw, 0xC0) < 0 {
		if !utf8.Valid(raw) {
			return nil, false
		}
		return []rune(string(raw)), true
	}
	out := make([]rune, 0, len(raw))
	for len(raw) > 0 {
		if raw[0] == 0xC0 && (len(raw) > 1 && raw[1] == 0x80 || len(raw) == 2 && raw[1] == '\n') {
			// The line feed: "$" in ftfy's pattern matches before a last one, so
			// that C0 at the end of a line takes the line feed with it.
			out = append(out, 0)
			raw = raw[2:]
			continue
		}
		if r, ok := surrogatePair(raw); ok {
			out = append(out, r)
			raw = raw[6:]
			continue
		}
		r, n := utf8.DecodeRune(raw)
		if r == utf8.RuneError && n <= 1 {
			return nil, false
		}
		out = append(out, r)
		raw = raw[n:]
	}
	return out, true
}

// surrogatePair reads ED A0..AF xx ED B0..BF xx. As above, the last byte may be
// a line feed at the end of the text.
func surrogatePair(raw []byte) (rune, bool) {
	in := func(b, lo, hi byte) bool { return b >= lo && b <= hi }
	if len(raw) < 6 || raw[0] != 0xED || !in(raw[1], 0xA0, 0xAF) || !in(raw[2], 0x80, 0xBF) ||
		raw[3] != 0xED || !in(raw[4], 0xB0, 0xBF) {
		return 0, false
	}
	if !in(raw[5], 0x80, 0xBF) && (len(raw) != 6 || raw[5] != '\n') {
		return 0, false
	}
	return rune(raw[1]&0x0F)<<16 + rune(raw[2]&0x3F)<<10 + rune(raw[4]&0x0F)<<6 + rune(raw[5]&0x3F) + 0x10000, true
}
