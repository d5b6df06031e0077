package clean

import (
	"strings"
	"sync"
	"unicode"
)

// category is a set of kinds of characters that occur in UTF-8 mojibake.
type category uint32

const (
	common    category = 1 << iota // in many contexts
	c1                             // C1 controls
	bad                            // hardly ever meant
	law                            // paragraph and section signs
	currency                       //
	start                          // opening punctuation
	end                            // closing punctuation
	numeric                        //
	kaomoji                        // letters of which faces are made
	upperAcc                       // accented capitals
	lowerAcc                       //
	upperCom                       // capitals that stand at word ends too: Greek, Cyrillic
	lowerCom                       //
	box                            // box drawing
	az                             // ASCII letters
	capitalAZ                      //
	accented  = upperAcc | lowerAcc
	letter    = az | capitalAZ
	commoner  = upperCom | lowerCom
	signs     = start | end | currency | numeric | law
)

// categoryRanges lists the members: inclusive pairs. A character may have more
// than one category.
var categoryRanges = map[category][]rune{
	common:   {0xA0, 0xA0, 0xAD, 0xAD, 0xB4, 0xB4, 0xB7, 0xB7, 0x2013, 0x2015, 0x2019, 0x2019, 0x2026, 0x2026},
	c1:       {0x80, 0x9F},
	law:      {0xA7, 0xA7, 0xB6, 0xB6},
	currency: {0xA2, 0xA3, 0xA5, 0xA5, 0x20A7, 0x20A7, 0x20AC, 0x20AC},
	bad: {
		0xA4, 0xA4, 0xA6, 0xA6, 0xA8, 0xA8, 0xAA, 0xAA, 0xAC, 0xAC, 0xAF, 0xAF, 0xB8, 0xB8, 0xBA, 0xBA,
		0x192, 0x192, 0x2C6, 0x2C7, 0x2D8, 0x2D8, 0x2DB, 0x2DC, 0x2020, 0x2021, 0x2030, 0x2030,
		0x2310, 0x2310, 0x25CA, 0x25CA, 0xFFFD, 0xFFFD,
	},
	start: {
		0xA1, 0xA1, 0xA9, 0xA9, 0xAB, 0xAB, 0xBF, 0xBF, 0x384, 0x385, 0x2018, 0x2018, 0x201A, 0x201A,
		0x201C, 0x201C, 0x201E, 0x201E, 0x2022, 0x2022, 0x2039, 0x2039, 0xF8FF, 0xF8FF,
	},
	end: {0xAE, 0xAE, 0xBB, 0xBB, 0x2DD, 0x2DD, 0x201D, 0x201D, 0x203A, 0x203A, 0x2122, 0x2122},
	numeric: {
		0xB1, 0xB3, 0xB5, 0xB5, 0xB9, 0xB9, 0xBC, 0xBE, 0xD7, 0xD7, 0xF7, 0xF7, 0x2044, 0x2044, 0x2116, 0x2116,
		0x2202, 0x2202, 0x2206, 0x2206, 0x220F, 0x220F, 0x2211, 0x2211, 0x221A, 0x221A, 0x221E, 0x221E,
		0x2229, 0x2229, 0x222B, 0x222B, 0x2248, 0x2248, 0x2260, 0x2261, 0x2264, 0x2265,
	},
	kaomoji: {
		0xB0, 0xB0, 0xD2, 0xD6, 0xD9, 0xDC, 0xF2, 0xF6, 0xF8, 0xFC,
		0x14C, 0x14C, 0x150, 0x150, 0x16A, 0x16A, 0x172, 0x172,
	},
	upperAcc: {
		0xC0, 0xD1, 0xD8, 0xD8, 0xDC, 0xDD, 0x100, 0x100, 0x102, 0x102, 0x104, 0x104, 0x106, 0x106, 0x10C, 0x10C,
		0x10E, 0x10E, 0x110, 0x110, 0x112, 0x112, 0x116, 0x116, 0x118, 0x118, 0x11A, 0x11A, 0x11E, 0x11E,
		0x122, 0x122, 0x12A, 0x12A, 0x130, 0x130, 0x136, 0x136, 0x139, 0x139, 0x13B, 0x13B, 0x13D, 0x13D,
		0x141, 0x141, 0x143, 0x143, 0x145, 0x145, 0x147, 0x147, 0x152, 0x152, 0x158, 0x158, 0x15A, 0x15A,
		0x15E, 0x15E, 0x160, 0x160, 0x162, 0x162, 0x164, 0x164, 0x16E, 0x16E, 0x170, 0x170, 0x178, 0x179,
		0x17B, 0x17B, 0x17D, 0x17D, 0x490, 0x490,
	},
	lowerAcc: {
		0xDF, 0xF1, 0xFC, 0xFC, 0x101, 0x101, 0x103, 0x103, 0x105, 0x105, 0x107, 0x107, 0x10D, 0x10D, 0x10F, 0x10F,
		0x111, 0x111, 0x113, 0x113, 0x117, 0x117, 0x119, 0x119, 0x11B, 0x11B, 0x11F, 0x11F, 0x123, 0x123,
		0x12B, 0x12B, 0x12F, 0x12F, 0x137, 0x137, 0x13A, 0x13A, 0x13C, 0x13C, 0x13E, 0x13E, 0x142, 0x142,
		0x153, 0x153, 0x155, 0x155, 0x15B, 0x15B, 0x15F, 0x15F, 0x161, 0x161, 0x165, 0x165, 0x17A, 0x17A,
		0x17C, 0x17C, 0x17E, 0x17E, 0x491, 0x491, 0xFB01, 0xFB02,
	},
	upperCom: {
		0xDE, 0xDE, 0x386, 0x386, 0x388, 0x38A, 0x38C, 0x38C, 0x38E, 0x38F, 0x391, 0x3AB, 0x401, 0x42F,
	},
	lowerCom: {0x3AC, 0x3C9, 0x430, 0x45F},
	box: {
		0x2502, 0x2502, 0x250C, 0x250C, 0x2510, 0x2510, 0x2518, 0x2518, 0x251C, 0x251C, 0x2524, 0x2524,
		0x252C, 0x252C, 0x253C, 0x253C, 0x2550, 0x256C, 0x2580, 0x2580, 0x2584, 0x2584, 0x2588, 0x2588,
		0x258C, 0x258C, 0x2590, 0x2593,
	},
	az:        {'a', 'z'},
	capitalAZ: {'A', 'Z'},
}

