package output

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/settings"
)

func source(rank int, stream string) Source {
	return Source{Attempt: 1, Rank: rank, Stream: stream, Now: time.Now}
}

// texts reads all and returns the lines, "…" at the end of partial ones.
func texts(r io.Reader) []string {
	var all []string
	_ = Read(r, source(0, Stdout), func(l node.Line) {
		if l.Partial {
			l.Text += "…"
		}
		all = append(all, l.Text)
	})
	return all
}

func TestRead(t *testing.T) {
	long := strings.Repeat("x", maxLine-1)
	for _, tc := range []struct {
		name, in string
		want     []string
	}{
		{"lines", "a\nbb\n\nc\n", []string{"a", "bb", "", "c"}},
		{"last without an end", "a\nb", []string{"a", "b"}},
		{"nothing", "", nil},
		{"carriage return and line feed", "a\r\nb\r\n\r\n", []string{"a", "b", ""}},
		{"progress", "\r  0%\r 50%\r100%\nnext\n", []string{"100%", "next"}},
		{"progress with the return behind", "0%\r50%\r100%\r\nnext\n", []string{"100%", "next"}},
		{"progress at the end", "0%\r50%\r", []string{"50%"}},
		{"tab", "a\tb\n", []string{"a    b"}},
		{"terminal controls", "\x1b[2Jx\x00\x7f\n", []string{`\x1b[2Jx\x00\x7f`}},
		{"not UTF-8", "a\xffb\xc3\n", []string{`a\xffb\xc3`}},
		{"direction", "a\u202eb\n", []string{`a\u202eb`}},
		{"UTF-8", "grün 字 👩‍🚀\n", []string{"grün 字 👩‍🚀"}},
		{"longest line", long + "x\n", []string{long + "x"}},
		{"too long", long + "xy\n", []string{long + "x…", "y"}},
		{"cut within a character", long + "ü\n", []string{long + "…", "ü"}},
		{"end comes alone after a piece", long + "xx\n\n", []string{long + "x…", "x", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{"at once": strings.NewReader(tc.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.in)),
				"with the end": iotest.DataErrReader(strings.NewReader(tc.in))} {
				synctest.Test(t, func(t *testing.T) { // no time passes
					if diff := cmp.Diff(tc.want, texts(r)); diff != "" {
						t.Errorf("%s (-want +got):\n%s", name, diff)
					}
				})
			}
		})
	}
}

// TestReadSlow is about lines whose end comes late.
func TestReadSlow(t *testing.T) {
	type said struct {
		after time.Duration
		text  string
	}
	for _, tc := range []struct {
		name string
		say  []said // each after that time
		want []string
	}{
		{"half a line in time", []said{{0, "ab"}, {150 * time.Millisecond, "cd\n"}}, []string{"150ms abcd"}},
		{"prompt", []said{{0, "Enter: "}, {time.Second, "thanks\n"}}, []string{"190ms Enter: …", "1s thanks"}},
		{"end alone", []said{{0, "ab"}, {time.Second, "\n"}, {0, "c\n"}}, []string{"190ms ab…", "1s ", "1s c"}},
		{"dots", []said{{0, "."}, {100 * time.Millisecond, "."}, {100 * time.Millisecond, "."}, {time.Second, ".\n"}},
			[]string{"190ms ..…", "390ms .…", "1.2s ."}},
		{"half a character", []said{{0, "a\xc3"}, {time.Second, "\xbc\n"}}, []string{"190ms a…", "1s ü"}},
		{"progress", []said{{0, "\r10%"}, {time.Second, "\r20%"}, {3 * time.Second, "\r30%\n"}}, []string{"4s 30%"}},
		{"long progress", []said{{0, "\r10%"}, {3 * time.Second, "\r20%"}, {3 * time.Second, "\r30%"}, {time.Second, "\r40%"}, {time.Minute, "\rdone\n"}},
			[]string{"5s 20%…", "11s 40%…", "1m7s done"}},
		{"progress that begins as a line", []said{{0, "10%"}, {100 * time.Millisecond, "\r20%"}, {time.Second, "\r30%\n"}}, []string{"1.1s 30%"}},
		{"killed after a prompt", []said{{0, "Enter: "}, {time.Second, ""}}, []string{"190ms Enter: …", "1s "}},
		{"killed in a line", []said{{0, "half"}, {10 * time.Millisecond, ""}}, []string{"10ms half"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				r, w := io.Pipe()
				go func() {
					for _, s := range tc.say {
						time.Sleep(s.after)
						io.WriteString(w, s.text)
					}
					w.Close()
				}()
				var got []string
				_ = Read(r, source(0, Stdout), func(l node.Line) {
					text := fmt.Sprintf("%v %s", l.At.Sub(begin), l.Text)
					if l.Partial {
						text += "…"
					}
					got = append(got, text)
				})
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(got) != len(tc.want) {
					t.Errorf("lines after the end: %q", got[len(tc.want):])
				}
			})
		})
	}
}

