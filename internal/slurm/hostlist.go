package slurm

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxListBytes = 1 << 20 // of one hostlist
	maxNameBytes = 255     // of one host name, as in DNS
	maxRange     = 1 << 16 // hosts in one range, Slurm's MAX_RANGE
	maxHosts     = 1 << 17 // hosts in one list
	maxDigits    = 18      // of a number: fits int64
)

// Expand returns the hosts of a Slurm hostlist, in its order and with its
// duplicates; an empty list has none.
//
//	list  = item { "," item }            blanks and newlines separate too
//	item  = { text | "[" range { "," range } "]" }
//	range = number [ "-" number ]        the first number's width is kept: 08-10
//
// Of several brackets in an item the last runs fastest, then the first, the second
// and so on: r[1-2]c[1-2]n[1-2] begins r1c1n1 r1c1n2 r2c1n1. That is Slurm's order,
// which is an odometer only for two. Text after the last of several brackets is taken too,
// which Slurm refuses.
//
// A list that is not one is an error with the byte at which it fails, and so is one
// of more than 131,072 hosts, one of a host name over 255 bytes, and a blank inside brackets.
// Source: Slurm 22.05 and 24.11, scontrol show hostnames.
func Expand(list string) ([]string, error) {
	if len(list) > maxListBytes {
		return nil, fmt.Errorf("hostlist has %d bytes, want at most %d", len(list), maxListBytes)
	}
	p := parser{text: list}
	var hosts []string
	for {
		p.skipSeparators()
		if p.pos == len(p.text) {
			return hosts, nil
		}
		start := p.pos
		it, err := p.item()
		if err != nil {
			return nil, err
		}
		if n := it.count(); n > maxHosts-len(hosts) {
			return nil, p.errorAt(start, "more than %d hosts", maxHosts)
		}
		if it.maxBytes() > maxNameBytes {
			return nil, p.errorAt(start, "a host name of more than %d bytes", maxNameBytes)
		}
		hosts = it.expand(hosts)
	}
}

// item is a host name with brackets in it: texts[0] brackets[0] texts[1] …
type item struct {
	texts    []string // one more than brackets
	brackets [][]span
}

// span is a range of numbers, lo <= hi, written with at least width digits.
type span struct {
	lo, hi int64
	width  int
}

func (s span) count() int { return int(s.hi - s.lo + 1) }

// parser walks through one list.
type parser struct {
	text string
	pos  int
}

func (p *parser) errorAt(pos int, format string, args ...any) error {
	const shown = 60 // bytes of the list in a message
	text := p.text
	if len(text) > shown {
		text = text[:shown] + "…"
	}
	return fmt.Errorf("hostlist %q: at byte %d: %s", text, pos, fmt.Sprintf(format, args...))
}

func (p *parser) skipSeparators() {
	for p.pos < len(p.text) && isSeparator(p.text[p.pos]) {
		p.pos++
	}
}

func isSeparator(c byte) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// isNameByte holds for what host names, and the addresses that some sites use for
// them, are made of.
func isNameByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		c == '-' || c == '.' || c == '_' || c == ':'
}

// item reads up to the next separator outside brackets.
func (p *parser) item() (item, error) {
	var it item
	for {
		start := p.pos
		for p.pos < len(p.text) && isNameByte(p.text[p.pos]) {
			p.pos++
		}
		it.texts = append(it.texts, p.text[start:p.pos])
		switch {
		case p.pos == len(p.text) || isSeparator(p.text[p.pos]):
			return it, nil
		case p.text[p.pos] == '[':
			spans, err := p.bracket()
			if err != nil {
				return item{}, err
			}
			it.brackets = append(it.brackets, spans)
		case p.text[p.pos] == ']':
			return item{}, p.errorAt(p.pos, "] without [")
		default:
			return item{}, p.errorAt(p.pos, "%q does not belong in a host name", p.text[p.pos])
		}
	}
}

