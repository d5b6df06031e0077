// Package strictjson reads JSON that comes from outside, token by token: no
// reflection, no repeated keys, bounded depth, every error with its byte offset.
// A Reader builds nothing, so that the memory which a document takes is for its
// caller to choose.
package strictjson

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Reader reads one JSON document from its beginning to its end.
type Reader struct {
	data     []byte
	pos      int
	depth    int
	maxDepth int
}

// New returns a reader of data, in which objects and arrays may nest maxDepth
// deep. Data must be UTF-8.
func New(data []byte, maxDepth int) (*Reader, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("not UTF-8 at byte %d", invalidAt(data))
	}
	return &Reader{data: data, maxDepth: maxDepth}, nil
}

func invalidAt(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(data)
}

func (r *Reader) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s", r.pos, fmt.Sprintf(format, args...))
}

// Kind skips white space and returns the next byte, 0 at the end.
func (r *Reader) Kind() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// found describes what comes next, for messages.
func (r *Reader) found() string {
	switch c := r.Kind(); c {
	case 0:
		return "the end"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	default:
		return strconv.QuoteRune(rune(c))
	}
}

func (r *Reader) enter(open byte, what string) error {
	if r.Kind() != open {
		return r.errorf("%s expected, got %s", what, r.found())
	}
	if r.depth++; r.depth > r.maxDepth {
		return r.errorf("nested more than %d deep", r.maxDepth)
	}
	r.pos++
	return nil
}

// list reads what stands between brackets, one item a call.
func (r *Reader) list(open, end byte, what string, item func() error) error {
	if err := r.enter(open, what); err != nil {
		return err
	}
	for first := true; ; first = false {
		switch c := r.Kind(); {
		case c == end:
			r.pos++
			r.depth--
			return nil
		case first:
		case c == ',':
			r.pos++
			if r.Kind() == end {
				return r.errorf("nothing after a comma")
			}
		default:
			return r.errorf("comma or %q expected, got %s", end, r.found())
		}
		if err := item(); err != nil {
			return err
		}
	}
}

// Members reads an object, calling value for each key; value must read what
// the key stands for, and must not keep key. It does not look for repeated keys.
func (r *Reader) Members(value func(key []byte) error) error {
	return r.list('{', '}', "an object", func() error {
		key, err := r.String()
		if err != nil {
			return err
		}
		if r.Kind() != ':' {
			return r.errorf("colon expected after key %.64q, got %s", key, r.found())
		}
		r.pos++
		return value(key)
	})
}

// Object is Members with repeated keys refused.
func (r *Reader) Object(value func(key string) error) error {
	seen := map[string]bool{}
	return r.Members(func(key []byte) error {
		if seen[string(key)] {
			return r.errorf("key %.64q occurs twice", key)
		}
		name := string(key)
		seen[name] = true
		return value(name)
	})
}

// Array reads an array, calling item for each element, which it must read.
func (r *Reader) Array(item func() error) error { return r.list('[', ']', "an array", item) }

// String reads a string. The bytes may be those of the document: copy them to
// keep them.
func (r *Reader) String() ([]byte, error) {
	if r.Kind() != '"' {
		return nil, r.errorf("a string expected, got %s", r.found())
	}
	r.pos++
	rest := r.data[r.pos:]
	for i, c := range rest {
		switch {
		case c == '"':
			r.pos += i + 1
			return rest[:i:i], nil
		case c == '\\':
			return r.escaped(i)
		case c < ' ':
			r.pos += i
			return nil, r.errorf("control character in a string")
		}
	}
	r.pos = len(r.data)
	return nil, r.errorf("a string without end")
}

// escaped reads on after plain bytes of a string that contains an escape.
func (r *Reader) escaped(plain int) ([]byte, error) {
	out := bytes.Clone(r.data[r.pos : r.pos+plain])
	r.pos += plain
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		switch {
		case c == '"':
			r.pos++
			return out, nil
		case c < ' ':
			return nil, r.errorf("control character in a string")
		case c != '\\':
			out = append(out, c)
			r.pos++
			continue
		}
		if r.pos+1 >= len(r.data) {
			break
		}
		e := r.data[r.pos+1]
		if e == 'u' {
			char, err := r.unicodeEscape()
			if err != nil {
				return nil, err
			}
			out = utf8.AppendRune(out, char)
			continue
		}
		i := bytes.IndexByte([]byte(`"\/bfnrt`), e)
		if i < 0 {
			return nil, r.errorf("unknown escape \\%c", e)
		}
		out = append(out, "\"\\/\b\f\n\r\t"[i])
		r.pos += 2
	}
	return nil, r.errorf("a string without end")
}

