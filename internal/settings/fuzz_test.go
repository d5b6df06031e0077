package settings

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		files["run.yaml"], "", "# nothing\n", "steps: 3\nsteps: 4", "steps: 3\nsample_steps: 4", "- a", "a: b: c", "steps: [1]", "steps: {a: 1}",
		"prompt: |\n  a\n  b\n", "prompt: >-\n  a\n", "? a\n: b", "&a steps: *a", "steps: !!int 3", "%YAML 1.2\n---\nsteps: 3\n...\n---\nx", "steps:", "steps: ~",
		"\"steps\": 0x1F", "prompt: \"\\u0000\"", "shift: .nan", "a:\n b:\n  c:\n   d: 1", "<<: 3", "prompt: 'it''s'", "\tsteps: 3", "steps: 3 # three", "prompt: a #b",
	} {
		f.Add([]byte(s))
	}
	flags := Flags()
	f.Fuzz(func(t *testing.T, data []byte) {
		given, err := readConfig(flags, "f.yaml", data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("error is not one line: %q", err)
			}
			return
		}
		for name, g := range given {
			if _, ok := lookup(flags, name); !ok || !utf8.ValidString(g.Text) || g.From == "" {
				t.Errorf("setting %q from %+v", name, g)
			}
		}
	})
}

func FuzzArgs(f *testing.F) {
	for _, s := range []string{"--steps 3", "-o x", "--offload_model True", "--", "--=", "-", "--steps=", "-vq", "--no-such", "-\xff", "--a\x1b=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		_, err := resolve(t, nil, strings.Split(line, " ")...)
		if err != nil && len(err.Error()) > len(line)*8+2000 {
			t.Errorf("error of %d bytes", len(err.Error()))
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[31m\u202eb\xff\u0085\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		e := Escape(s)
		if !isPlain(e) {
			t.Errorf("Escape(%q) = %q is not plain", s, e)
		}
		if isPlain(s) && e != s {
			t.Errorf("plain %q came out as %q", s, e)
		}
	})
}

func TestConfigRefusals(t *testing.T) {
	for _, tc := range []struct{ file, words string }{
		{"stepps: 3", "f.yaml:1: stepps: unknown key; did you mean steps?"},
		{"steps: 3\nsteps: 4", "f.yaml|steps"},
		{"steps: 3\nsample_steps: 4", "f.yaml:2: sample_steps: set before, as f.yaml:1: steps"},
		{"\n\nexplain: true", "f.yaml:3: explain: only the command line sets this"},
		{"config: b.yaml", "cannot name another"},
		{"steps:", "no value"},
		{"- steps", "lists and nested values"},
		{"steps: [3]", "line 1: lists and nested values"},
		{"steps:\n  a: 3", "want one plain value"},
		{"a: &x 3", "anchors"},
		{"size: *x", "anchors"},
		{"prompt: a: b", "line 1"},
		{"steps", "KEY: VALUE"},
		{"steps: 3\n---\nsteps: 4", "more than one YAML document"},
		{"prompt: \"abc", "f.yaml"},
		{"prompt: \xff", "not UTF-8"},
		{strings.Repeat("a", MaxConfigBytes+1), "more than"},
		{strings.Repeat("[", 100_000), "lists and nested"},
		{strings.Repeat("- ", 100_000), "lists and nested"},
		{strings.Repeat("? ", 100_000), "lists and nested"},
		{strings.Repeat("a: ", 100_000), "two keys"},
	} {
		_, err := readConfig(Flags(), "dir/f.yaml", []byte(tc.file))
		if err == nil {
			t.Errorf("%.40q: accepted", tc.file)
			continue
		}
		for _, w := range strings.Split(tc.words, "|") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%.40q: error %q lacks %q", tc.file, err, w)
			}
		}
	}
}

func TestConfigValues(t *testing.T) {
	for file, want := range map[string]string{
		"prompt: plain":              "plain",
		"prompt: 'it''s: #1'":        "it's: #1",
		"prompt: \"a\\nb\"":          "a\nb",
		"prompt: |\n  a\n  b\n":      "a\nb\n",
		"prompt: 12":                 "12",
		"prompt: 0x10":               "0x10",
		"prompt: 1.50":               "1.50",
		"prompt: True":               "True",
		"prompt: \"\"":               "",
		"prompt: \"红球向右\" # comment": "红球向右",
		"prompt: 832*480":            "832*480",
		"# only\n\nprompt: x\n# end": "x",
	} {
		given, err := readConfig(Flags(), "f.yaml", []byte(file))
		if g, ok := given["prompt"]; err != nil || !ok || g.Text != want {
			t.Errorf("%q gives %q (%v), want %q", file, g.Text, err, want)
		}
	}
}

// TestLongConfig: reading is not much slower than the file is long.
func TestLongConfig(t *testing.T) {
	for _, file := range []string{
		"prompt: " + strings.Repeat("a", MaxPromptBytes),
		"prompt: \"" + strings.Repeat("a ", MaxPromptBytes/2) + "\"",
		"prompt: |\n" + strings.Repeat("  a b c d e f g h i j k l m n o p\n", MaxPromptBytes/40),
		strings.Repeat("# comment\n", MaxPromptBytes/10),
		strings.Repeat("\n", MaxPromptBytes),
	} {
		start := time.Now()
		if _, err := readConfig(Flags(), "f.yaml", []byte(file)); err != nil {
			t.Errorf("%.20q...: %v", file, err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%.20q...: %v", file, took)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"frames", "frame-num", "steps", "seed", "size", "guide-scale"}
	for word, want := range map[string]string{
		"frame": "frames", "framse": "frames", "STEPS": "steps", "sede": "seed", "guide": "guide-scale", "xyz": "", "": "", "qqqqqqqqqq": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
