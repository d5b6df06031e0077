package timeline

import (
	"encoding/json"
	"fmt"
	"io"
)

// maxWaiting bounds the lines that a slow disk has not taken yet: some seconds of 1,000
// ranks.
const maxWaiting = 4096

// lineLog writes points as JSON, one a line, from a goroutine of its own: a job waits for
// no disk. Lines that come too fast for the disk are left out and counted.
type lineLog struct {
	out     io.WriteCloser
	lines   chan []byte
	done    chan struct{}
	err     error // of the first write that failed; read it when done is closed
	dropped int
}

func newLineLog(out io.WriteCloser) *lineLog {
	l := &lineLog{out: out, lines: make(chan []byte, maxWaiting), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for line := range l.lines {
			if l.err == nil {
				_, l.err = l.out.Write(line)
			}
		}
	}()
	return l
}

// add is called by one goroutine at a time.
func (l *lineLog) add(p Point) {
	line, err := json.Marshal(p)
	if err != nil {
		return // a Point has nothing that JSON cannot hold
	}
	select {
	case l.lines <- append(line, '\n'):
	default:
		l.dropped++
	}
}

// close writes what waits.
func (l *lineLog) close() error {
	close(l.lines)
	<-l.done
	err := l.out.Close()
	if l.err != nil {
		err = l.err
	}
	if err == nil && l.dropped > 0 {
		err = fmt.Errorf("%d lines came too fast for the disk and are missing", l.dropped)
	}
	return err
}
