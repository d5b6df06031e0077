package output

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate is a writer that takes nothing until it is opened.
type gate struct {
	open chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *gate) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

func lost(rank, lines int) []byte { return lostLine(fmt.Sprintf("[r%d] ", rank), lines) }

// TestSpoolBlocked has a reader that takes nothing: ranks go on, each has its own bound,
// what is too much is counted, and every line is shown or counted.
func TestSpoolBlocked(t *testing.T) {
	g := newGate()
	s := newSpool(2, lost, g)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const lines = 3 * maxWaiting / 1024
	for range lines { // far too much of rank 0
		s.put(0, 0, line, 1)
	}
	s.put(1, 0, []byte("rank 1 is heard\n"), 1)
	s.mu.Lock()
	waiting := s.bytes[0]
	s.mu.Unlock()
	if waiting > maxWaiting {
		t.Errorf("%d bytes of rank 0 wait, want at most %d", waiting, maxWaiting)
	}
	close(g.open)
	if !s.close(10 * time.Second) {
		t.Fatal("not all was written")
	}
	text := g.String()
	shown := strings.Count(text, string(line))
	var dropped int
	_, after, _ := strings.Cut(text, "[r0] [")
	fmt.Sscanf(after, "%d lines", &dropped)
	if shown+dropped != lines || dropped == 0 || shown < maxWaiting/1200 {
		t.Errorf("%d lines shown and %d dropped of %d, want all accounted for and at least %d shown", shown, dropped, lines, maxWaiting/1200)
	}
	if !strings.Contains(text, "\nrank 1 is heard\n") {
		t.Error("rank 1 is not heard, although its bound is its own")
	}
}

// TestSpoolGoesOn has a reader that comes back: lines after that are shown, behind the
// count of those that were lost.
func TestSpoolGoesOn(t *testing.T) {
	g := newGate()
	s := newSpool(1, lost, g)
	s.limit = 300
	for i := range 100 {
		s.put(0, 0, fmt.Appendf(nil, "line %d\n", i), 1)
	}
	close(g.open)
	for s.busy() {
		time.Sleep(time.Millisecond)
	}
	s.put(0, 0, []byte("later\n"), 1)
	if !s.close(10 * time.Second) {
		t.Fatal("not all was written")
	}
	text := g.String()
	if !strings.HasPrefix(text, "line 0\nline 1\n") || !strings.HasSuffix(text, " lines were not shown: nothing read them]\nlater\n") {
		t.Errorf("got %q", text)
	}
}

func (s *spool) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes[0] > 0
}

// TestSpoolCloseBlocked has a reader that never comes: the end waits no longer than it was
// told to.
func TestSpoolCloseBlocked(t *testing.T) {
	g := newGate()
	s := newSpool(1, lost, g)
	s.put(0, 0, []byte("a\n"), 1)
	begin := time.Now()
	if s.close(20 * time.Millisecond) {
		t.Error("all is said to be written, but nothing took it")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("close took %v", took)
	}
	close(g.open)
	<-s.done
}

// TestSpoolBroken has a reader that is gone: the other stream goes on.
func TestSpoolBroken(t *testing.T) {
	calls := 0
	gone := writerFunc(func([]byte) (int, error) { calls++; return 0, errors.New("broken pipe") })
	g := newGate()
	close(g.open)
	s := newSpool(1, lost, gone, g)
	for i := range 100 {
		s.put(0, 0, []byte("x\n"), 1)
		s.put(0, 1, fmt.Appendf(nil, "%d\n", i), 1)
	}
	if !s.close(10 * time.Second) {
		t.Fatal("close did not end")
	}
	if calls != 1 || !strings.HasPrefix(g.String(), "0\n1\n2\n") || !strings.HasSuffix(g.String(), "98\n99\n") {
		t.Errorf("%d calls of a broken writer, want 1; the other got %q", calls, g.String())
	}
}

// TestSpoolStatus draws a line below others: whatever is written, it is taken off before
// and drawn again behind, and nothing of it remains at the end.
func TestSpoolStatus(t *testing.T) {
	g := newGate()
	close(g.open)
	s := newSpool(1, lost, g)
	s.setStatus("[==  ]")
	for g.String() == "" {
		time.Sleep(time.Millisecond)
	}
	s.put(0, 0, []byte("a line\n"), 1)
	if !s.close(10 * time.Second) {
		t.Fatal("close did not end")
	}
	if got := screen(g.String()); got != "a line\n" {
		t.Errorf("the screen shows %q, want only the line; all that was written: %q", got, g.String())
	}
	if !strings.Contains(g.String(), "[==  ]") {
		t.Error("the status was never drawn")
	}
}

// screen is what a terminal shows of text.
func screen(text string) string {
	for {
		i := strings.Index(text, clearLine)
		if i < 0 {
			return text
		}
		begin := strings.LastIndexByte(text[:i], '\n') + 1
		text = text[:begin] + text[i+len(clearLine):]
	}
}
