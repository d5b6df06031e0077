package tokenizer

import (
	"strings"
	"testing"
)

// BenchmarkEncode encodes 1 MiB of each kind of text.
func BenchmarkEncode(b *testing.B) {
	fast, slow := openTiny(b), openTinySPM(b)
	for _, tc := range []struct{ name, unit string }{
		{"english", "a small robot walks left past the building. "},
		{"chinese", "小猫在海边奔跑,阳光明媚。"},
		{"no spaces", "ab"},
	} {
		text := strings.Repeat(tc.unit, 1<<20/len(tc.unit))
		for name, tok := range map[string]*Tokenizer{fastFile: fast, spmFile: slow} {
			b.Run(name+"/"+tc.name, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					tok.Encode(text, 512)
				}
			})
		}
	}
}
