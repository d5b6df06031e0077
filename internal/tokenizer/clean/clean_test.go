package clean

import (
	"encoding/json"
	"os"
	"testing"
)

// TestVectors compares with what the original libraries made of 400 generated
// texts: mojibake of ten encodings, references, marks, control characters.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	checkVectors(t, data, 400)
}

func checkVectors(t *testing.T, data []byte, want int) {
	t.Helper()
	var file struct {
		Library string
		Cases   []struct{ Text, Cleaned string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < want {
		t.Fatalf("%d cases, want at least %d", len(file.Cases), want)
	}
	bad := 0
	for i, c := range file.Cases {
		if got := Prompt(c.Text); got != c.Cleaned {
			bad++
			if bad <= 20 {
				t.Errorf("case %d of %s:\n text %+q\n got  %+q\n want %+q", i, file.Library, c.Text, got, c.Cleaned)
			}
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d cases differ", bad, len(file.Cases))
	}
}

func TestPrompt(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"only spaces", " \t\n\u3000\u2028 ", ""},
		{"python separators", "a\x1c\x1d\x1e\x1fb", "ab"}, // ftfy removes them first
		{"separators from references", "a&#x85;b", "a\u2026b"},
		{"full-width", "一只小猫，阳光！", "一只小猫,阳光!"},
		{"curly quotes", "“它’s”", `"它's"`},
		{"half-width katakana", "ｶﾞﾗｽ", "ガラス"},
		{"mojibake twice", "Ã¢â‚¬Å“hiÃ¢â‚¬\u009d", `"hi"`},
		{"references twice", "a &amp;amp;lt; b", "a < b"},
		{"reference without semicolon", "AT&amp;T &copy 2024", "AT&T © 2024"},
		{"number out of range", "&#x110000;&#xD800;&#0;", "\ufffd\ufffd\ufffd"},
		{"number of a control", "a&#1;&#x1f;&#xfdd0;b", "ab"},
		{"number of Windows-1252", "&#151;&#x81;", "—\u0081"},
		{"huge number", "&#99999999999999999999999999;", "\ufffd"},
		{"not HTML", "a < b &amp; c", "a < b & c"},
		{"invalid UTF-8", "a\xe4\xb8b\xff", "a\ufffd\ufffdb\ufffd"},
		{"NUL", "a\x00b", "ab"},
		{"terminal colours", "\x1b[1;31mred\x1b[0m", "red"},
		{"right to left", "  שלום   עולם ", "שלום עולם"},
		{"byte order mark", "\ufefftext", "text"},
		{"only emoji", "🎬🏖️", "🎬🏖️"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Prompt(tc.text); got != tc.want {
				t.Errorf("Prompt(%+q)\n got  %+q\n want %+q", tc.text, got, tc.want)
			}
		})
	}
}
