package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/settings"
)

// example is a file of the corpus: what is expected, then one or several logs.
//
//	cause KIND [phase=P] [ranks=0,2-3] [steps=3/12]
//	also KIND …, then KIND …       further findings
//	none [finished]                nothing went wrong
//	say TEXT, do TEXT, not TEXT    in the words of the cause; in what to do; nowhere
//	command LINE                   the whole command line
//	== NAME                        a log begins
type example struct {
	name  string
	wants []string
	logs  []Source
	texts []string
}

func examples(t testing.TB) []example {
	t.Helper()
	paths, err := filepath.Glob("testdata/corpus/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := strings.Cut(string(data), "== ")
		e := example{name: strings.TrimSuffix(filepath.Base(path), ".txt"), wants: strings.Split(strings.TrimSpace(head), "\n")}
		for part := range strings.SplitSeq(rest, "\n== ") {
			name, text, _ := strings.Cut(part, "\n")
			e.logs = append(e.logs, Source{Name: name, Read: strings.NewReader(text), Rank: -1})
			e.texts = append(e.texts, text)
		}
		all = append(all, e)
	}
	return all
}

// TestCorpus holds the analysis to what a person expects of each log.
func TestCorpus(t *testing.T) {
	all := examples(t)
	if len(all) < 60 {
		t.Errorf("%d examples, want at least 60", len(all))
	}
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			d := Analyze(e.logs)
			var text bytes.Buffer
			if err := d.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			for _, want := range e.wants {
				if problem := d.check(want, text.String()); problem != "" {
					t.Errorf("%s: %s", want, problem)
				}
			}
			if t.Failed() {
				t.Logf("\n%s", text.String())
			}
			for _, f := range d.Findings {
				checkWords(t, f)
			}
		})
	}
}

func (d Diagnosis) check(want, text string) string {
	word, rest, _ := strings.Cut(want, " ")
	var cause Finding
	if len(d.Findings) > 0 {
		cause = d.Findings[0]
	}
	switch word {
	case "none":
		if len(d.Findings) > 0 {
			return "there are findings"
		}
		if d.Finished != (rest == "finished") {
			return fmt.Sprintf("finished is %v", d.Finished)
		}
	case "cause", "also", "then":
		role := map[string]string{"cause": Cause, "also": Also, "then": Consequence}[word]
		fields := strings.Fields(rest)
		for _, f := range d.Findings {
			if f.Role == role && string(f.Kind) == fields[0] {
				return f.differs(fields[1:], d.Finished)
			}
		}
		return "no such finding"
	case "say":
		if !strings.Contains(strings.ToLower(cause.What+" "+cause.Why), strings.ToLower(rest)) {
			return "not said"
		}
	case "do":
		if !strings.Contains(strings.Join(cause.Do, "\n"), rest) {
			return "not advised"
		}
	case "not":
		if strings.Contains(text, rest) {
			return "said"
		}
	case "command":
		if cause.Command != rest {
			return "command is " + cause.Command
		}
	default:
		return "the example has an error"
	}
	return ""
}

func (f Finding) differs(fields []string, finished bool) string {
	for _, field := range fields {
		got := map[string]string{"phase": "phase=" + f.Phase, "steps": fmt.Sprintf("steps=%d/%d", f.Step, f.Steps),
			"ranks": "ranks=" + strings.ReplaceAll(strings.TrimLeft(rankList(f.Ranks), "ranks "), ", ", ",")}
		name, _, _ := strings.Cut(field, "=")
		if field == "finished" {
			if !finished {
				return "not finished"
			}
		} else if got[name] != field {
			return "got " + got[name]
		}
	}
	return ""
}

