package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/node"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 7e6, time.UTC)

// twoNodes is where ranks live when each node has two.
func twoNodes(rank int) Where {
	return Where{Node: rank / 2, Local: rank % 2, Host: fmt.Sprintf("gpu-%02d", rank/2)}
}

func mustPrefix(t *testing.T, template string) Prefix {
	t.Helper()
	p, err := ParsePrefix(template)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustShow(t *testing.T, s string, size int) Show {
	t.Helper()
	show, err := ParseShow(s, size)
	if err != nil {
		t.Fatal(err)
	}
	return show
}

// shown runs a console and returns what came out on stdout and stderr.
func shown(t *testing.T, look Look, use func(*Console)) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	look.Stdout.W, look.Stderr.W = &out, &err
	if look.Now == nil {
		look.Now = func() time.Time { return noon }
	}
	c := NewConsole(look)
	use(c)
	if !c.Close(10 * time.Second) {
		t.Fatal("the console did not show all")
	}
	return out.String(), err.String()
}

func line(rank int, stream, text string) node.Line {
	return node.Line{At: noon, Attempt: 1, Rank: rank, Stream: stream, Text: text}
}

func TestConsole(t *testing.T) {
	usual := []node.Line{line(0, Stdout, "zero out"), line(0, Stderr, "zero err"), line(3, Stdout, "three out"), line(3, Stderr, "three err")}
	for _, tc := range []struct {
		name           string
		size           int
		show, prefix   string
		colour         bool
		lines          []node.Line
		stdout, stderr string
	}{
		{"usual", 4, "", ManyNodesPrefix, false, usual, "[r0 gpu-00:0] zero out\n", "[r0 gpu-00:0] zero err\n[r3 gpu-01:1] three err\n"},
		{"all on one node", 4, "all", OneNodePrefix, false, usual, "[r0] zero out\n[r3] three out\n", "[r0] zero err\n[r3] three err\n"},
		{"some", 4, "1,3", "none", false, usual, "three out\n", "three err\n"},
		{"failed", 4, "failed", "none", false, usual, "", ""},
		{"none", 4, "none", "none", false, usual, "", ""},
		{"all fields", 4, "3", "{time} {{{node}/{local}/{rank} {host} {stream}}}: ", false, usual,
			"12:00:00.007 {1/1/3 gpu-01 stdout}: three out\n", "12:00:00.007 {1/1/3 gpu-01 stderr}: three err\n"},
		{"colour", 4, "3", OneNodePrefix, true, usual, "\x1b[0;34m[r3] \x1b[0mthree out\n", "\x1b[1;34m[r3] \x1b[0mthree err\n"},
		{"no colour without prefix", 4, "3", "none", true, usual, "three out\n", "three err\n"},
		{"partial", 1, "", OneNodePrefix, false, []node.Line{{Stream: Stdout, Text: "Enter: ", Partial: true}}, "[r0] Enter: …\n", ""},
		{"end alone after a piece", 1, "", "none", false, []node.Line{{Stream: Stdout, Text: "a", Partial: true}, {Stream: Stdout}, {Stream: Stdout}, {Stream: Stdout, Text: "b"}}, "a…\n\nb\n", ""},
		{"dropped", 1, "", OneNodePrefix, false, []node.Line{{Stream: Stdout, Text: "x", Dropped: 7}, {Stream: Stdout, Dropped: 2}},
			"[r0] [7 lines were not shown: nothing read them]\n[r0] x\n[r0] [2 lines were not shown: nothing read them]\n", ""},
		{"hostile line of another node", 1, "", "none", false, []node.Line{{Stream: "\x1b]0;x\a", Text: "a\x1b[2J\nb\xff"}}, "", `a\x1b[2J\nb\xff` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			look := Look{Size: tc.size, Where: twoNodes, Show: mustShow(t, tc.show, tc.size), Prefix: mustPrefix(t, tc.prefix)}
			look.Stdout.Colour, look.Stderr.Colour = tc.colour, tc.colour
			stdout, stderr := shown(t, look, func(c *Console) {
				for _, l := range tc.lines {
					c.Line(l)
				}
			})
			if diff := cmp.Diff([]string{tc.stdout, tc.stderr}, []string{stdout, stderr}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConsoleSay(t *testing.T) {
	var log bytes.Buffer
	look := Look{Size: 1, Level: Warn, Log: &log}
	stdout, stderr := shown(t, look, func(c *Console) {
		c.Say(Info, "all went well")
		c.Say(Warn, "careful \x1b[2J")
		c.Say(Error, "two\nlines")
	})
	if want := "wanrun: warn: careful \\x1b[2J\nwanrun: error: two\nlines\n"; stdout != "" || stderr != want {
		t.Errorf("stdout %q, stderr %q, want only %q", stdout, stderr, want)
	}
	want := `2026-05-04T12:00:00.007Z info  all went well
2026-05-04T12:00:00.007Z warn  careful \x1b[2J
2026-05-04T12:00:00.007Z error two
lines
`
	if diff := cmp.Diff(want, log.String()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestConsoleJSON(t *testing.T) {
	look := Look{Size: 4, Where: twoNodes, Show: mustShow(t, "all", 4), JSON: true, Prefix: mustPrefix(t, OneNodePrefix)}
	stdout, stderr := shown(t, look, func(c *Console) {
		c.Line(line(3, Stdout, `say "hi" </b>`))
		c.Line(node.Line{At: noon, Rank: 0, Stream: Stderr, Text: "x", Partial: true, Dropped: 3})
		c.Say(Info, "started")
		c.Status("[==  ]")
	})
	var got []map[string]any
	for text := range strings.Lines(stdout + stderr) {
		var one map[string]any
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		got = append(got, one)
	}
	at := "2026-05-04T12:00:00.007Z"
	want := []map[string]any{
		{"t": at, "level": "info", "rank": 3., "host": "gpu-01", "attempt": 1., "stream": "stdout", "msg": `say "hi" </b>`},
		{"t": at, "level": "info", "rank": 0., "host": "gpu-00", "attempt": 0., "stream": "stderr", "msg": "x", "partial": true, "dropped": 3.},
		{"t": at, "level": "info", "msg": "started"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConsoleDedup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		look := Look{Size: 4, Where: twoNodes, Show: mustShow(t, "all", 4), Prefix: mustPrefix(t, OneNodePrefix), Dedup: true, Now: time.Now}
		stdout, _ := shown(t, look, func(c *Console) {
			for rank := range 4 {
				c.Line(line(rank, Stdout, "loading"))
			}
			c.Line(line(2, Stdout, "only here"))
			for _, rank := range []int{3, 0, 1} {
				c.Line(line(rank, Stdout, "some of us"))
			}
			c.Line(line(0, Stdout, "some of us")) // a second time by the same rank
			time.Sleep(1100 * time.Millisecond)
			c.Line(line(2, Stdout, "some of us")) // too late
		})
		want := "(4 ranks) loading\n[r2] only here\n(3 ranks: 0-1,3) some of us\n[r0] some of us\n[r2] some of us\n"
		if diff := cmp.Diff(want, stdout); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestConsoleDedupWaits sees that a line that all ranks printed is shown at once, and
// others after a second without any further line.
func TestConsoleDedupWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newGate()
		close(out.open)
		c := NewConsole(Look{Stdout: Screen{W: out}, Stderr: Screen{W: out}, Size: 2, Show: mustShow(t, "all", 2), Dedup: true, Now: time.Now})
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if out.String() != want {
				t.Errorf("shown %q, want %q", out.String(), want)
			}
		}
		c.Line(line(0, Stdout, "a"))
		c.Line(line(1, Stdout, "a"))
		expect("(2 ranks) a\n")
		c.Line(line(0, Stdout, "b"))
		time.Sleep(900 * time.Millisecond)
		expect("(2 ranks) a\n")
		time.Sleep(200 * time.Millisecond)
		expect("(2 ranks) a\nb\n")
		c.Close(time.Second)
	})
}

// TestDedupBound gives more different lines than may wait.
func TestDedupBound(t *testing.T) {
	s := newSame(map[string]int{Stdout: 2})
	long := strings.Repeat("x", 4<<10)
	out := 0
	for i := range 3 * maxSame {
		s.add(line(0, Stdout, fmt.Sprint(i, long)), noon)
		out += len(s.due(noon))
	}
	if len(s.queue) > maxSame || s.bytes > maxSameBytes || len(s.index) != len(s.queue) || out+len(s.queue) != 3*maxSame {
		t.Errorf("%d lines of %d bytes wait (index %d), %d went on", len(s.queue), s.bytes, len(s.index), out)
	}
}

func TestConsoleRedacts(t *testing.T) {
	look := Look{Size: 1, Redact: NewRedactor([]string{"MY_API_KEY=abc-def-ghi"})}
	var log bytes.Buffer
	look.Log = &log
	stdout, stderr := shown(t, look, func(c *Console) {
		c.look.Show = Show{all: true}
		c.Line(line(0, Stdout, "key abc-def-ghi"))
		c.Say(Warn, "with abc-def-ghi")
	})
	if all := stdout + stderr + log.String(); strings.Contains(all, "abc-def") || strings.Count(all, hidden) != 3 {
		t.Errorf("got %q", all)
	}
}

// TestConsoleTerminal has both streams on one terminal, with a status line below: whole
// lines in the order in which they came, and nothing of the status remains.
func TestConsoleTerminal(t *testing.T) {
	g := newGate()
	close(g.open)
	c := NewConsole(Look{Stdout: Screen{W: g, Terminal: true}, Stderr: Screen{W: g, Terminal: true}, Size: 1,
		Show: mustShow(t, "all", 1), Now: time.Now})
	var want strings.Builder
	for i := range 200 {
		c.Status(fmt.Sprintf("[%d/200]", i))
		stream := Stdout
		if i%3 == 0 {
			stream = Stderr
		}
		c.Line(line(0, stream, fmt.Sprint("line ", i)))
		fmt.Fprintf(&want, "line %d\n", i)
		if i%50 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if !c.Close(10 * time.Second) {
		t.Fatal("close did not end")
	}
	if got := screen(g.String()); got != want.String() {
		t.Errorf("the screen shows %q, want the lines in order", got)
	}
}

// TestClosedPipe has ranks write far more than anybody takes, to a stdout that nobody
// reads and then to one that is closed. The ranks end, and their files have every byte.
func TestClosedPipe(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed=%v", closed), func(t *testing.T) {
			outR, outW := pipe(t)
			if closed {
				outR.Close()
			}
			files, err := OpenFiles(FilesConfig{Dir: t.TempDir(), Job: "j", World: 4, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			c := NewConsole(Look{Stdout: Screen{W: outW}, Stderr: Screen{W: newGate()}, Size: 4, Show: mustShow(t, "all", 4), Now: time.Now})
			const bytesPerRank = 12 << 20
			block := []byte(strings.Repeat(strings.Repeat("y", 1023)+"\n", 64))
			var wg sync.WaitGroup
			begin := time.Now()
			for rank := range 4 {
				r, w := pipe(t)
				raw, err := files.Stream(0, rank, Stdout)
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { // the rank
					for range bytesPerRank / len(block) {
						if _, err := w.Write(block); err != nil {
							t.Error(err)
						}
					}
					w.Close()
				})
				wg.Go(func() {
					from := source(rank, Stdout)
					from.Raw = raw
					_ = Read(r, from, c.Line)
					raw.Close()
				})
			}
			wg.Wait()
			t.Logf("4 ranks wrote %d MiB in %v", 4*bytesPerRank>>20, time.Since(begin))
			for rank := range 4 {
				data, err := os.ReadFile(files.Folder() + "/" + files.Path(0, rank, Stdout))
				if err != nil || !bytes.Equal(data, bytes.Repeat(block, bytesPerRank/len(block))) {
					t.Errorf("file of rank %d has %d bytes (%v), want the %d written", rank, len(data), err, bytesPerRank)
				}
			}
			if !closed {
				c.out.mu.Lock()
				if c.out.bytes[3] > maxWaiting || c.out.dropped[3] == 0 {
					t.Errorf("of rank 3 %d bytes wait and %d lines were dropped", c.out.bytes[3], c.out.dropped[3])
				}
				c.out.mu.Unlock()
				if c.Close(20 * time.Millisecond) {
					t.Error("all is said to be shown, but nobody reads")
				}
				outR.Close() // lets the console's goroutine go
				<-c.out.done
			} else if !c.Close(10 * time.Second) {
				t.Error("the console waits for a reader that is gone")
			}
			if err := files.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, f := range []*os.File{r, w} {
			if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
				t.Error(err)
			}
		}
	})
	return r, w
}

// TestDelay measures how long a line takes from a rank's write to the console's.
func TestDelay(t *testing.T) {
	r, w := pipe(t)
	outR, outW := pipe(t)
	c := NewConsole(Look{Stdout: Screen{W: outW}, Stderr: Screen{W: outW}, Size: 1, Show: mustShow(t, "", 1), Prefix: mustPrefix(t, OneNodePrefix), Now: time.Now})
	var wg sync.WaitGroup
	wg.Go(func() { _ = Read(r, source(0, Stdout), c.Line) })
	var delays []time.Duration
	buffer := make([]byte, 100)
	for i := range 300 {
		begin := time.Now()
		fmt.Fprintf(w, "line %d\n", i)
		n, err := outR.Read(buffer)
		delays = append(delays, time.Since(begin))
		if want := fmt.Sprintf("[r0] line %d\n", i); err != nil || string(buffer[:n]) != want {
			t.Fatalf("got %q (%v), want %q", buffer[:n], err, want)
		}
	}
	w.Close()
	wg.Wait()
	c.Close(time.Second)
	slices.Sort(delays)
	median, worst := delays[len(delays)/2], delays[len(delays)-1]
	t.Logf("median %v, worst %v", median, worst)
	const bar = 50 * time.Millisecond
	if median > bar {
		t.Errorf("median delay %v, want at most %v", median, bar)
	}
}

func BenchmarkConsole(b *testing.B) {
	c := NewConsole(Look{Stdout: Screen{W: writerFunc(func(p []byte) (int, error) { return len(p), nil })}, Stderr: Screen{W: &bytes.Buffer{}}, Size: 8,
		Show: Show{all: true}, Prefix: Prefix{[]prefixPart{{text: "[r"}, {field: "rank"}, {text: "] "}}}, Now: time.Now, Redact: NewRedactor(nil)})
	l := line(3, Stdout, strings.Repeat("some words of a rank ", 5))
	b.SetBytes(int64(len(l.Text)))
	b.ReportAllocs()
	for b.Loop() {
		c.Line(l)
	}
	c.Close(time.Minute)
}
