package clean

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzPrompt checks what holds for any bytes: no panic, valid UTF-8, whitespace
// collapsed; and that repairing a line that is repaired already changes nothing.
func FuzzPrompt(f *testing.F) {
	for _, s := range []string{
		"", "a cat", "Itâ€™s", "&amp;lt;&#x85;", "\xff\xfe", "e\u0301\u0301", "Ã \xa0À\n", "ŉ\r\n<", "â€\ufffd ÂÃ",
		"\xed\xa0\x80", strings.Repeat("\u0316\u0301", 40), "&NTILDE;&nGt;", "í\u00a0\u0080í°\u0080",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Prompt(s)
		if !utf8.ValidString(got) {
			t.Errorf("Prompt(%+q) = %+q is not UTF-8", s, got)
		}
		if collapseSpace(got) != got {
			t.Errorf("Prompt(%+q) = %+q has white space left over", s, got)
		}
		if strings.Count(s, "&") >= maxPasses {
			return // may hold references nested deeper than they are followed
		}
		once := fixText(decode(s))
		if strings.Contains(once, "\n") {
			return // new line breaks make new segments, here as in ftfy
		}
		if twice := fixText(decode(once)); twice != once {
			t.Errorf("fixText(%+q) = %+q, and again = %+q", s, once, twice)
		}
	})
}

// BenchmarkPrompt cleans 1 MiB of each kind of text, the last two made to be slow.
func BenchmarkPrompt(b *testing.B) {
	for _, tc := range []struct{ name, unit string }{
		{"english", "a small robot walks left past the building. "},
		{"chinese", "小猫在海边奔跑，阳光明媚。"},
		{"mojibake", "â€œItâ€™s a cafÃ©â€\u009d "},
		{"marks", "e\u0301\u0316"},
		{"nested references", "amp;"},
		{"ampersands", "&"},
		{"partly mojibake", "жâ€™Ã©漢"},
	} {
		text := strings.Repeat(tc.unit, 1<<20/len(tc.unit))
		if tc.name == "nested references" {
			text = "&" + text
		}
		b.Run(tc.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				Prompt(text)
			}
		})
	}
}
