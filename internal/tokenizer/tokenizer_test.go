package tokenizer

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/wanrun/wanrun/internal/tokenizer/clean"
)

const demoFolder = "../../examples/demo-model/checkpoint/google/umt5-xxl"

// tiny is a 4000-piece tokenizer in umT5's layout; demo belongs to the demo model.
func openTiny(t testing.TB) *Tokenizer { return open(t, os.DirFS("testdata/umt5-tiny")) }

// openTinySPM is the same vocabulary without its tokenizer.json.
func openTinySPM(t testing.TB) *Tokenizer {
	return open(t, fstest.MapFS{spmFile: {Data: readFile(t, "testdata/umt5-tiny/"+spmFile)}})
}

func open(t testing.TB, fsys fs.FS) *Tokenizer {
	t.Helper()
	tok, err := Open(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(readFile(t, name), v); err != nil {
		t.Fatal(err)
	}
}

// diff says where two id lists part.
func diff(got, want []int32) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%d ids, want %d; first difference at %d:\n got  ...%v\n want ...%v",
		len(got), len(want), i, tail(got, i), tail(want, i))
}

func tail(ids []int32, i int) []int32 { return ids[min(i, len(ids)):min(i+12, len(ids))] }

const noCut = 1 << 30

// TestGolden compares with what the original code made of 37 prompts.
func TestGolden(t *testing.T) {
	var golden struct {
		Cases []struct {
			Name, Text, Cleaned string
			IDs                 []int32 `json:"ids_untruncated"`
			SlowIDs             []int32 `json:"ids_slow_byte_fallback"`
			Len512              int     `json:"len_512"`
			Len64               int     `json:"len_64"`
			Tail512             []int32 `json:"tail_512"`
			Tail64              []int32 `json:"tail_64"`
		}
	}
	readJSON(t, "testdata/tokenizer_golden.json", &golden)
	if len(golden.Cases) != 37 {
		t.Fatalf("%d cases, want 37", len(golden.Cases))
	}
	fast, slow := openTiny(t), openTinySPM(t)
	for _, c := range golden.Cases {
		t.Run(c.Name, func(t *testing.T) {
			cleaned := clean.Prompt(c.Text)
			if cleaned != c.Cleaned {
				t.Fatalf("cleaned %+q\nwant    %+q", cleaned, c.Cleaned)
			}
			got := fast.Encode(cleaned, noCut)
			if !slices.Equal(got.IDs, c.IDs) {
				t.Errorf("tokenizer.json: %s", diff(got.IDs, c.IDs))
			}
			if got.Cut || got.CutAt != -1 || got.Total != len(c.IDs) {
				t.Errorf("uncut: %+v, want total %d", got, len(c.IDs))
			}
			if got := slow.Encode(cleaned, noCut).IDs; !slices.Equal(got, c.SlowIDs) {
				t.Errorf("spiece.model: %s", diff(got, c.SlowIDs))
			}
			checkCut(t, fast.Encode(cleaned, 512), 512, c.Len512, c.Tail512, c.IDs)
			checkCut(t, fast.Encode(cleaned, 64), 64, c.Len64, c.Tail64, c.IDs)
		})
	}
}

func checkCut(t *testing.T, got Encoding, textLen, wantLen int, wantTail, all []int32) {
	t.Helper()
	if len(got.IDs) != wantLen || !slices.Equal(got.IDs[len(got.IDs)-len(wantTail):], wantTail) {
		t.Errorf("cut to %d: %d ids, want %d; ends %v, want %v", textLen, len(got.IDs), wantLen,
			got.IDs[max(0, len(got.IDs)-len(wantTail)):], wantTail)
	}
	if !slices.Equal(got.IDs[:wantLen-1], all[:wantLen-1]) {
		t.Errorf("cut to %d: %s", textLen, diff(got.IDs, all))
	}
	if wantCut := len(all) > textLen; got.Cut != wantCut || (got.CutAt >= 0) != wantCut || got.Total != len(all) {
		t.Errorf("cut to %d: cut %v at %d, total %d; want %v, total %d", textLen, got.Cut, got.CutAt, got.Total, wantCut, len(all))
	}
}

