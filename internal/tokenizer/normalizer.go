package tokenizer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// maxSteps bounds the normalisers and pre-tokenisers of a file.
const maxSteps = 64

// normalizer is one step of normalisation. Text is valid UTF-8 in and out.
type normalizer interface {
	normalize(in aligned) aligned
}

// strip removes Unicode white space at the ends.
type strip struct{ left, right bool }

func (s strip) normalize(in aligned) aligned {
	lo, hi := 0, in.len()
	if s.left {
		lo = hi - len(bytes.TrimLeftFunc(in.text, unicode.IsSpace))
	}
	if s.right {
		hi = lo + len(bytes.TrimRightFunc(in.text[lo:], unicode.IsSpace))
	}
	return in.slice(lo, hi)
}

// replace puts content where the pattern matches.
type replace struct {
	pattern *regexp.Regexp
	content string
}

func (r replace) normalize(in aligned) aligned {
	found := r.pattern.FindAllIndex(in.text, -1)
	if found == nil {
		return in
	}
	out := in.empty(in.len())
	last := 0
	for _, m := range found {
		out.appendSlice(in.slice(last, m[0]))
		out.append(r.content, in.src[m[0]])
		last = m[1]
	}
	out.appendSlice(in.slice(last, in.len()))
	return out
}

// compilePattern accepts those regular expressions that mean the same to
// Oniguruma, which the official path uses, and to Go: literals, sets, groups and
// plain repetition.
func compilePattern(expr string) (*regexp.Regexp, error) {
	if len(expr) > 256 {
		return nil, fmt.Errorf("pattern has %d bytes, limit 256", len(expr))
	}
	for _, s := range []string{`\`, "(?", "[:", "&&", "^", "$", "{,", "}?", "}+", "}*", "+?", "*?", "??", "++", "*+", "?+"} {
		if strings.Contains(expr, s) {
			return nil, fmt.Errorf("pattern %q: %q is not supported", expr, s)
		}
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", expr, err)
	}
	if re.MatchString("") {
		return nil, fmt.Errorf("pattern %q matches the empty text", expr)
	}
	return re, nil
}

// step is an object of tokenizer.json with a "type": the fields of all
// normalisers and pre-tokenisers known here.
type step struct {
	kind          string
	children      []step
	charsmap      string
	left, right   bool
	pattern       *regexp.Regexp
	content       string
	replacement   string
	addPrefix     *bool
	prependScheme string
	split         bool
}

func (r *jsonReader) step(left *int) (step, error) {
	if *left--; *left < 0 {
		return step{}, r.errorf("more than %d normalisers and pre-tokenisers", maxSteps)
	}
	s := step{split: true, prependScheme: "always"}
	err := r.object(func(key string) (err error) {
		switch key {
		case "type":
			s.kind, err = r.str()
		case "normalizers", "pretokenizers":
			err = r.array(func() error {
				child, err := r.step(left)
				s.children = append(s.children, child)
				return err
			})
		case "precompiled_charsmap":
			if !r.null() {
				s.charsmap, err = r.str()
			}
		case "strip_left":
			s.left, err = r.boolean()
		case "strip_right":
			s.right, err = r.boolean()
		case "pattern":
			s.pattern, err = r.pattern()
		case "content":
			s.content, err = r.str()
		case "replacement":
			s.replacement, err = r.str()
		case "add_prefix_space":
			if !r.null() {
				s.addPrefix = new(bool)
				*s.addPrefix, err = r.boolean()
			}
		case "prepend_scheme":
			s.prependScheme, err = r.str()
		case "split":
			if !r.null() {
				s.split, err = r.boolean()
			}
		default:
			err = r.skip()
		}
		return err
	})
	return s, err
}

// pattern reads {"String": s} or {"Regex": s}.
func (r *jsonReader) pattern() (re *regexp.Regexp, err error) {
	err = r.object(func(key string) error {
		s, err := r.str()
		if err != nil {
			return err
		}
		switch key {
		case "Regex":
			re, err = compilePattern(s)
		case "String":
			if s == "" {
				return errors.New("empty pattern")
			}
			re, err = regexp.Compile(regexp.QuoteMeta(s))
		default:
			err = fmt.Errorf("unknown kind of pattern; expected String or Regex")
		}
		return err
	})
	return re, err
}

// normalizers flattens a step into the normalisers it stands for.
func (s step) normalizers() ([]normalizer, error) {
	switch s.kind {
	case "Sequence":
		var out []normalizer
		for _, c := range s.children {
			n, err := c.normalizers()
			if err != nil {
				return nil, err
			}
			out = append(out, n...)
		}
		return out, nil
	case "Precompiled":
		if s.charsmap == "" {
			return nil, nil
		}
		data, err := base64.StdEncoding.DecodeString(s.charsmap)
		if err != nil {
			return nil, fmt.Errorf("precompiled charsmap: %w", err)
		}
		m, err := parseCharsmap(data)
		if err != nil {
			return nil, err
		}
		return []normalizer{m}, nil
	case "Strip":
		return []normalizer{strip{s.left, s.right}}, nil
	case "Replace":
		if s.pattern == nil {
			return nil, errors.New("replace without a pattern")
		}
		if len(s.content) > maxReplacement {
			return nil, fmt.Errorf("replace: content of %d bytes, limit %d", len(s.content), maxReplacement)
		}
		return []normalizer{replace{s.pattern, s.content}}, nil
	}
	return nil, fmt.Errorf("normaliser %s is not supported; known are Sequence, Precompiled, Strip, Replace", quoteShort(s.kind))
}
