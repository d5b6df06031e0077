package jobs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/node"
)

func line(rank, i int) node.Line {
	return node.Line{At: time.Unix(int64(i), 0).UTC(), Rank: rank, Stream: "stdout", Text: fmt.Sprintf("%d/%d", rank, i)}
}

// Who comes gets the last lines of each rank, in the order in which they came.
func TestReplay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	r := register(t, dir, "j", &fakeJob{})
	defer r.Close()
	const lines = 500
	for i := range lines {
		r.Log(line(0, i))
		if i%100 == 0 {
			r.Log(line(1, i))
		}
	}
	r.Log(node.Line{Rank: 2, Attempt: 3, Stream: "stderr", Text: "caf\u00e9 <b> \u2028", Partial: true, Dropped: 4})
	var got []node.Line
	dropped, err := open(t, dir, "j").Log(t.Context(), false, func(l node.Line) error { got = append(got, l); return nil })
	if err != nil || dropped != 0 {
		t.Fatal(dropped, err)
	}
	var want []string
	for i := range lines {
		if i >= lines-keptLines {
			want = append(want, line(0, i).Text)
		}
		if i%100 == 0 {
			want = append(want, line(1, i).Text)
		}
	}
	want = append(want, "caf\u00e9 <b> \uFFFD")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Text != want[i] {
			t.Fatalf("line %d is %q, want %q", i, got[i].Text, want[i])
		}
	}
	last := got[len(got)-1]
	if last.Rank != 2 || last.Attempt != 3 || last.Stream != "stderr" || !last.Partial || last.Dropped != 4 {
		t.Errorf("last line %+v", last)
	}
	if !got[0].At.Equal(line(1, 0).At) {
		t.Errorf("time %v, want %v", got[0].At, line(1, 0).At)
	}
	stop := errors.New("enough")
	if _, err := open(t, dir, "j").Log(t.Context(), true, func(node.Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of emit: %v", err)
	}
}

// Between what is kept and what comes no line is lost or seen twice.
func TestFollowFromTheMiddle(t *testing.T) {
	f := newFeed()
	const total = 20_000
	go func() {
		for i := range total {
			f.add(line(0, i))
		}
		f.close()
	}()
	var readers sync.WaitGroup
	for range 8 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			w, err := f.subscribe(true)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.leave(w)
			next, over := -1, false
			for !over {
				var lines []node.Line
				if lines, over, err = w.next(context.Background()); err != nil {
					t.Error(err)
					return
				}
				for _, l := range lines {
					var i int
					if _, err := fmt.Sscanf(l.Text, "0/%d", &i); err != nil {
						t.Error(err)
						return
					}
					if next >= 0 && i != next+l.Dropped {
						t.Errorf("line %d with %d dropped, want %d", i, l.Dropped, next+l.Dropped)
						return
					}
					next = i + 1
				}
			}
			if next+w.lost() != total && next != -1 {
				t.Errorf("last line is %d with %d lost after it, want %d in all", next-1, w.lost(), total)
			}
		}()
	}
	readers.Wait()
}

// One that does not read holds nobody up, costs a bounded room, and finds out what it has
// missed.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "w")
	r := register(t, dir, "j", &fakeJob{})
	defer r.Close()
	conn, err := net.Dial("unix", filepath.Join(dir, "j.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/log?follow=1 HTTP/1.1\r\nHost: job\r\n\r\n")
	follower := func() (w *follower) {
		r.feed.mu.Lock()
		defer r.feed.mu.Unlock()
		for w = range r.feed.followers {
		}
		return w
	}
	eventually(t, "a follower", func() bool { return follower() != nil })
	l := line(0, 1)
	l.Text = strings.Repeat("x", 1000)
	const lines = 20_000
	begun := time.Now()
	for range lines {
		r.Log(l)
	}
	took := time.Since(begun)
	t.Logf("%v a line beside a follower that does not read", took/lines)
	if took > 2*time.Second {
		t.Errorf("%d lines took %v", lines, took)
	}
	w := follower()
	r.feed.mu.Lock()
	bytes, dropped := w.bytes, w.dropped
	for _, l := range w.lines { // the first that found room again says what had not
		dropped += l.Dropped
	}
	r.feed.mu.Unlock()
	if bytes > followBytes || dropped < lines/4 { // what the socket's buffers take is the kernel's choice
		t.Errorf("%d bytes wait, %d lines dropped of %d, want at most %d bytes", bytes, dropped, lines, followBytes)
	}
	begun = time.Now()
	must(r.Close())
	if took := time.Since(begun); took > closePatience+time.Second {
		t.Errorf("Close took %v", took)
	}
}

// What is kept is bounded, however many ranks there are and however long their lines.
func TestKeptBytes(t *testing.T) {
	for _, ranks := range []int{1, 8, 1000} {
		f := newFeed()
		l := line(0, 0)
		l.Text = strings.Repeat("x", 1000)
		for i := range max(300, 5*ranks) {
			l.Rank = i % ranks
			f.add(l)
		}
		sum := 0
		for rank, k := range f.kept {
			size := 0
			for _, l := range k.lines {
				size += sizeOf(l.Line)
			}
			if size != k.bytes || size == 0 || size > keptRankBytes || len(k.lines) > keptLines {
				t.Fatalf("%d ranks: rank %d keeps %d bytes in %d lines and says %d", ranks, rank, size, len(k.lines), k.bytes)
			}
			sum += size
		}
		if sum > keptBytes {
			t.Errorf("%d ranks keep %d bytes, want at most %d", ranks, sum, keptBytes)
		}
	}
}

func TestTooManyFollowers(t *testing.T) {
	f := newFeed()
	for range maxFollowers {
		if _, err := f.subscribe(true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.subscribe(true); err == nil {
		t.Error("no error")
	}
}