// TestDemo encodes the prompts of the demo model's expected cases.
func TestDemo(t *testing.T) {
	var cases []struct {
		Prompt   string
		NPrompt  string  `json:"n_prompt"`
		IDs      []int32 `json:"token_ids"`
		Negative []int32 `json:"negative_token_ids"`
	}
	readJSON(t, "../../examples/demo-model/expected/cases.json", &cases)
	if len(cases) != 3 {
		t.Fatalf("%d cases, want 3", len(cases))
	}
	// The official negative prompt for i2v, which an empty one stands for.
	const official = "镜头晃动，色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，" +
		"丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，" +
		"三条腿，背景人很多，倒着走"
	for name, tok := range map[string]*Tokenizer{
		fastFile: open(t, os.DirFS(demoFolder)),
		spmFile:  open(t, fstest.MapFS{spmFile: {Data: readFile(t, demoFolder+"/"+spmFile)}}),
	} {
		for _, c := range cases {
			if c.NPrompt == "" {
				c.NPrompt = official
			}
			if got := tok.Encode(clean.Prompt(c.Prompt), 512).IDs; !slices.Equal(got, c.IDs) {
				t.Errorf("%s, %q: %s", name, c.Prompt, diff(got, c.IDs))
			}
			if got := tok.Encode(clean.Prompt(c.NPrompt), 512).IDs; !slices.Equal(got, c.Negative) {
				t.Errorf("%s, %q: %s", name, c.NPrompt, diff(got, c.Negative))
			}
		}
	}
}

// TestCutAt cuts at every length: what is before the cut encodes to the ids that
// were kept, and the cut is never inside a character.
func TestCutAt(t *testing.T) {
	tok := openTiny(t)
	for _, text := range []string{
		"A white cat wears sunglasses on a surfboard.",
		"一只小猫 running 🏃\u200d♂️ in the ﬁne 雨, １２３ ½",
		"literal </s> and <extra_id_0> inside",
	} {
		all := tok.Encode(text, noCut)
		last := 0
		for n := 1; n < all.Total; n++ {
			got := tok.Encode(text, n)
			if !got.Cut || len(got.IDs) != n || got.IDs[n-1] != 1 || got.Total != all.Total {
				t.Fatalf("%q cut to %d: %+v", text, n, got)
			}
			if got.CutAt < last || got.CutAt >= len(text) || text[got.CutAt]&0xC0 == 0x80 {
				t.Errorf("%q cut to %d: at byte %d, after %d", text, n, got.CutAt, last)
			}
			last = got.CutAt
		}
	}
	const text = "one two three"
	got := tok.Encode(text, 3)
	kept := tok.Encode(text[:got.CutAt], noCut)
	if !slices.Equal(kept.IDs, got.IDs) {
		t.Errorf("Encode(%q, 3): cut at %d, ids %v; the text up to there has %v", text, got.CutAt, got.IDs, kept.IDs)
	}
}

func TestOddText(t *testing.T) {
	for name, tok := range map[string]*Tokenizer{fastFile: openTiny(t), spmFile: openTinySPM(t)} {
		for _, tc := range []struct {
			name, text string
			textLen    int
		}{
			{"empty", "", 512},
			{"no room", "a cat", 0},
			{"negative room", "a cat", -5},
			{"room for the end only", "a cat", 1},
			{"invalid UTF-8", "a\xff\xe4\xb8 cat", 512},
			{"NUL", "a\x00cat", 512},
			{"only emoji", strings.Repeat("🎬🏖️👩‍👩‍👧", 400), 512},
			{"right to left", strings.Repeat("שלום עולם مرحبا ", 300), 512},
			{"one megabyte", strings.Repeat("a small robot 走过 the house. ", 1<<20/30), 512},
			{"one megabyte without spaces", strings.Repeat("ab", 1<<19), 512},
			{"one megabyte of marks", "e" + strings.Repeat("\u0301", 1<<19), 512},
		} {
			t.Run(name+"/"+tc.name, func(t *testing.T) {
				got := tok.Encode(tc.text, tc.textLen)
				if len(got.IDs) > max(tc.textLen, 0) {
					t.Errorf("%d ids, want at most %d", len(got.IDs), tc.textLen)
				}
				if tc.textLen > 0 && (len(got.IDs) == 0 || got.IDs[len(got.IDs)-1] != 1) {
					t.Errorf("ids %v do not end in 1", got.IDs)
				}
				for i, id := range got.IDs {
					if id < 0 || int(id) >= tok.VocabSize() {
						t.Errorf("id %d at %d, vocabulary of %d", id, i, tok.VocabSize())
					}
				}
				if got.Cut != (got.Total > max(tc.textLen, 1)) {
					t.Errorf("cut %v with %d ids in all, text length %d", got.Cut, got.Total, tc.textLen)
				}
			})
		}
	}
}
