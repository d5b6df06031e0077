package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"
)

// pretokenizer splits text into the parts that the model sees one at a time.
type pretokenizer interface {
	split(part aligned) []aligned
}

// whitespaceSplit splits at Unicode white space, which is dropped.
type whitespaceSplit struct{}

func (whitespaceSplit) split(part aligned) []aligned {
	var out []aligned
	start := 0
	for i := 0; i < part.len(); {
		r, n := utf8.DecodeRune(part.text[i:])
		if unicode.IsSpace(r) {
			if i > start {
				out = append(out, part.slice(start, i))
			}
			start = i + n
		}
		i += n
	}
	if part.len() > start {
		out = append(out, part.slice(start, part.len()))
	}
	return out
}

// metaspace writes spaces as a visible mark, sets one in front, and splits
// before each mark.
type metaspace struct {
	mark   string
	always bool // set a mark in front of every part
	first  bool // set one in front of the part that begins the text
	splits bool
}

func (m metaspace) split(part aligned) []aligned {
	if part.len() == 0 {
		return nil
	}
	out := part.empty(part.len() + 2*bytes.Count(part.text, []byte{' '}) + len(m.mark))
	if (m.always || m.first && part.src[0] == 0) &&
		part.text[0] != ' ' && !bytes.HasPrefix(part.text, []byte(m.mark)) {
		out.append(m.mark, part.src[0])
	}
	last := 0
	for i, c := range part.text {
		if c == ' ' {
			out.appendSlice(part.slice(last, i))
			out.append(m.mark, part.src[i])
			last = i + 1
		}
	}
	out.appendSlice(part.slice(last, part.len()))
	if !m.splits {
		return []aligned{out}
	}
	var parts []aligned
	start := 0
	for start < out.len() {
		end := out.len()
		if k := bytes.Index(out.text[start+1:], []byte(m.mark)); k >= 0 {
			end = start + 1 + k
		}
		parts = append(parts, out.slice(start, end))
		start = end
	}
	return parts
}

// isFirst: after another pre-tokeniser, what counts as first depends on details
// of the Rust library's offsets that are not reproduced here.
func isFirst(p pretokenizer) bool {
	m, ok := p.(metaspace)
	return ok && m.first
}

// pretokenizers flattens a step into the pre-tokenisers it stands for.
func (s step) pretokenizers() ([]pretokenizer, error) {
	switch s.kind {
	case "Sequence":
		var out []pretokenizer
		for _, c := range s.children {
			p, err := c.pretokenizers()
			if err != nil {
				return nil, err
			}
			if len(out) > 0 && slices.ContainsFunc(p, isFirst) {
				return nil, errors.New("metaspace: prepend_scheme first after another pre-tokeniser is not supported")
			}
			out = append(out, p...)
		}
		return out, nil
	case "WhitespaceSplit":
		return []pretokenizer{whitespaceSplit{}}, nil
	case "Metaspace":
		if utf8.RuneCountInString(s.replacement) != 1 {
			return nil, fmt.Errorf("metaspace: replacement %s is not one character", quoteShort(s.replacement))
		}
		scheme := s.prependScheme
		if s.addPrefix != nil && !*s.addPrefix {
			if scheme != "never" {
				return nil, fmt.Errorf("metaspace: add_prefix_space is false but prepend_scheme is %s", quoteShort(scheme))
			}
		}
		m := metaspace{mark: s.replacement, splits: s.split}
		switch scheme {
		case "always":
			m.always = true
		case "first":
			m.first = true
		case "never":
		default:
			return nil, fmt.Errorf("metaspace: unknown prepend_scheme %s; expected always, first or never", quoteShort(scheme))
		}
		return []pretokenizer{m}, nil
	}
	return nil, fmt.Errorf("pre-tokeniser %s is not supported; known are Sequence, WhitespaceSplit, Metaspace", quoteShort(s.kind))
}
