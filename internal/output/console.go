package output

import (
	"io"
	"slices"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/node"
)

// Level is how much a line of the launcher's own matters.
type Level string

// The levels, from the least.
const (
	Debug Level = "debug"
	Info  Level = "info"
	Warn  Level = "warn"
	Error Level = "error"
)

var levels = []Level{Debug, Info, Warn, Error}

// Screen is one of the console's two streams.
type Screen struct {
	W        io.Writer
	Terminal bool // people look at it now
	Colour   bool // prefixes are coloured
}

// Look says how a Console shows things.
type Look struct {
	Stdout, Stderr Screen
	Log            io.Writer // gets the launcher's own lines of all levels, with times; nil for none

	Size   int                  // ranks of the job
	Where  func(rank int) Where // of a rank, also while its node is not there yet; nil: nothing is known
	Show   Show
	Prefix Prefix
	Dedup  bool // the same line of several ranks is shown once
	JSON   bool // lines are JSON objects, without prefix
	Level  Level
	Redact *Redactor // nil: nothing is taken out

	Now func() time.Time
}

// Console shows what ranks print and what the launcher has to say: the ranks' stdout on
// stdout, all else on stderr. Its methods may be called from several goroutines, and
// never wait for a reader.
type Console struct {
	look     Look
	out, err *spool // one and the same if both are terminals
	errTo    int    // err's number of stderr

	mu    sync.Mutex
	half  map[half]bool // streams of which a piece of a line was shown last
	same  *same         // nil without Dedup
	timer *time.Timer
	log   sync.Mutex // of look.Log
}

// half is a stream that is within a line.
type half struct {
	rank   int
	stream string
}

// NewConsole starts a console. Close ends it.
func NewConsole(look Look) *Console {
	c := &Console{look: look, half: map[half]bool{}}
	if c.look.Where == nil {
		c.look.Where = func(int) Where { return Where{} }
	}
	if look.Stdout.Terminal && look.Stderr.Terminal {
		c.out = newSpool(look.Size, c.renderLost, look.Stdout.W, look.Stderr.W)
		c.err, c.errTo = c.out, 1
	} else {
		c.out = newSpool(look.Size, c.renderLost, look.Stdout.W)
		c.err = newSpool(look.Size, c.renderLost, look.Stderr.W)
	}
	if look.Dedup {
		shown := map[string]int{}
		for _, stream := range []string{Stdout, Stderr} {
			for rank := range look.Size {
				if look.Show.Shows(rank, stream) {
					shown[stream]++
				}
			}
		}
		c.same = newSame(shown)
	}
	return c
}

// Line shows a line of a rank, if it is to be shown.
func (c *Console) Line(line node.Line) {
	if line.Stream != Stdout {
		line.Stream = Stderr
	}
	if !c.look.Show.Shows(line.Rank, line.Stream) {
		return
	}
	if c.isEndAlone(line) {
		return
	}
	// It may come from another node: what Read made safe is made safe again.
	line.Text = c.look.Redact.Redact(printable(line.Text))
	if c.same == nil {
		c.show(&sameLine{line: line, ranks: []int{line.Rank}})
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.same.add(line, c.look.Now())
	c.goOn()
}

// isEndAlone says that a line is but the end of one that was shown in pieces, and no
// empty line.
func (c *Console) isEndAlone(line node.Line) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := half{line.Rank, line.Stream}
	within := c.half[key]
	if line.Partial {
		c.half[key] = true
	} else if within {
		delete(c.half, key)
	}
	return within && line.Text == "" && line.Dropped == 0
}

// goOn shows the merged lines that are due, and comes back for the next.
func (c *Console) goOn() {
	now := c.look.Now()
	for _, l := range c.same.due(now) {
		c.show(l)
	}
	next, ok := c.same.next()
	switch {
	case !ok:
	case c.timer == nil:
		c.timer = time.AfterFunc(next.Sub(now), c.later)
	default:
		c.timer.Reset(next.Sub(now))
	}
}

func (c *Console) later() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.same != nil {
		c.goOn()
	}
}

// show hands a line to its stream's spool.
func (c *Console) show(l *sameLine) {
	screen, spool, to := c.look.Stderr, c.err, c.errTo
	if l.line.Stream == Stdout {
		screen, spool, to = c.look.Stdout, c.out, 0
	}
	text := c.render(l, screen)
	spool.put(l.line.Rank, to, text, max(len(l.ranks), 1)+l.line.Dropped)
}

// Say shows a line of the launcher's own, and writes it to the log. Of several lines in
// text each is one.
func (c *Console) Say(level Level, text string) {
	text = c.look.Redact.Redact(text)
	now := c.look.Now()
	if c.look.Log != nil {
		c.log.Lock()
		// A log that cannot be written is no reason to stop the job; Files tells of it.
		_, _ = c.look.Log.Write(logLines(now, level, text))
		c.log.Unlock()
	}
	if slices.Index(levels, level) < slices.Index(levels, c.look.Level) {
		return
	}
	c.err.put(ours, c.errTo, c.renderOurs(now, level, text), 1)
}

// Status draws a line below all others, if stderr is a terminal; "" takes it away. It may
// be called as often as one likes: only the newest is drawn.
func (c *Console) Status(line string) {
	if c.look.Stderr.Terminal && !c.look.JSON {
		c.err.setStatus(printable(line))
	}
}

// Writer is for loggers: each Write is a whole line for stderr, made already.
func (c *Console) Writer() io.Writer { return lineWriter{c} }

type lineWriter struct{ c *Console }

func (w lineWriter) Write(p []byte) (int, error) {
	w.c.err.put(ours, w.c.errTo, p, 1)
	return len(p), nil
}

// Write shows a text of several lines as it is on stderr.
func (c *Console) Write(text string) { c.err.put(ours, c.errTo, []byte(text), 1) }

// Print shows a text as it is on stdout.
func (c *Console) Print(text string) { c.out.put(ours, 0, []byte(text), 1) }

// Close shows what waits, but waits no longer than timeout for a reader. It says whether
// all was written. Nothing is shown afterwards.
func (c *Console) Close(timeout time.Duration) bool {
	if c.same != nil {
		c.mu.Lock()
		for _, l := range c.same.rest() {
			c.show(l)
		}
		if c.timer != nil {
			c.timer.Stop()
		}
		c.mu.Unlock()
	}
	end := c.look.Now().Add(timeout)
	written := c.out.close(timeout)
	if c.err != c.out {
		written = c.err.close(max(end.Sub(c.look.Now()), 0)) && written
	}
	return written
}