// cell matches one character: by category, by name, or by test.
type cell struct {
	cats category
	also string
	test func(rune) bool
}

func (c cell) match(r rune, cat category) bool {
	return c.cats&cat != 0 || c.also != "" && strings.ContainsRune(c.also, r) || c.test != nil && c.test(r)
}

func isWord(r rune) bool           { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }
func isNotASCIILetter(r rune) bool { return !isASCIILetter(r) }
func isNotNewline(r rune) bool     { return r != '\n' }

// badRules are the sequences of characters that hardly anybody means. The
// comment names what they come from, where it is one encoding.
var badRules = [][]cell{
	{{cats: c1}},
	{{cats: bad | accented | box | signs}, {cats: bad}},
	{{cats: letter}, {cats: commoner}, {cats: bad}},
	{{cats: bad}, {cats: accented | box | signs}},
	{{cats: lowerAcc | lowerCom | box | end | currency | numeric}, {cats: upperAcc}},
	{{cats: box | end | currency | numeric}, {cats: lowerAcc}},
	{{cats: lowerAcc | box | end}, {cats: currency}},
	{{test: isSpace}, {cats: upperAcc}, {cats: currency}},
	{{cats: upperAcc | box}, {cats: numeric | law}},
	{{cats: accented | box | currency | end}, {cats: start}, {cats: numeric}},
	{{cats: accented | currency | numeric | box | law}, {cats: end}, {cats: start}},
	{{cats: currency | numeric | box}, {cats: start}},
	{{cats: az}, {cats: upperAcc}, {cats: start | currency}},
	{{cats: box}, {cats: kaomoji}},
	{{cats: accented | signs}, {cats: box}},
	{{cats: box}, {cats: end}},
	{{cats: accented}, {cats: start | end}, {test: isWord}},
	{{also: "\u0152\u0153"}, {test: isNotASCIILetter}}, // the ligature oe
	{{cats: upperAcc}, {also: "\u00b0"}},
	// Windows-1252, two characters
	{{also: "\u00c2\u00c3\u00ce\u00d0"}, {cats: start | end,
		also: "\u20ac\u0153\u0160\u0161\u00a2\u00a3\u0178\u017e\u00a0\u00ad\u00ae\u00a9\u00b0\u00b7\u00bb\u2013\u2014\u00b4"}},
	{{also: "\u00d7"}, {also: "\u00b2\u00b3"}},
	// Windows-1252 of Arabic
	{{also: "\u00d8\u00d9"}, arabicTail, {also: "\u00d8\u00d9"}, arabicTail},
	// Windows-1252 of South Asian scripts
	{{also: "\u00e0"}, {also: "\u00b2\u00b5\u00b9\u00bc\u00bd\u00be"}},
	// MacRoman
	{{also: "\u221a"}, {also: "\u00b1\u2202\u2020\u2260\u00ae\u2122\u00b4\u2264\u2265\u00a5\u00b5\u00f8"}},
	{{also: "\u2248"}, {also: "\u00b0\u00a2"}},
	{{also: "\u201a"}, {also: "\u00c4"},
		{also: "\u00ec\u00ee\u00ef\u00f2\u00f4\u00fa\u00f9\u00fb\u2020\u00b0\u00a2\u03c0"}},
	{{also: "\u201a"}, {also: "\u00e2\u00f3"}, {also: "\u00e0\u00e4\u00b0\u00ea"}},
	// Windows-1251
	{{also: "\u0432"}, {also: "\u0402"}},
	{{also: "\u0412\u0413\u0420\u0421"}, {cats: c1 | bad | start | end | currency, also: "\u00b0\u00b5"},
		{also: "\u0412\u0413\u0420\u0421"}},
	{{also: "\u0413"}, {also: "\u045e"}, {also: "\u0412"}, {also: "\u0402"}, {also: "\u0412"},
		{test: isNotNewline}, {cats: letter, also: " "}},
	// Windows-1252 of a and A with grave or acute, and of U+00A0
	{{also: "\u00c3"}, {also: "\u00a0\u00a1"}},
	{{cats: az}, {also: "\u00c3\u00c2"}, {also: " "}},
	{{cats: az}, {test: isSpace}, {also: "\u00c3\u00c2"}, {also: " "}},
	// A with circumflex before what it encodes
	{{cats: az | end, also: ".,?!"}, {also: "\u00c2"}, {cats: start | end, also: " "}},
	// Windows-1253
	{{also: "\u03b2"}, {also: "\u20ac"}, {also: "\u2122\u00a0\u0386\u00ad\u00ae\u00b0"}},
	{{also: "\u0392\u0393\u039e\u039f"}, {cats: c1 | bad | start | end | currency, also: "\u00b0"},
		{also: "\u0392\u0393\u039e\u039f"}},
	// Windows-1257
	{{also: "\u0101"}, {also: "\u20ac"}},
}

