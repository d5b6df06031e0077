package top

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/wanrun/wanrun/internal/jobs"
)

var update = flag.Bool("update", false, "rewrite testdata")

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const gib = 1 << 30

func of[T any](v T) *T { return &v }

func status(second int) jobs.Status {
	return jobs.Status{ID: "job-1", State: jobs.Running, Attempt: 1, Restarts: 1, MaxRestarts: 3, World: 3, Started: began, Now: began.Add(time.Duration(second) * time.Second),
		Ranks: []jobs.Rank{
			{Rank: 0, Host: "gpu-01", State: jobs.RankUp, Ready: true, Where: "denoise (12 of 40)", Phase: "denoise", Done: 12, Total: 40, ETA: of(200.4),
				RSS: of[int64](3 * gib), GPU: of[int64](20*gib + int64(second)*gib), GPUUsed: of[int64](40*gib + int64(second)*gib), GPUTotal: of[int64](80 * gib)},
			{Rank: 1, Host: "gpu-01", State: jobs.RankUp, Ready: true, Where: "denoise (12 of 40)", Phase: "denoise", Done: 12, Total: 40,
				RSS: of[int64](3 * gib), Arena: of[int64](gib), Reserved: of[int64](4 * gib), GPUUnknown: "NVML: not permitted"},
			{Rank: 2, Host: "a-host-with-a-long-name", State: jobs.RankFailing, Where: "\x1b[31mred\nline"},
		}}
}

func TestFrame(t *testing.T) {
	var h History
	for second := range 30 {
		s := status(second)
		if second == 20 {
			s.Ranks[0].GPU = of[int64](0)
		}
		h.Add(s)
	}
	s := status(30)
	h.Add(s)
	onCPU := status(30)
	onCPU.Ranks = onCPU.Ranks[1:2]
	var hc History
	hc.Add(onCPU)
	var b strings.Builder
	for _, tc := range []struct {
		name string
		s    jobs.Status
		h    *History
		look Look
	}{
		{"wide", s, &h, Look{140, 40, false}},
		{"ASCII", s, &h, Look{120, 40, true}},
		{"no room", s, &h, Look{60, 8, false}},
		{"no GPU", onCPU, &hc, Look{120, 12, true}},
		{"nobody", jobs.Status{ID: "x", State: jobs.Gathering, Started: began, Now: began}, &History{}, Look{80, 24, false}},
	} {
		frame := Frame(tc.s, tc.h, tc.look)
		for i, line := range strings.Split(strings.TrimSuffix(frame, "\n"), "\n") {
			if n := utf8.RuneCountInString(line); n > tc.look.Width || i >= tc.look.Height {
				t.Errorf("%s: line %d has %d characters", tc.name, i, n)
			}
		}
		if strings.ContainsRune(frame, '\x1b') {
			t.Errorf("%s: a rank's text reaches the terminal as it is", tc.name)
		}
		b.WriteString("== " + tc.name + "\n" + frame)
	}
	const file = "testdata/frames.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The plot is bounded, and begins anew when another kind of memory becomes known.
func TestHistory(t *testing.T) {
	var h History
	for second := range 2 * maxHistory {
		h.Add(status(second))
	}
	if len(h.values) != maxHistory || h.what != "GPU" {
		t.Errorf("%d values of %s", len(h.values), h.what)
	}
	s := status(0)
	s.Ranks = s.Ranks[1:]
	h.Add(s)
	if len(h.values) != 1 || h.what != "arena" || h.values[0] != gib {
		t.Errorf("%v of %s", h.values, h.what)
	}
}
