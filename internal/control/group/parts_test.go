package group

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/ends"
)

func TestParseReasons(t *testing.T) {
	for list, want := range map[string][]Reason{
		"none":               nil,
		"signal, oom":        {{Kind: ReasonSignal}, {Kind: ReasonMemory}},
		"node,hang,any":      {{Kind: ReasonNode}, {Kind: ReasonHang}, {Kind: ReasonAny}},
		"code=75,code=1":     {{ReasonCode, 75}, {ReasonCode, 1}},
		" code=255 , signal": {{ReasonCode, 255}, {Kind: ReasonSignal}},
	} {
		got, err := ParseReasons(list)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", list, err, diff)
		}
	}
	for _, list := range []string{"", "signals", "code", "code=", "code=0", "code=256", "code=x", "signal,,node", "none,signal", "code=-1"} {
		if got, err := ParseReasons(list); err == nil {
			t.Errorf("%q is taken as %v", list, got)
		}
	}
}

func FuzzParseReasons(f *testing.F) {
	f.Add("signal,code=3")
	f.Add("none")
	f.Fuzz(func(t *testing.T, list string) {
		reasons, err := ParseReasons(list)
		if err != nil && reasons != nil {
			t.Errorf("%q: %v and %v", list, reasons, err)
		}
		for _, r := range reasons {
			if (r.Kind == ReasonCode) != (r.Code != 0) || r.Code < 0 || r.Code > 255 {
				t.Errorf("%q: %+v", list, r)
			}
		}
	})
}

func TestRetries(t *testing.T) {
	usual := DefaultReasons()
	anything := []Reason{{Kind: ReasonAny}}
	for _, tc := range []struct {
		name    string
		reasons []Reason
		cause   Cause
		want    bool
	}{
		{"signal", usual, Cause{Kind: CauseSignal, Code: 139}, true},
		{"node", usual, Cause{Kind: CauseNode, Code: ends.PeerLost}, true},
		{"ranks that lost each other", usual, Cause{Kind: CauseReported, Code: ends.PeerLost}, true},
		{"exit code", usual, Cause{Kind: CauseExit, Code: 3}, false},
		{"exit code of a signal", usual, Cause{Kind: CauseExit, Code: 139}, false},
		{"out of memory", usual, Cause{Kind: CauseMemory, Code: ends.HostMemory}, false},
		{"out of memory, named", []Reason{{Kind: ReasonMemory}}, Cause{Kind: CauseMemory, Code: ends.HostMemory}, true},
		{"hang", usual, Cause{Kind: CauseHang, Code: ends.Hang}, false},
		{"hang, named", []Reason{{Kind: ReasonHang}}, Cause{Kind: CauseHang, Code: ends.Hang}, true},
		{"code, named", []Reason{{ReasonCode, 3}}, Cause{Kind: CauseExit, Code: 3}, true},
		{"reported code, named", []Reason{{ReasonCode, 76}}, Cause{Kind: CauseReported, Code: 76}, true},
		{"another code", []Reason{{ReasonCode, 3}}, Cause{Kind: CauseExit, Code: 4}, false},
		{"signal with a named code", []Reason{{ReasonCode, 139}}, Cause{Kind: CauseSignal, Code: 139}, false},
		{"anything", anything, Cause{Kind: CauseExit, Code: 3}, true},
		{"usage", anything, Cause{Kind: CauseReported, Code: ends.Usage}, false},
		{"user", anything, Cause{Kind: CauseUser, Code: 130}, false},
		{"time limit", anything, Cause{Kind: CauseTimeout, Code: ends.Hang}, false},
		{"nobody came", anything, Cause{Kind: CauseMissing, Code: ends.Retry}, false},
		{"nothing", nil, Cause{Kind: CauseSignal, Code: 139}, false},
	} {
		m := New(Config{RetryOn: tc.reasons})
		if got := m.retries(&tc.cause); got != tc.want {
			t.Errorf("%s: retries = %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	c := Config{Backoff: time.Second}
	for number, want := range map[int]time.Duration{1: 0, 2: time.Second, 3: 2 * time.Second, 7: 32 * time.Second, 8: time.Minute, 9: time.Minute, 1 << 30: time.Minute} {
		if got := c.backoff(number); got != want {
			t.Errorf("before restart %d: %v, want %v", number, got, want)
		}
	}
	if got := (Config{}).backoff(5); got != 0 {
		t.Errorf("no backoff: %v", got)
	}
	if got := (Config{Backoff: 2 * time.Minute}).backoff(2); got != time.Minute {
		t.Errorf("a long one: %v", got)
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb ":           "a; b",
		"\x1b[31mred":     `\x1b[31mred`,
		"红":               "红",
		"\xff\u202e":      `�\u202e`,
		"123456789012345": "1234567890...",
		"a红红红红":           "a红红红...",
		"":                "",
	} {
		if got := plain(in, 10); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
	if got := plain(strings.Repeat("\x00", 1<<20), 100); len(got) > 500 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestRanges(t *testing.T) {
	for want, in := range map[string][]int{"": nil, "3": {3}, "0-1": {0, 1}, "0,2-4,6": {0, 2, 3, 4, 6}} {
		if got := ranges(in); got != want {
			t.Errorf("ranges(%v) = %q, want %q", in, got, want)
		}
	}
}

// TestBeforeTheFirst: a machine without a clock wants nothing and knows nothing.
func TestBeforeTheFirst(t *testing.T) {
	m := New(Defaults(Any))
	if d, o := m.Deadline(), m.Outcome(); !d.IsZero() || len(o.Attempts) > 0 {
		t.Errorf("deadline %v, outcome %+v", d, o)
	}
}

// TestManyRanks: what an event costs does not grow out of hand with the world.
func TestManyRanks(t *testing.T) {
	c := Defaults(Ours)
	c.HangTimeout = time.Minute
	m := New(c)
	const size = 1024
	m.Step(epoch, Event{Kind: Join, Ranks: size})
	for _, kind := range []EventKind{Started, Ready, Finished, Detached, Exited} {
		for r := range size {
			m.Step(epoch.Add(time.Second), Event{Kind: kind, Rank: r})
		}
	}
	if o := m.Outcome(); len(o.Attempts) != 1 || o.Code != ends.Done {
		t.Errorf("outcome %+v", o)
	}
}
