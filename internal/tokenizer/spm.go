package tokenizer

import (
	"bytes"
	"unicode/utf8"
)

// spaceMark is U+2581, which stands for a space in pieces.
const spaceMark = "\u2581"

// spm is spiece.model with sentencepiece's own semantics: longest match in the
// normalisation map, white space collapsed, float32 scores, bytes for unknown
// characters. Special tokens written out in a prompt are plain text.
type spm struct {
	vocabulary
	user         *trie // user-defined pieces, which pass normalisation untouched
	score        []float32
	kind         []uint8
	unknownScore float32
	bestScore    float32
	charsmap     *charsmap // nil if there is none
	addPrefix    bool
	removeExtra  bool
	space        string // how a space is written in pieces
}

func (m *spm) encode(text aligned, out *sink) {
	var l lattice
	part := m.normalize(text)
	spans := m.segment(part.text, &l)
	for i, s := range spans {
		switch {
		case s.id != m.unknown:
			out.add(s.id, part.src[s.start])
		case m.byteFallback:
			for k := s.start; k < s.end; k++ {
				out.add(m.byteID[part.text[k]], part.src[k])
			}
		case i > 0 && spans[i-1].id == m.unknown: // a run is one token
		default:
			out.add(m.unknown, part.src[s.start])
		}
	}
}

// normalizePrefix returns what the text at i becomes and how many bytes that uses.
func (m *spm) normalizePrefix(in aligned, i int) (with []byte, used int) {
	if _, n := m.user.longest(in.text[i:]); n > 0 {
		return in.text[i : i+n], n
	}
	if m.charsmap != nil {
		if n, with := m.charsmap.longest(in.text[i:]); n > 0 {
			return []byte(with), n
		}
	}
	n := in.runeLen(i)
	return in.text[i : i+n], n
}

// normalize maps characters, collapses spaces (if the file says so) and writes
// them as marks, with one in front.
func (m *spm) normalize(in aligned) aligned {
	i := 0
	for m.removeExtra && i < in.len() {
		with, used := m.normalizePrefix(in, i)
		if string(with) != " " {
			break
		}
		i += used
	}
	out := in.empty(in.len() + 8)
	if i == in.len() {
		return out
	}
	if m.addPrefix {
		out.append(m.space, in.src[i])
	}
	afterSpace := m.removeExtra
	for i < in.len() {
		with, used := m.normalizePrefix(in, i)
		if afterSpace {
			with = bytes.TrimLeft(with, " ")
		}
		for len(with) > 0 {
			if with[0] == ' ' {
				out.append(m.space, in.src[i])
				with = with[1:]
				afterSpace = true
				continue
			}
			_, n := utf8.DecodeRune(with)
			out.append(string(with[:n]), in.src[i])
			with = with[n:]
			afterSpace = false
		}
		afterSpace = afterSpace && m.removeExtra
		i += used
	}
	for m.removeExtra && bytes.HasSuffix(out.text, []byte(m.space)) {
		out = out.slice(0, out.len()-len(m.space))
	}
	return out
}

// segment is sentencepiece's optimised search. Totals are kept as float32 but
// compared as float64, which decides ties.
func (m *spm) segment(text []byte, l *lattice) []span {
	l.reset(len(text))
	for start := 0; start < len(text); {
		here := l.best[start].score
		_, charLen := utf8.DecodeRune(text[start:])
		single := false
		at := uint32(0)
		for end := start; end < len(text); {
			if at = m.trie.child(at, text[end]); at == 0 {
				break
			}
			end++
			id := m.trie.id[at]
			if id == noID || m.kind[id] == pieceUnused {
				continue
			}
			score := float64(m.score[id]) + here
			if m.kind[id] == pieceUserDefined {
				score = float64(float32(end-start)*m.bestScore) - 0.1 + here
			}
			if l.best[end].start < 0 || score > l.best[end].score {
				l.best[end] = node{float64(float32(score)), int32(start), id}
			}
			single = single || end-start == charLen
		}
		if !single {
			end := start + charLen
			score := float64(m.unknownScore + float32(here))
			if l.best[end].start < 0 || score > l.best[end].score {
				l.best[end] = node{score, int32(start), m.unknown}
			}
		}
		start += charLen
	}
	return l.backtrack()
}
