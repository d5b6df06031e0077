package tokenizer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"
)

// TestSPMFlags runs hand-made models: the flags of the file decide.
func TestSPMFlags(t *testing.T) {
	pieces := [][]byte{
		protoPiece(spaceMark, -2, pieceNormal),       // 2
		protoPiece("a", -1, pieceNormal),             // 3
		protoPiece("aa", -1.5, pieceNormal),          // 4
		protoPiece("aaa", -0.1, pieceUnused),         // 5
		protoPiece("<x>", -100, pieceUserDefined),    // 6
		protoPiece(spaceMark+"a", -1.2, pieceNormal), // 7
		protoPiece(" ", -1, pieceNormal),             // 8
	}
	for _, tc := range []struct {
		name, text string
		normalizer proto
		want       []int32
	}{
		{"a run of unknown is one", "a好吗a", nil, []int32{7, 0, 3, 1}},
		{"separate runs", "好a好", nil, []int32{2, 0, 3, 0, 1}},
		{"unused piece", "aaa", nil, []int32{7, 4, 1}},
		{"user-defined wins", "a<x>a", nil, []int32{7, 6, 3, 1}},
		{"control is text", "</s>", nil, []int32{2, 0, 1}},
		{"space collapsed", "  a   a ", nil, []int32{7, 7, 1}},
		{"space kept", " a  a ", proto(nil).varint(4, 0), []int32{2, 7, 2, 7, 2, 1}},
		{"no prefix", "a a", proto(nil).varint(3, 0), []int32{3, 7, 1}},
		{"no marks", "a a", proto(nil).varint(5, 0), []int32{8, 3, 8, 3, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			model := handModel(pieces...)
			if tc.normalizer != nil {
				model = model.bytes(3, tc.normalizer)
			}
			tok := open(t, fstest.MapFS{spmFile: {Data: model}})
			if got := tok.Encode(tc.text, noCut).IDs; !slices.Equal(got, tc.want) {
				t.Errorf("Encode(%q) = %v, want %v", tc.text, got, tc.want)
			}
		})
	}
}

// TestSerdeFloat has values that serde_json reads otherwise than Go.
func TestSerdeFloat(t *testing.T) {
	for _, tc := range []struct {
		text string
		want float64
		ok   bool
	}{
		{"0", 0, true},
		{"-0.0", math.Copysign(0, -1), true},
		{"-3.5", -3.5, true},
		{"12", 12, true},
		{"1e-3", 0.001, true},
		{"-2.5E+2", -250, true},
		{"2.00000000000000123", float64(200000000000000123) / 1e17, true},
		{"18446744073709551615", 18446744073709551615, true},
		{"184467440737095516159", 184467440737095516150, true},
		{"1.84467440737095516159", float64(18446744073709551615) / 1e19, true},
		{"1e-400", 0, true},
		{"0e999999999999999999999", 0, true},
		{"1e308", 1e308, true},
		{"1e309", 0, false},
		{"1e99999999999999999999", 0, false},
	} {
		got, ok := serdeFloat(tc.text)
		if ok != tc.ok || ok && (got != tc.want || math.Signbit(got) != math.Signbit(tc.want)) {
			t.Errorf("serdeFloat(%s) = %v, %v; want %v, %v", tc.text, got, ok, tc.want, tc.ok)
		}
	}
}

// TestTrie compares with a map.
func TestTrie(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOf(rapid.StringOf(rapid.SampledFrom([]rune("ab\u2581好")))).Draw(t, "pieces")
		ids := make([]int32, len(pieces))
		want := make(map[string]int32)
		for i, p := range pieces {
			ids[i] = int32(i)
			want[p] = int32(i)
		}
		delete(want, "")
		tr := newTrie(pieces, ids)
		for p, id := range want {
			if got := tr.lookup([]byte(p)); got != id {
				t.Fatalf("lookup(%q) = %d, want %d", p, got, id)
			}
		}
		text := rapid.StringOf(rapid.SampledFrom([]rune("ab\u2581好c"))).Draw(t, "text")
		wantID, wantLen := noID, 0
		for n := 1; n <= len(text); n++ {
			if id, ok := want[text[:n]]; ok {
				wantID, wantLen = id, n
			}
		}
		if id, n := tr.longest([]byte(text)); id != wantID || n != wantLen {
			t.Fatalf("longest(%q) = %d, %d; want %d, %d", text, id, n, wantID, wantLen)
		}
		if _, ok := want[text]; !ok && tr.lookup([]byte(text)) != noID {
			t.Fatalf("lookup(%q) found a piece that is not there", text)
		}
	})
}

