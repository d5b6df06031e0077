package output

import (
	"strings"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/settings"
)

// printable makes text from outside safe to print on one line: tabs are spaces, control
// characters and what is not UTF-8 are escaped.
func printable(text string) string {
	// Nearly all text is: a rank that prints much is not to wait for a closer look.
	if isPlain(text) {
		return text
	}
	return settings.Escape(strings.ReplaceAll(text, "\t", "    "))
}

// isPlain says that text has only characters of blocks without any that is escaped. Some
// text that is not plain needs no escapes either.
func isPlain(text string) bool {
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			if c < ' ' || c > '~' {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		const softHyphen = 0xad
		switch {
		case r > 0xa0 && r < 0x600 && r != softHyphen: // Latin, Greek, Cyrillic, Hebrew
		case r > 0x206f && r < 0xd800: // signs, blocks of progress bars, CJK, Hangul
		case r > 0x1f2ff && r < 0x1fb00: // emoji
		default:
			return false
		}
		i += n
	}
	return true
}