// TestLinesWhole has ranks that write halves of lines through real pipes at the same time.
func TestLinesWhole(t *testing.T) {
	const ranks, lines = 6, 10
	var mu sync.Mutex
	var got []string
	var wg sync.WaitGroup
	for rank := range ranks {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer w.Close()
			for i := range lines {
				fmt.Fprintf(w, "rank %d says the fir", rank)
				time.Sleep(2 * time.Millisecond)
				fmt.Fprintf(w, "st and second half of %d\n", i)
			}
		})
		wg.Go(func() {
			defer r.Close()
			_ = Read(r, source(rank, Stdout), func(l node.Line) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, l.Text)
			})
		})
	}
	wg.Wait()
	whole := 0
	for rank := range ranks {
		for i := range lines {
			if slices.Contains(got, fmt.Sprintf("rank %d says the first and second half of %d", rank, i)) {
				whole++
			}
		}
	}
	if whole != ranks*lines || len(got) != whole {
		t.Errorf("%d of %d lines are whole, in %d in all: %q", whole, ranks*lines, len(got), got)
	}
}

// TestReadRaw sees that the raw bytes come as they are, whatever the lines look like, and
// that an error of the writer is told but stops nothing.
func TestReadRaw(t *testing.T) {
	in := "a\r\n\xff\x00\tb\rc" + strings.Repeat("long", maxLine) + "\n"
	var raw bytes.Buffer
	from := source(0, Stderr)
	from.Raw = &raw
	if err := Read(iotest.HalfReader(strings.NewReader(in)), from, func(node.Line) {}); err != nil {
		t.Error(err)
	}
	if raw.String() != in {
		t.Errorf("%d raw bytes differ from the %d written", raw.Len(), len(in))
	}
	full := errors.New("disk full")
	from.Raw = writerFunc(func([]byte) (int, error) { return 0, full })
	n := 0
	if err := Read(strings.NewReader("a\nb\n"), from, func(node.Line) { n++ }); !errors.Is(err, full) || n != 2 {
		t.Errorf("error %v after %d lines, want %v after 2", err, n, full)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestReadDeadline is a pipe that a process which left its group still holds.
func TestReadDeadline(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fmt.Fprint(w, "a\nlast words")
	if err := r.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "last words"}, texts(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzRead gives any bytes in any pieces: every line is safe to print and bounded, and
// lines of plain text come back complete.
func FuzzRead(f *testing.F) {
	f.Add([]byte("a\nb\r\nc\rd"), uint8(1))
	f.Add([]byte("\xff\x1b[2J\xe2\x80\xae\r\r\n\n"), uint8(3))
	f.Add(bytes.Repeat([]byte("ü"), maxLine/2+1), uint8(250))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		var raw bytes.Buffer
		from := source(0, Stdout)
		from.Raw = &raw
		r := &pieces{in: in, size: int(size) + 1}
		var got []string
		line := ""
		_ = Read(r, from, func(l node.Line) {
			if len(l.Text) > len(`\x00`)*maxLine || !utf8.ValidString(l.Text) || strings.ContainsFunc(l.Text, unicode.IsControl) {
				t.Errorf("line is not safe to print: %.100q", l.Text)
			}
			line += l.Text
			if !l.Partial {
				got, line = append(got, line), ""
			}
		})
		if !bytes.Equal(raw.Bytes(), in) {
			t.Error("the raw bytes differ")
		}
		if bytes.ContainsRune(in, '\r') {
			return // the states of a progress bar are taken back
		}
		want := strings.Split(string(in), "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		for i := range want {
			want[i] = printable(want[i])
		}
		if diff := cmp.Diff(append([]string{}, want...), append([]string{}, got...)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// pieces reads in pieces of a size.
type pieces struct {
	in   []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.in)
	p.in = p.in[n:]
	return n, nil
}

// TestPlain sees for each character that the quick look agrees with the close one.
func TestPlain(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if text := string(r); utf8.ValidRune(r) && isPlain(text) && settings.Escape(text) != text {
			t.Errorf("%U is taken for plain, but comes out as %q", r, settings.Escape(text))
		}
	}
	for _, bad := range []string{"\xff", "a\xc3", "\xed\xa0\x80"} {
		if isPlain(bad) {
			t.Errorf("%q is taken for plain", bad)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	line := []byte(strings.Repeat("some words of ranks█", 5) + "\n")
	in := bytes.Repeat(line, 10000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		_ = Read(bytes.NewReader(in), source(0, Stdout), func(node.Line) {})
	}
}
