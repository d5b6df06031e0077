package launch

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/settings"
)

// maxLine is the length in bytes at which a worker's line is cut in two.
const maxLine = 16 << 10

// readLines hands on r's lines until its end, safe to print. Long lines come in
// pieces that end in "…".
func readLines(r io.Reader, line func(string)) {
	b := bufio.NewReaderSize(r, maxLine)
	var rest []byte // of a character that a cut went through
	for {
		piece, err := b.ReadSlice('\n')
		text := string(rest) + string(piece)
		rest = nil
		cut := errors.Is(err, bufio.ErrBufferFull)
		if cut {
			whole := wholeCharacters(text)
			text, rest = text[:whole]+"…", []byte(text[whole:])
		}
		if text != "" {
			text = strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\t", "    ")
			line(settings.Escape(text))
		}
		if err != nil && !cut {
			return
		}
	}
}

// wholeCharacters is the length of text without the start of a character whose
// end is still to come.
func wholeCharacters(text string) int {
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		i := len(text) - back
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}
