package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxNesting bounds objects and arrays inside each other; tokenizer.json needs 6.
const maxNesting = 32

// jsonReader reads JSON front to back without building a tree: a vocabulary of
// 256,000 pairs would be a million small values. Strings without escapes are
// parts of text, not copies.
type jsonReader struct {
	text  string
	pos   int
	depth int
}

func (r *jsonReader) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: "+format, append([]any{r.pos}, args...)...)
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *jsonReader) peek() byte {
	for r.pos < len(r.text) {
		switch c := r.text[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) expect(c byte) error {
	if got := r.peek(); got != c {
		return r.errorf("expected %q, got %s", c, describe(got))
	}
	r.pos++
	return nil
}

func describe(c byte) string {
	if c == 0 {
		return "the end"
	}
	return strconv.QuoteRune(rune(c))
}

// list reads what stands between open and end, separated by commas.
func (r *jsonReader) list(open, end byte, element func() error) error {
	if err := r.expect(open); err != nil {
		return err
	}
	if r.depth++; r.depth > maxNesting {
		return r.errorf("nested more than %d deep", maxNesting)
	}
	defer func() { r.depth-- }()
	if r.peek() == end {
		r.pos++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch c := r.peek(); c {
		case ',':
			r.pos++
		case end:
			r.pos++
			return nil
		default:
			return r.errorf("expected ',' or %q, got %s", end, describe(c))
		}
	}
}

func (r *jsonReader) array(element func() error) error { return r.list('[', ']', element) }

// object calls field for every key; field reads or skips the value.
func (r *jsonReader) object(field func(key string) error) error {
	return r.list('{', '}', func() error {
		key, err := r.str()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return fmt.Errorf("%s: %w", quoteShort(key), err)
		}
		return nil
	})
}

// quoteShort quotes a string of a file for an error message.
func quoteShort(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return strconv.Quote(s)
}

// null consumes a null if one is next.
func (r *jsonReader) null() bool {
	if r.peek() == 'n' && strings.HasPrefix(r.text[r.pos:], "null") {
		r.pos += len("null")
		return true
	}
	return false
}

func (r *jsonReader) boolean() (bool, error) {
	r.peek()
	for _, v := range []bool{false, true} {
		if word := strconv.FormatBool(v); strings.HasPrefix(r.text[r.pos:], word) {
			r.pos += len(word)
			return v, nil
		}
	}
	return false, r.errorf("expected true or false")
}

func (r *jsonReader) str() (string, error) {
	if err := r.expect('"'); err != nil {
		return "", err
	}
	start := r.pos
	for i := start; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			r.pos = i + 1
			return r.text[start:i], nil
		case c == '\\':
			r.pos = i
			return r.escaped(r.text[start:i])
		case c < 0x20:
			r.pos = i
			return "", r.errorf("control character in a string")
		}
	}
	return "", r.errorf("string without end")
}

// escaped reads the rest of a string from its first backslash on.
func (r *jsonReader) escaped(head string) (string, error) {
	out := []byte(head)
	for r.pos < len(r.text) {
		c := r.text[r.pos]
		switch {
		case c == '"':
			r.pos++
			return string(out), nil
		case c < 0x20:
			return "", r.errorf("control character in a string")
		case c != '\\':
			out = append(out, c)
			r.pos++
			continue
		}
		if r.pos+1 >= len(r.text) {
			break
		}
		c = r.text[r.pos+1]
		if c == 'u' {
			u, err := r.unicodeEscape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, u)
			continue
		}
		k := strings.IndexByte(`"\/bfnrt`, c)
		if k < 0 {
			return "", r.errorf("unknown escape \\%c", c)
		}
		out = append(out, "\"\\/\b\f\n\r\t"[k])
		r.pos += 2
	}
	return "", r.errorf("string without end")
}

// unicodeEscape reads \uXXXX, or two of them that are a surrogate pair.
func (r *jsonReader) unicodeEscape() (rune, error) {
	hex := func() (rune, error) {
		if len(r.text)-r.pos < 6 || !strings.HasPrefix(r.text[r.pos:], `\u`) {
			return 0, r.errorf("expected \\u and four hex digits")
		}
		v, err := strconv.ParseUint(r.text[r.pos+2:r.pos+6], 16, 16)
		if err != nil {
			return 0, r.errorf("expected \\u and four hex digits")
		}
		r.pos += 6
		return rune(v), nil
	}
	first, err := hex()
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	second, err := hex()
	if err != nil {
		return 0, err
	}
	if both := utf16.DecodeRune(first, second); both != utf8.RuneError {
		return both, nil
	}
	return 0, r.errorf("lone surrogate in a string")
}

