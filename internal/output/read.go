package output

import (
	"bytes"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/node"
)

const (
	// maxLine is the length in bytes at which a rank's line is cut in two.
	maxLine = 64 << 10
	// halfPatience is how long the start of a line waits for its end. Programs write a line
	// in pieces (a print without buffering, then its end), and prompts have no end at all.
	halfPatience = 190 * time.Millisecond
	// progressPatience is the time between two states of a line that is written over and
	// over, as progress bars do by carriage returns.
	progressPatience = 5 * time.Second
	// chunk is what is read at once; a pipe holds twice as much.
	chunk = 32 << 10
)

// Source says whose output it is.
type Source struct {
	Attempt, Rank int
	Stream        string           // Stdout or Stderr
	Raw           io.Writer        // gets every byte as it came, before the lines; nil for none
	Now           func() time.Time // for node.Line.At
}

// Read hands on r's lines until its end or an error of r, which is how a deadline of a
// pipe that somebody still holds ends it. Lines come one at a time, from this goroutine
// or a timer's, never after Read has returned; emit must not wait for anybody.
//
// A line's text is safe to print: tabs are spaces, and control characters and what is
// not UTF-8 are escaped. Of a line that is written over by carriage returns the last state
// counts, and one each 5 s while it goes on. A line without an end is
// handed on after 190 ms, one that is longer than 64 KiB in pieces; both are Partial, and
// what follows them is the rest of the line, "" if its end comes alone.
//
// The error is the first of Source.Raw, which is asked on nevertheless.
func Read(r io.Reader, from Source, emit func(node.Line)) error {
	l := &lines{from: from, emit: emit}
	buffer := make([]byte, chunk)
	var lost error
	for {
		n, err := r.Read(buffer)
		if n > 0 && from.Raw != nil {
			if _, err := from.Raw.Write(buffer[:n]); err != nil && lost == nil {
				lost = err
			}
		}
		l.feed(buffer[:n])
		if err != nil {
			l.end()
			return lost
		}
	}
}

// lines makes lines of bytes.
type lines struct {
	from Source
	emit func(node.Line)

	mu       sync.Mutex
	line     []byte // since the line's start, the last carriage return or the last piece
	before   []byte // what the last carriage return stands after; shown if nothing replaces it
	progress bool   // the line had a carriage return that was not its end
	pieces   bool   // a piece of the line was handed on
	timer    *time.Timer
	armed    int  // the timer's number, 0 if none waits; a late one finds another number
	long     bool // which patience the timer has
	timers   int
}

// feed takes what was read.
func (l *lines) feed(b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(b) > 0 {
		i := bytes.IndexAny(b, "\r\n")
		if i < 0 {
			l.add(b)
			break
		}
		l.add(b[:i])
		if b[i] == '\n' {
			l.finish()
		} else {
			l.progress = true
			if len(l.line) > 0 {
				l.before, l.line = l.line, l.before[:0]
			}
		}
		b = b[i+1:]
	}
	if l.armed == 0 && len(l.line)+len(l.before) > 0 {
		l.arm(l.progress)
	}
}

// add takes bytes without an end of line.
func (l *lines) add(b []byte) {
	if len(b) > 0 {
		l.before = l.before[:0]
	}
	for len(l.line)+len(b) > maxLine {
		n := maxLine - len(l.line)
		l.line = append(l.line, b[:n]...)
		b = b[n:]
		l.piece()
	}
	l.line = append(l.line, b...)
}

// current is what a terminal would show of the line.
func (l *lines) current() []byte {
	if len(l.line) == 0 {
		return l.before
	}
	return l.line
}

// piece hands on the line so far, but for the start of a character whose end is
// still to come.
func (l *lines) piece() {
	text := l.current()
	n := wholeCharacters(text)
	if n == 0 {
		return
	}
	l.hand(text[:n], true)
	l.line = append(l.line[:0], text[n:]...)
	l.before, l.pieces = l.before[:0], true
}

// finish hands on a line that is complete.
func (l *lines) finish() {
	l.hand(l.current(), false)
	l.reset()
}

// end hands on what has no end of line, but will get none.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := l.current(); len(text) > 0 || l.pieces {
		l.hand(text, false)
	}
	l.reset()
}

func (l *lines) reset() {
	l.line, l.before, l.progress, l.pieces = l.line[:0], l.before[:0], false, false
	l.disarm()
}

func (l *lines) hand(text []byte, partial bool) {
	l.emit(node.Line{At: l.from.Now(), Attempt: l.from.Attempt, Rank: l.from.Rank, Stream: l.from.Stream,
		Text: printable(string(text)), Partial: partial})
}

// arm starts the time that the line has to get its end: long is for one that is
// written over.
func (l *lines) arm(long bool) {
	patience := halfPatience
	if long {
		patience = progressPatience
	}
	l.timers++
	number := l.timers
	l.armed, l.long = number, long
	l.timer = time.AfterFunc(patience, func() { l.late(number) })
}

func (l *lines) disarm() {
	if l.armed != 0 {
		l.timer.Stop()
		l.armed = 0
	}
}

// late hands on a line whose end did not come in time.
func (l *lines) late(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.armed != number {
		return
	}
	l.armed = 0
	if l.progress && !l.long {
		l.arm(true)
		return
	}
	l.piece()
}

// wholeCharacters is the length of text without the start of a character whose
// end is still to come.
func wholeCharacters(text []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		i := len(text) - back
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}
