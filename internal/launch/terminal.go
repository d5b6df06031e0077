package launch

import (
	"fmt"
	"io"
	"strings"

	"go.uber.org/zap"

	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// terminal shows one line that is drawn over and over, below the lines that stay:
//
//	denoise       [=============>              ]  6/12, 0.45 s/step, ETA 2.7 s, device 45.1 MiB, RSS 120 MiB
type terminal struct {
	w      io.Writer    // whole lines
	status func(string) // the line that is drawn over
	log    *zap.Logger
	quiet  bool
	width  func() int
	meters meters
}

func (t *terminal) Progress(rank int, p *wanrunv1.Progress) {
	if t.meters == nil {
		t.meters = meters{}
	}
	m, ended := t.meters.lead(rank, p)
	if t.quiet || m == nil {
		return
	}
	if ended != nil {
		t.print(ended.line())
	}
	if m.finished() {
		t.Clear()
		t.print(m.line())
		return
	}
	t.status(barLine(m, t.width()))
}

// barLine fits a line into width columns; the last stays free, or terminals wrap.
func barLine(m *meter, width int) string {
	const bar = 30
	var b strings.Builder
	fmt.Fprintf(&b, "%-13s ", m.phase)
	if m.total > 1 && width >= 80 {
		full := bar * m.done / m.total
		b.WriteString("[" + strings.Repeat("=", full) + strings.Repeat(" ", bar-full) + "] ")
	}
	b.WriteString(m.figures())
	line := []rune(b.String())
	return string(line[:min(len(line), max(width-1, 0))])
}

func (t *terminal) print(line string) { io.WriteString(t.w, line+"\n") }

func (t *terminal) Clear()           { t.status("") }
func (t *terminal) Log() *zap.Logger { return t.log }