// numberText returns the characters of a number, of correct JSON form.
func (r *jsonReader) numberText() (string, error) {
	r.peek()
	start := r.pos
	digits := func() bool {
		from := r.pos
		for r.pos < len(r.text) && r.text[r.pos] >= '0' && r.text[r.pos] <= '9' {
			r.pos++
		}
		return r.pos > from
	}
	next := func(set string) bool {
		if r.pos < len(r.text) && strings.IndexByte(set, r.text[r.pos]) >= 0 {
			r.pos++
			return true
		}
		return false
	}
	next("-")
	ok := next("0") || digits()
	if ok && next(".") {
		ok = digits()
	}
	if ok && next("eE") {
		next("+-")
		ok = digits()
	}
	if !ok {
		return "", r.errorf("expected a number")
	}
	return r.text[start:r.pos], nil
}

// id reads a non-negative integer below 2^31.
func (r *jsonReader) id() (int32, error) {
	s, err := r.numberText()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(s, 10, 32)
	if err != nil || v < 0 {
		return 0, r.errorf("expected an id from 0 to %d, got %s", math.MaxInt32, quoteShort(s))
	}
	return int32(v), nil
}

// float reads a number the way serde_json does, which the official path reads
// scores with: the digits as one 64-bit integer, rounded, then multiplied or
// divided by a power of ten, rounded again. With 17 digits that can be one unit
// in the last place off the nearest float64, which decides ties.
func (r *jsonReader) float() (float64, error) {
	s, err := r.numberText()
	if err != nil {
		return 0, err
	}
	v, ok := serdeFloat(s)
	if !ok {
		return 0, r.errorf("number %s is too large", quoteShort(s))
	}
	return v, nil
}

func serdeFloat(s string) (float64, bool) {
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	var significand uint64
	exponent := 0
	inFraction, full := false, false
	i := 0
	for ; i < len(s) && s[i] != 'e' && s[i] != 'E'; i++ {
		if s[i] == '.' {
			inFraction = true
			continue
		}
		d := uint64(s[i] - '0')
		// Once one digit does not fit, digits of a fraction are dropped; those of
		// an integer part still count as powers of ten.
		full = full || significand > math.MaxUint64/10 || significand == math.MaxUint64/10 && d > math.MaxUint64%10
		switch {
		case !full:
			significand = significand*10 + d
			if inFraction {
				exponent--
			}
		case !inFraction:
			exponent++
		}
	}
	if i < len(s) {
		e, err := strconv.Atoi(strings.TrimPrefix(s[i+1:], "+"))
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0, false
		}
		exponent += max(min(e, 1<<20), -1<<20)
	}
	v, ok := scaleByTen(float64(significand), exponent)
	if negative {
		v = -v
	}
	return v, ok
}

func scaleByTen(v float64, exponent int) (float64, bool) {
	for exponent < -308 && v != 0 {
		v /= 1e308
		exponent += 308
	}
	switch {
	case v == 0:
		return 0, true
	case exponent > 308:
		return 0, false
	case exponent >= 0:
		v *= powerOfTen(exponent)
	default:
		v /= powerOfTen(-exponent)
	}
	return v, !math.IsInf(v, 0)
}

// powerOfTen is the float64 nearest to 10^n, 0 <= n <= 308. math.Pow10 is a
// product, and exact only up to 22.
func powerOfTen(n int) float64 {
	if n <= 22 {
		return math.Pow10(n)
	}
	v, _ := strconv.ParseFloat("1e"+strconv.Itoa(n), 64)
	return v
}

// skip reads over any value.
func (r *jsonReader) skip() error {
	var err error
	switch c := r.peek(); {
	case c == '{':
		err = r.object(func(string) error { return r.skip() })
	case c == '[':
		err = r.array(r.skip)
	case c == '"':
		_, err = r.str()
	case c == 't', c == 'f':
		_, err = r.boolean()
	case c == 'n' && r.null():
	default:
		_, err = r.numberText()
	}
	return err
}