// checkWords sees that a finding is whole, safe to print, and that its command line is one
// that wanrun takes.
func checkWords(t *testing.T, f Finding) {
	t.Helper()
	if f.What == "" || f.Why == "" || f.Role != Consequence && len(f.Do) == 0 {
		t.Errorf("%s has no words: %+v", f.Kind, f)
	}
	for _, text := range append([]string{f.What, f.Why, f.Command}, f.Do...) {
		if text != settings.Escape(text) {
			t.Errorf("%s: %q is not safe to print", f.Kind, text)
		}
	}
	if f.Command == "" {
		return
	}
	words := shellWords(f.Command)
	if words[0] != "wanrun" {
		t.Errorf("command %q", f.Command)
	}
	parsed, err := settings.ParseArgs(settings.Flags(), words[1:])
	if err != nil || len(parsed.Positional) > 0 {
		t.Errorf("wanrun does not take %q: %v (%v)", f.Command, err, parsed.Positional)
	}
}

// TestJSON sees that lists are never null, so that readers need no second case.
func TestJSON(t *testing.T) {
	for _, e := range examples(t) {
		data, err := json.Marshal(Analyze(e.logs))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(":null")) {
			t.Errorf("%s: %s", e.name, data)
		}
	}
}

func TestBoundedReading(t *testing.T) {
	long := "CUDA out of memory. Tried to allocate 1.00 GiB" + strings.Repeat("x", 3*maxLine) + "\nKilled\n"
	d := Analyze([]Source{{Name: "a", Read: strings.NewReader(long), Rank: -1}})
	if len(d.Findings) != 2 || d.Findings[0].Kind != DeviceMemory || d.Read[0].Lines != 2 {
		t.Errorf("a long line: %+v", d)
	}
	endless := &repeated{text: []byte(strings.Repeat("nothing to see here, go on please\n", 512))}
	d = Analyze([]Source{{Name: "b", Read: endless, Rank: -1}})
	if !d.Read[0].Cut || d.Read[0].Bytes > MaxLog+maxLine || len(d.Notes) != 1 {
		t.Errorf("an endless log: %+v", d.Read)
	}
	d = Analyze([]Source{{Name: "c", Read: &broken{}, Rank: -1}})
	if d.Read[0].Error == "" || len(d.Findings) != 0 {
		t.Errorf("a log that cannot be read: %+v", d)
	}
}

type repeated struct{ text []byte }

func (r *repeated) Read(p []byte) (int, error) { return copy(p, r.text), nil }

type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, os.ErrPermission }

// TestExcerpt sees that the end of a large log is read, where the reason stands.
func TestExcerpt(t *testing.T) {
	size := int64(MaxLog + 1<<20)
	f := &sparse{size: size, head: []byte("INFO: Creating WanT2V pipeline.\n"), tail: []byte("\nKilled\n")}
	r, cut := Excerpt(f, size)
	if !cut {
		t.Fatal("not cut")
	}
	d := Analyze([]Source{{Name: "big", Read: r, Rank: -1, Cut: cut}})
	if len(d.Findings) != 1 || d.Findings[0].Kind != Killed || d.Findings[0].Phase != loadT5 || len(d.Notes) != 1 {
		t.Errorf("%+v", d)
	}
}

// sparse is a large file of dots.
type sparse struct {
	size       int64
	head, tail []byte
}

func (s *sparse) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = '.'
		if (off+int64(i))%80 == 79 {
			p[i] = '\n'
		}
	}
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	if start := s.size - int64(len(s.tail)); off+int64(len(p)) > start {
		for i := range p {
			if at := off + int64(i) - start; at >= 0 && at < int64(len(s.tail)) {
				p[i] = s.tail[at]
			}
		}
	}
	return len(p), nil
}

func FuzzAnalyze(f *testing.F) {
	for _, e := range examples(f) {
		for i, text := range e.texts {
			f.Add(e.logs[i].Name, text)
		}
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		d := Analyze([]Source{{Name: name, Read: strings.NewReader(text), Rank: -1}})
		var b bytes.Buffer
		if err := d.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		if plain := strings.ReplaceAll(b.String(), "\n", ""); plain != settings.Escape(plain) {
			t.Errorf("not safe to print: %q", plain)
		}
		for _, found := range d.Findings {
			checkWords(t, found)
		}
		if _, err := json.Marshal(d); err != nil {
			t.Error(err)
		}
	})
}
