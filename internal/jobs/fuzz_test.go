package jobs

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"a", "train 7", "../x", "%41", ".", "é", "a.sock", strings.Repeat("x", 81), "a%2", "%2e.sock", "a%2F.sock"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := fileName(s); err == nil {
			if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") || len(name) > maxFileName+len(socketSuffix) {
				t.Errorf("%q is the file name %q", s, name)
			}
			if id, ok := idOf(name); !ok || id != s {
				t.Errorf("%q as a file name and back is %q, %v", s, id, ok)
			}
		}
		if id, ok := idOf(s); ok {
			if name, err := fileName(id); err != nil || name != s {
				t.Errorf("%q is the id %q, whose file name is %q, %v", s, id, name, err)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{`{"t":"2026-01-02T03:04:05Z","rank":1,"stream":"stderr","text":"x"}`, `{"end":true,"dropped":3}`, `{"rank":-1,"stream":"stdout"}`, `{`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if r.Rank < 0 || r.Attempt < 0 || r.Dropped < 0 || !r.End && r.Stream != "stdout" && r.Stream != "stderr" || strings.ContainsAny(r.Text, "\n\r\x1b\u009b") {
			t.Errorf("%q is %+v", b, r)
		}
		if back := toRecord(r.line()); !r.End && back != r {
			t.Errorf("%+v as a line and back is %+v", r, back)
		}
	})
}

func FuzzStatus(f *testing.F) {
	whole, err := json.Marshal(Status{Schema: Schema, Nodes: []Node{{}}, Ranks: []Rank{{RSS: p(int64(1))}}, Exit: &Exit{}})
	must(err)
	for _, s := range []string{string(whole), `{"schema":1}`, `{"schema":2}`, `{"schema":1,"ranks":[{"state":"up","ready":true}],"world":1,"state":"running"}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStatus(b)
		if err != nil {
			return
		}
		if up, ready := s.Up(); ready > up || up > len(s.Ranks) || s.Ready() && s.World != ready {
			t.Errorf("%q has %d ranks up and %d ready of %d", b, up, ready, len(s.Ranks))
		}
	})
}

func FuzzEnvironment(f *testing.F) {
	for _, s := range []string{"A=1\x00WANRUN_GUARD_MARK=12.345.6\x00WANRUN_JOB=j\x00", "WANRUN_GUARD_MARK=12.345", "WANRUN_GUARD_MARK=-1.2.3", "WANRUN_GUARD_MARK=99999999999.2.3", "WANRUN_GUARD_MARK=0.2.3", "\x00\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		marks, job, err := parseEnvironment(b)
		for _, m := range marks {
			if m.pid < 1 {
				t.Errorf("%q has a mark of process %d", b, m.pid)
			}
		}
		if err == nil && len(marks) > strings.Count(string(b), markVariable+"=") || strings.ContainsAny(job, "\n\x1b") {
			t.Errorf("%q: %v, %q", b, marks, job)
		}
	})
}

func TestParseMark(t *testing.T) {
	for _, tc := range []struct {
		s    string
		want mark
		ok   bool
	}{
		{"12.345.6", mark{12, 345}, true}, {"12.345.", mark{}, false}, {"12.345", mark{}, false}, {"0.1.1", mark{}, false}, {"-1.1.1", mark{}, false},
		{"2147483648.1.1", mark{}, false}, {"1.x.1", mark{}, false}, {"1.1.1.1", mark{}, false}, {"", mark{}, false},
	} {
		if m, err := parseMark(tc.s); m != tc.want || (err == nil) != tc.ok {
			t.Errorf("parseMark(%q) = %v, %v, want %v, %v", tc.s, m, err, tc.want, tc.ok)
		}
	}
}
