package tokenizer

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

// checkEncoding holds for any tokenizer and text.
func checkEncoding(t *testing.T, tok *Tokenizer, text string, textLen int) {
	t.Helper()
	all := tok.Encode(text, noCut)
	got := tok.Encode(text, textLen)
	for _, e := range []Encoding{all, got} {
		for i, id := range e.IDs {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Errorf("%+q: id %d at %d, vocabulary of %d", text, id, i, tok.VocabSize())
			}
		}
	}
	if all.Cut || all.CutAt != -1 || all.Total != len(all.IDs) {
		t.Errorf("%+q uncut: cut %v at %d, total %d of %d ids", text, all.Cut, all.CutAt, all.Total, len(all.IDs))
	}
	if got.Total != all.Total || len(got.IDs) > max(textLen, 0) {
		t.Errorf("%+q cut to %d: total %d, want %d; %d ids", text, textLen, got.Total, all.Total, len(got.IDs))
	}
	extra := len(tok.prefix) + len(tok.suffix)
	if textLen < extra {
		return
	}
	if got.Cut != (all.Total > textLen) || got.Cut != (got.CutAt >= 0) || got.CutAt >= max(len(text), 1) {
		t.Errorf("%+q cut to %d: cut %v at byte %d of %d, %d ids in all", text, textLen, got.Cut, got.CutAt, len(text), all.Total)
	}
	if got.CutAt >= 0 && utf8.ValidString(text) && !utf8.RuneStart(text[got.CutAt]) {
		t.Errorf("%+q cut to %d: byte %d is inside a character", text, textLen, got.CutAt)
	}
	kept := got.IDs[:len(got.IDs)-len(tok.suffix)]
	if !slices.Equal(kept, all.IDs[:len(kept)]) || !slices.Equal(got.IDs[len(kept):], tok.suffix) {
		t.Errorf("%+q cut to %d: %v is not a beginning of %v with its end", text, textLen, got.IDs, all.IDs)
	}
}

var fuzzTexts = []string{
	"", "a b", " a  ab\u2581b ", "<s></s>", "①\u0301ｶﾞ", "\x00\xff\xf0\x9f", "好吗🎬\u200d", "\r\n\u0600a", strings.Repeat("ab", 300),
}

func FuzzEncode(f *testing.F) {
	for i, s := range fuzzTexts {
		f.Add(s, i)
	}
	toks := []*Tokenizer{openTiny(f), openTinySPM(f)}
	f.Fuzz(func(t *testing.T, text string, textLen int) {
		for _, tok := range toks {
			checkEncoding(t, tok, text, textLen)
		}
	})
}

func FuzzTokenizerJSON(f *testing.F) {
	for _, s := range []string{
		`{` + minimalModel + `}`,
		`{"version":"1.0","added_tokens":[{"id":9,"content":"<s>","lstrip":true,"normalized":true,"single_word":true,"rstrip":true}],
		"normalizer":{"type":"Sequence","normalizers":[{"type":"Strip","strip_left":true,"strip_right":true},
		{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"\u2581"},{"type":"Precompiled","precompiled_charsmap":"CAAAAAAAAAAAAAAAYQA="}]},
		"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"\u2581","split":false}]},
		"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"</s>"}},{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"</s>"}}],
		"special_tokens":{"</s>":{"ids":[3,3]}}},` + strings.Replace(minimalModel, `"unk_id"`, `"byte_fallback":true,"unk_id"`, 1) + `}`,
		`{"model":{"unk_id":0,"vocab":[["\ud83d\ude00",-1e5],["<0x41>",-0.25]]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Open(fstest.MapFS{fastFile: {Data: data}})
		if err != nil {
			return
		}
		for i, text := range fuzzTexts {
			checkEncoding(t, tok, text, 2*i)
		}
	})
}

func FuzzSpieceModel(f *testing.F) {
	bytesModel := handModel(protoPiece("a", -1, pieceNormal), protoPiece("<s>", -1, pieceUserDefined))
	for _, name := range []string{"<0x41>", "<0xFF>"} {
		bytesModel = bytesModel.bytes(1, protoPiece(name, 0, pieceByte))
	}
	f.Add([]byte(bytesModel))
	f.Add([]byte(bytesModel.bytes(2, proto(nil).varint(3, 1).varint(35, 0).bytes(47, []byte("</s>")))))
	f.Add([]byte(bytesModel.bytes(3, proto(nil).bytes(2, []byte("\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00a\x00")).varint(4, 0).varint(5, 0))))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Open(fstest.MapFS{spmFile: {Data: data}})
		if err != nil {
			return
		}
		for i, text := range fuzzTexts {
			checkEncoding(t, tok, text, 2*i)
		}
	})
}