var arabicTail = cell{cats: common | currency | bad | numeric | start, also: "\u0178\u0160\u00ae\u00b0\u00b5\u00bb"}

// lastTabled is the end of the dense part of the category table; four
// characters lie beyond.
const lastTabled = 0x2600

var categoryTable = sync.OnceValue(func() *[lastTabled]category {
	var t [lastTabled]category
	for cat, bounds := range categoryRanges {
		for i := 0; i < len(bounds); i += 2 {
			for r := bounds[i]; r <= bounds[i+1] && r < lastTabled; r++ {
				t[r] |= cat
			}
		}
	}
	return &t
})

func categoryOf(table *[lastTabled]category, r rune) category {
	switch {
	case r < lastTabled:
		return table[r]
	case r == 0xFB01, r == 0xFB02:
		return lowerAcc
	case r == 0xFFFD:
		return bad
	case r == 0xF8FF:
		return start
	}
	return 0
}

// isBad reports whether text holds a sequence that looks like mojibake.
func isBad(text []rune) bool {
	table := categoryTable()
	for i, r := range text {
		cat := categoryOf(table, r)
		if r < 0x80 {
			// Every rule that begins in ASCII goes on outside it, after one
			// white-space character at most.
			if i+1 >= len(text) || text[i+1] < 0x80 && !(isSpace(text[i+1]) && i+2 < len(text) && text[i+2] >= 0x80) {
				continue
			}
		} else if cat == 0 && !isSpace(r) {
			continue
		}
		for _, rule := range badRules {
			if matchRule(table, rule, text[i:], cat) {
				return true
			}
		}
	}
	// A text that begins with one of these and a space.
	return len(text) > 1 && (text[0] == 0xC3 || text[0] == 0xC2) && text[1] == ' '
}

func matchRule(table *[lastTabled]category, rule []cell, text []rune, first category) bool {
	if len(text) < len(rule) || !rule[0].match(text[0], first) {
		return false
	}
	for k := 1; k < len(rule); k++ {
		if !rule[k].match(text[k], categoryOf(table, text[k])) {
			return false
		}
	}
	return true
}
