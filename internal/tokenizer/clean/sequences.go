package clean

import "bytes"

// byteClass is a set of bytes.
type byteClass [256]bool

// class makes a byteClass of pairs of first and last byte.
func class(bounds ...byte) *byteClass {
	var c byteClass
	for i := 0; i+1 < len(bounds); i += 2 {
		for b := int(bounds[i]); b <= int(bounds[i+1]); b++ {
			c[b] = true
		}
	}
	return &c
}

// sequence matches as many bytes as it has classes.
type sequence []*byteClass

var (
	space      = class(' ', ' ')
	cont       = class(0x80, 0xBF)
	contNoA0   = class(0x80, 0x84, 0x86, 0x9F, 0xA1, 0xBF) // nor 85, an ellipsis
	lost       = class(0x1A, 0x1A)                         // was U+FFFD
	lostOrMark = class(0x1A, 0x1A, '?', '?')
	lostOrCont = class(0x1A, 0x1A, 0x80, 0xBF)
	anyCont    = class(0x1A, 0x1A, '?', '?', 0x80, 0xBF)

	// spacedUTF8 are UTF-8 characters whose byte A0 became a space, limited to
	// those that are likelier than what stands there.
	spacedUTF8 = []sequence{
		{class(0xC2, 0xC3, 0xC5, 0xC5, 0xCE, 0xCE, 0xD0, 0xD0, 0xD9, 0xD9), space},
		{class(0xE2, 0xE3), space, contNoA0},
		{class(0xE0, 0xE3), contNoA0, space},
		{class(0xF0, 0xF0), space, cont, cont},
		{class(0xF0, 0xF0), cont, space, cont},
		{class(0xF0, 0xF0), cont, cont, space},
	}

	// lossyUTF8 are UTF-8 and CESU-8 characters of which bytes were lost: 1A, or
	// at most one question mark.
	lossyUTF8 = []sequence{
		{class(0xC2, 0xDF), lost},
		{class(0xC2, 0xC3), class('?', '?')},
		{class(0xED, 0xED), class(0xA0, 0xAF), lostOrMark, class(0xED, 0xED), class(0xB0, 0xBF), anyCont},
		{class(0xED, 0xED), class(0xA0, 0xAF), anyCont, class(0xED, 0xED), class(0xB0, 0xBF), lostOrMark},
		{class(0xE0, 0xEF), lostOrMark, lostOrCont},
		{class(0xE0, 0xEF), lostOrCont, lostOrMark},
		{class(0xF0, 0xF4), lostOrMark, lostOrCont, lostOrCont},
		{class(0xF0, 0xF4), lostOrCont, lostOrMark, lostOrCont},
		{class(0xF0, 0xF4), lostOrCont, lostOrCont, lostOrMark},
		{lost},
	}
)

// matchSequence returns the length of the first sequence that matches at the
// start of raw, 0 if none does.
func matchSequence(sequences []sequence, raw []byte) int {
next:
	for _, s := range sequences {
		if len(raw) < len(s) {
			continue
		}
		for i, c := range s {
			if !c[raw[i]] {
				continue next
			}
		}
		return len(s)
	}
	return 0
}

func findSequence(sequences []sequence, raw []byte) int {
	for i := range raw {
		if matchSequence(sequences, raw[i:]) > 0 {
			return i
		}
	}
	return -1
}

func replaceSequences(raw []byte, sequences []sequence, with func([]byte) []byte) []byte {
	first := findSequence(sequences, raw)
	if first < 0 {
		return raw
	}
	out := append(make([]byte, 0, len(raw)), raw[:first]...)
	for i := first; i < len(raw); {
		n := matchSequence(sequences, raw[i:])
		if n == 0 {
			out = append(out, raw[i])
			i++
			continue
		}
		out = append(out, with(raw[i:i+n])...)
		i += n
	}
	return out
}

// restoreA0 puts byte A0 back where a space breaks a UTF-8 character. "à" as a
// word of its own keeps its space, but not before the endings of the Portuguese
// words às, àquele, àquela and àquilo.
func restoreA0(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+8)
	for i := 0; i < len(raw); i++ {
		out = append(out, raw[i])
		if raw[i] == 0xC3 && i+1 < len(raw) && raw[i+1] == ' ' && !joinsAGrave(raw[i+2:]) {
			out = append(out, 0xA0, ' ')
			i++
		}
	}
	return replaceSequences(out, spacedUTF8, func(match []byte) []byte {
		return bytes.ReplaceAll(match, []byte{' '}, []byte{0xA0})
	})
}

func joinsAGrave(after []byte) bool {
	for _, s := range []string{" ", "quele", "quela", "quilo", "s "} {
		if bytes.HasPrefix(after, []byte(s)) {
			return true
		}
	}
	return false
}
