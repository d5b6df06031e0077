package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/jobs"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/top"
)

const aboutTop = `Shows a running job in the terminal: for each rank its phase and step, how long the phase will still take,
and what it takes of its GPU and of host memory; below, the fullest rank over time. Ctrl-C ends it, and the
job goes on. JOB may be left out if there is one job. What is not known is shown as unknown, never as 0.
`

var (
	onceFlag     = settings.Flag{Name: "once", Kind: settings.Switch, Help: "print it once; also where the output is no terminal", Local: true}
	intervalFlag = settings.Flag{Name: "interval", Value: "DURATION", Help: "how often to look, 100ms to 1h; by default 1s", Local: true}
)

// Sequences of a terminal: another page of it without a cursor, and back; to its corner,
// and what is below cleared.
// Source: ECMA-48; xterm's control sequences.
const (
	pageOn  = "\x1b[?1049h\x1b[?25l"
	pageOff = "\x1b[?25h\x1b[?1049l"
	corner  = "\x1b[H"
	below   = "\x1b[J"
	lineEnd = "\x1b[K\n"
)

func showTop(w world, args []string) error {
	parsed, id, done, err := w.jobArgs("top", args)
	if err != nil || done {
		return err
	}
	interval := time.Second
	if g, ok := parsed.Given["interval"]; ok {
		if interval, err = time.ParseDuration(g.Text); err != nil || interval < 100*time.Millisecond || interval > time.Hour {
			return ends.Errorf(ends.Usage, "--interval %q, want 100ms to 1h, as in 2s", g.Text)
		}
	}
	once, _ := parsed.Switch("once")
	if !w.outTerminal {
		once = true
	}
	return w.withJob(id, func(ctx context.Context, c *jobs.Client) error {
		var history top.History
		if once {
			s, err := c.Status(ctx)
			if err == nil {
				history.Add(s)
				fmt.Fprint(w.stdout, top.Frame(s, &history, w.topLook(len(s.Ranks))))
			}
			return err
		}
		return w.followTop(ctx, c, interval, &history)
	})
}

// followTop draws until the job or the user ends it.
func (w world) followTop(ctx context.Context, c *jobs.Client, interval time.Duration, history *top.History) error {
	fmt.Fprint(w.stdout, pageOn)
	last, err := w.drawTop(ctx, c, interval, history)
	fmt.Fprint(w.stdout, pageOff, last)
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(w.stdout, "job %s has ended\n", settings.Escape(c.ID))
		return nil
	}
	return err
}

func (w world) drawTop(ctx context.Context, c *jobs.Client, interval time.Duration, history *top.History) (last string, err error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		s, err := c.Status(ctx)
		if err != nil {
			return last, err
		}
		history.Add(s)
		last = top.Frame(s, history, w.topLook(len(s.Ranks)))
		fmt.Fprint(w.stdout, corner, strings.ReplaceAll(last, "\n", lineEnd), below)
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-ticker.C:
		}
	}
}

// topLook is the screen, or for other outputs room for all ranks.
func (w world) topLook(ranks int) top.Look {
	look := top.Look{Width: 160, Height: ranks + 16, ASCII: !utf8Locale(environ.List(w.env))}
	if f, ok := w.stdout.(*os.File); ok && w.outTerminal {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil {
			look.Width, look.Height = width, height
		}
	}
	return look
}

// utf8Locale is that the terminal's user has said that it knows UTF-8.
func utf8Locale(lookup func(string) (string, bool)) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if text, ok := lookup(name); ok && text != "" {
			text = strings.ToUpper(text)
			return strings.Contains(text, "UTF-8") || strings.Contains(text, "UTF8")
		}
	}
	return false
}