// TestAddedTokenID: the id of an added token comes from the vocabulary or from
// its order, not from the file.
func TestAddedTokenID(t *testing.T) {
	tok := open(t, fstest.MapFS{fastFile: {Data: []byte(`{"added_tokens":[
		{"id":77,"content":"new"},{"id":5,"content":"b"},{"id":9,"content":"newer"}],` + minimalModel + `}`)}})
	if got, want := tok.Encode("newbnewera", noCut).IDs, []int32{4, 2, 5, 1}; !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v", got, want)
	}
	if tok.VocabSize() != 6 {
		t.Errorf("vocabulary of %d, want 6", tok.VocabSize())
	}
}

// TestGrowth: steps that multiply the text reach a bound.
func TestGrowth(t *testing.T) {
	steps := strings.Repeat(`{"type":"Replace","pattern":{"String":"a"},"content":"`+strings.Repeat("a", 100)+`"},`, 20)
	tok := open(t, fstest.MapFS{fastFile: {Data: []byte(`{` + minimalModel + `,"normalizer":{"type":"Sequence","normalizers":[` +
		steps + `{"type":"Strip"}]}}`)}})
	const text = "aaaa"
	if got, limit := tok.Encode(text, 8).Total, maxGrowth*len(text)+1024; got == 0 || got > limit {
		t.Errorf("%d ids of %q, want 1 to %d", got, text, limit)
	}
}

// synthetic makes a tokenizer.json and a spiece.model of n pieces with umT5's
// proportions: words of several scripts, a few long ones.
func synthetic(n int) (tokenizerJSON, spieceModel []byte) {
	var b strings.Builder
	b.WriteString(`{"version":"1.0","normalizer":null,"pre_tokenizer":{"type":"Metaspace","replacement":"▁","add_prefix_space":true},` +
		`"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"</s>","type_id":0}}],` +
		`"special_tokens":{"</s>":{"id":"</s>","ids":[1],"tokens":["</s>"]}}},` +
		`"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["</s>",0.0]`)
	model := handModel()
	state := uint64(1)
	next := func(k uint64) uint64 { // xorshift
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		return state % k
	}
	alphabets := []struct{ first, count uint64 }{{'a', 26}, {'a', 26}, {0x430, 32}, {0x4E00, 20000}, {0x621, 36}, {0xAC00, 11000}}
	seen := map[string]bool{"<unk>": true, "</s>": true}
	for len(seen) < n {
		alphabet := alphabets[next(uint64(len(alphabets)))]
		length := 1 + next(4) + next(6)
		if alphabet.count > 1000 {
			length = 1 + next(3)
		}
		piece := ""
		if next(2) == 0 {
			piece = spaceMark
		}
		for range length {
			piece += string(rune(alphabet.first + next(alphabet.count)))
		}
		if seen[piece] {
			continue
		}
		seen[piece] = true
		score := -8 - 8*float64(len(seen))/float64(n)
		fmt.Fprintf(&b, `,["%s",%.16g]`, piece, score)
		model = model.bytes(1, protoPiece(piece, float32(score), pieceNormal))
	}
	b.WriteString(`]}}`)
	return []byte(b.String()), model
}

// BenchmarkOpen256k loads a vocabulary of umT5's size.
func BenchmarkOpen256k(b *testing.B) {
	tokenizerJSON, spieceModel := synthetic(256_384)
	for name, data := range map[string][]byte{fastFile: tokenizerJSON, spmFile: spieceModel} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				open(b, fstest.MapFS{name: {Data: data}})
			}
		})
	}
}

// BenchmarkEncode256k encodes 1 MiB with a vocabulary of umT5's size.
func BenchmarkEncode256k(b *testing.B) {
	tokenizerJSON, spieceModel := synthetic(256_384)
	text := strings.Repeat("a small robot walks past 小猫在海边奔跑 здание 서울의 밤. ", 1<<20/76)
	for name, data := range map[string][]byte{fastFile: tokenizerJSON, spmFile: spieceModel} {
		tok := open(b, fstest.MapFS{name: {Data: data}})
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tok.Encode(text, 512)
			}
		})
	}
}