// unicodeEscape reads \uXXXX, or two of them that are a surrogate pair.
func (r *Reader) unicodeEscape() (rune, error) {
	hex := func() (rune, error) {
		if r.pos+6 > len(r.data) || r.data[r.pos] != '\\' || r.data[r.pos+1] != 'u' {
			return 0, r.errorf("half of a surrogate pair or a short \\u escape")
		}
		v, err := strconv.ParseUint(string(r.data[r.pos+2:r.pos+6]), 16, 16)
		if err != nil {
			return 0, r.errorf("bad \\u escape")
		}
		r.pos += 6
		return rune(v), nil
	}
	hi, err := hex()
	if err != nil || !utf16.IsSurrogate(hi) {
		return hi, err
	}
	lo, err := hex()
	if err != nil {
		return 0, err
	}
	char := utf16.DecodeRune(hi, lo)
	if char == utf8.RuneError {
		return 0, r.errorf("half of a surrogate pair")
	}
	return char, nil
}

// Number reads a number and returns it as it is written, by JSON's grammar. The
// bytes are those of the document.
func (r *Reader) Number() ([]byte, error) {
	if c := r.Kind(); c != '-' && (c < '0' || c > '9') {
		return nil, r.errorf("a number expected, got %s", r.found())
	}
	start := r.pos
	digits := func() int {
		from := r.pos
		for r.pos < len(r.data) && r.data[r.pos]-'0' <= 9 {
			r.pos++
		}
		return r.pos - from
	}
	at := func(chars string) bool {
		return r.pos < len(r.data) && bytes.IndexByte([]byte(chars), r.data[r.pos]) >= 0
	}
	if at("-") {
		r.pos++
	}
	leadingZero := at("0")
	n := digits()
	valid := n > 0 && (!leadingZero || n == 1)
	if at(".") {
		r.pos++
		valid = digits() > 0 && valid
	}
	if at("eE") {
		r.pos++
		if at("+-") {
			r.pos++
		}
		valid = digits() > 0 && valid
	}
	if !valid {
		return nil, r.errorf("bad number %.64q", r.data[start:r.pos])
	}
	return r.data[start:r.pos], nil
}

// Int reads an integer, written without fraction and exponent.
func (r *Reader) Int() (int64, error) {
	digits, err := r.Number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, r.errorf("%.64s is not an integer of 64 bits", digits)
	}
	return v, nil
}

// Float reads a finite number.
func (r *Reader) Float() (float64, error) {
	digits, err := r.Number()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseFloat(string(digits), 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, r.errorf("%.64s is too large a number", digits)
	}
	return v, nil
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	switch {
	case r.literal("true"):
		return true, nil
	case r.literal("false"):
		return false, nil
	}
	return false, r.errorf("true or false expected, got %s", r.found())
}

func (r *Reader) literal(word string) bool {
	r.Kind()
	if !bytes.HasPrefix(r.data[r.pos:], []byte(word)) {
		return false
	}
	r.pos += len(word)
	return true
}

// Skip reads a value of any type, with repeated keys refused.
func (r *Reader) Skip() error {
	switch c := r.Kind(); c {
	case '{':
		return r.Object(func(string) error { return r.Skip() })
	case '[':
		return r.Array(r.Skip)
	case '"':
		_, err := r.String()
		return err
	case 't', 'f', 'n':
		if r.literal("true") || r.literal("false") || r.literal("null") {
			return nil
		}
		return r.errorf("unknown word")
	default:
		_, err := r.Number()
		return err
	}
}

// End checks that only white space follows.
func (r *Reader) End() error {
	if r.Kind() != 0 || r.pos < len(r.data) {
		return r.errorf("%s after the end of the document", r.found())
	}
	return nil
}
