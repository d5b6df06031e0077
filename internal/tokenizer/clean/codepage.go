package clean

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// codepage is a single-byte encoding that UTF-8 may have been mistaken for.
type codepage struct {
	decode [256]rune
	encode map[rune]byte
	sloppy bool
	utf8a0 bool // a space may stand for byte A0 (not in MacRoman: "– " is common)
}

// newCodepage builds the table of an encoding. Bytes without a meaning get the
// character of the same number; in a sloppy one byte 1A stands for U+FFFD, a
// character lost before.
func newCodepage(decode func(byte) rune, sloppy bool) *codepage {
	c := &codepage{encode: make(map[rune]byte, 256), sloppy: sloppy, utf8a0: true}
	for i := range c.decode {
		r := decode(byte(i))
		if r == utf8.RuneError {
			r = rune(i)
		}
		if sloppy && i == 0x1A {
			r = utf8.RuneError
		}
		c.decode[i] = r
		c.encode[r] = byte(i)
	}
	return c
}

var (
	latin1      = newCodepage(func(b byte) rune { return rune(b) }, false)
	windows1250 = newCodepage(charmap.Windows1250.DecodeByte, true)
	windows1251 = newCodepage(charmap.Windows1251.DecodeByte, true)
	windows1252 = newCodepage(charmap.Windows1252.DecodeByte, true)
	windows1253 = newCodepage(charmap.Windows1253.DecodeByte, true)
	windows1254 = newCodepage(charmap.Windows1254.DecodeByte, true)
	windows1257 = newCodepage(charmap.Windows1257.DecodeByte, true)
	latin2      = newCodepage(charmap.ISO8859_2.DecodeByte, false)
	macRoman    = newMacRoman()
	cp437       = newCodepage(charmap.CodePage437.DecodeByte, false)

	// codepages in the order in which they are tried.
	codepages = []*codepage{
		latin1, windows1252, windows1251, windows1250, windows1253, windows1254, windows1257,
		latin2, macRoman, cp437,
	}
)

func newMacRoman() *codepage {
	c := newCodepage(charmap.Macintosh.DecodeByte, false)
	c.utf8a0 = false
	return c
}

// holds reports whether every character of text is in the code page.
func (c *codepage) holds(text []rune) bool {
	return !slices.ContainsFunc(text, func(r rune) bool {
		if r < 0x80 && r != 0x1A {
			return false
		}
		_, ok := c.encode[r]
		return !ok
	})
}

// bytes encodes text, all of which the code page holds.
func (c *codepage) bytes(text []rune) []byte {
	out := make([]byte, len(text))
	for i, r := range text {
		out[i] = c.encode[r]
	}
	return out
}