// bracket reads "[1-3,07]".
func (p *parser) bracket() ([]span, error) {
	open := p.pos
	p.pos++
	var spans []span
	for {
		s, err := p.span(open)
		if err != nil {
			return nil, err
		}
		spans = append(spans, s)
		switch {
		case p.pos == len(p.text):
			return nil, p.errorAt(open, "[ is not closed")
		case p.text[p.pos] == ',':
			p.pos++
		case p.text[p.pos] == ']':
			p.pos++
			return spans, nil
		default:
			return nil, p.errorAt(p.pos, "%q in brackets, want a number, - , or ]", p.text[p.pos])
		}
	}
}

// span reads "7" or "08-10" within the bracket that opened at open.
func (p *parser) span(open int) (span, error) {
	start := p.pos
	lo, width, err := p.number(open)
	if err != nil {
		return span{}, err
	}
	s := span{lo, lo, width}
	if p.pos < len(p.text) && p.text[p.pos] == '-' {
		p.pos++
		if s.hi, _, err = p.number(open); err != nil {
			return span{}, err
		}
	}
	switch {
	case s.hi < s.lo:
		return span{}, p.errorAt(start, "range %d-%d runs backwards", s.lo, s.hi)
	case s.hi-s.lo >= maxRange:
		return span{}, p.errorAt(start, "range of more than %d hosts", maxRange)
	}
	return s, nil
}

func (p *parser) number(open int) (value int64, width int, err error) {
	start := p.pos
	for p.pos < len(p.text) && isDigit(p.text[p.pos]) {
		p.pos++
	}
	switch width = p.pos - start; {
	case p.pos == len(p.text) && width == 0:
		return 0, 0, p.errorAt(open, "[ is not closed")
	case width == 0:
		return 0, 0, p.errorAt(start, "%q in brackets, want a number", p.text[start])
	case width > maxDigits:
		return 0, 0, p.errorAt(start, "number of %d digits, want at most %d", width, maxDigits)
	}
	value, err = strconv.ParseInt(p.text[start:p.pos], 10, 64)
	return value, width, err // 18 digits always fit
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// count returns the item's hosts, or a number above maxHosts for any that are more.
func (it item) count() int {
	n := 1
	for _, spans := range it.brackets {
		sum := 0
		for _, s := range spans {
			if sum += s.count(); sum > maxHosts {
				return sum
			}
		}
		if n *= sum; n > maxHosts { // both factors are at most 2^17
			return n
		}
	}
	return n
}

func (it item) maxBytes() int {
	n := 0
	for _, text := range it.texts {
		n += len(text)
	}
	for _, spans := range it.brackets {
		longest := 0
		for _, s := range spans {
			longest = max(longest, s.width, len(strconv.FormatInt(s.hi, 10)))
		}
		n += longest
	}
	return n
}

// expand appends the item's hosts to hosts.
func (it item) expand(hosts []string) []string {
	values := make([][]string, len(it.brackets))
	for i, spans := range it.brackets {
		for _, s := range spans {
			for v := s.lo; v <= s.hi; v++ {
				values[i] = append(values[i], pad(v, s.width))
			}
		}
	}
	last := len(values) - 1
	at := make([]int, len(values)) // the value that each bracket shows
	for {
		var name strings.Builder
		for i, text := range it.texts {
			name.WriteString(text)
			if i <= last {
				name.WriteString(values[i][at[i]])
			}
		}
		hosts = append(hosts, name.String())
		// Turn: the last bracket first, then the others from the left.
		i := last
		for ; i >= 0; i = turnAfter(i, last) {
			if at[i]++; at[i] < len(values[i]) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			return hosts
		}
	}
}

// turnAfter returns the bracket that turns when bracket i has come round, -1 after
// the slowest.
func turnAfter(i, last int) int {
	next := i + 1
	if i == last {
		next = 0
	}
	if next == last {
		return -1
	}
	return next
}

func pad(v int64, width int) string {
	digits := strconv.FormatInt(v, 10)
	if len(digits) >= width {
		return digits
	}
	return strings.Repeat("0", width-len(digits)) + digits
}
