package tokenizer

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"strings"
	"testing"
	"testing/fstest"
)

// minimalModel is a correct model section; </s> is 3.
const minimalModel = `"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1],["b",-1.5],["</s>",0]]}`

func TestBadTokenizerJSON(t *testing.T) {
	long := strings.Repeat("x", maxPieceBytes+1)
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "expected '{', got the end"},
		{"not JSON", "PK\x03\x04", "expected '{', got 'P'"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "not valid UTF-8"},
		{"cut short", `{"version":"1.0"`, "got the end"},
		{"more after the end", `{` + minimalModel + `}{}`, "more after the end"},
		{"too deep", `{"x":` + strings.Repeat("[", 1000), "nested more than 32 deep"},
		{"version", `{"version":"2.0"}`, `expected version 1.0, got "2.0"`},
		{"no model", `{}`, "no model section"},
		{"other model", `{"model":{"type":"BPE"}}`, `model "BPE" is not supported; expected Unigram`},
		{"empty vocabulary", `{"model":{"unk_id":0,"vocab":[]}}`, "empty vocabulary"},
		{"no unk_id", `{"model":{"vocab":[["a",0]]}}`, "unk_id is missing"},
		{"unk_id too large", `{"model":{"unk_id":1,"vocab":[["a",0]]}}`, "unk_id 1 is not below the vocabulary size 1"},
		{"unk_id negative", `{"model":{"unk_id":-1,"vocab":[["a",0]]}}`, "expected an id from 0"},
		{"unk_id huge", `{"model":{"unk_id":99999999999,"vocab":[["a",0]]}}`, "expected an id from 0"},
		{"score too large", `{"model":{"unk_id":0,"vocab":[["a",1e999]]}}`, "too large"},
		{"score missing", `{"model":{"unk_id":0,"vocab":[["a"]]}}`, "expected 2 values for a piece, got 1"},
		{"three values", `{"model":{"unk_id":0,"vocab":[["a",0,0]]}}`, "got more"},
		{"long piece", `{"model":{"unk_id":0,"vocab":[["` + long + `",0]]}}`, "piece has 513 bytes, limit 512"},
		{"lone surrogate", `{"model":{"unk_id":0,"vocab":[["\ud800",0]]}}`, "expected \\u and four hex digits"},
		{"two high surrogates", `{"model":{"unk_id":0,"vocab":[["\ud800\ud800",0]]}}`, "lone surrogate"},
		{"bad escape", `{"a\q":0}`, `unknown escape \q`},
		{"leading zero", `{"a":00}`, "expected ',' or '}'"},
		{"long added token", `{"added_tokens":[{"id":0,"content":"` + long + `"}]}`, "added token has 513 bytes"},
		{"unknown normaliser", `{` + minimalModel + `,"normalizer":{"type":"BertNormalizer"}}`, "normaliser \"BertNormalizer\" is not supported"},
		{"charsmap not base64", `{` + minimalModel + `,"normalizer":{"type":"Precompiled","precompiled_charsmap":"***"}}`, "precompiled charsmap: illegal base64"},
		{"charsmap too short", `{` + minimalModel + `,"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAA="}}`, "has 2 bytes, expected at least 4"},
		{"charsmap trie too large", `{` + minimalModel + `,"normalizer":{"type":"Precompiled","precompiled_charsmap":"/////wAA"}}`, "trie of 4294967295 bytes in 2"},
		{"pattern", `{` + minimalModel + `,"normalizer":{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "}}`, "is not supported"},
		{"empty match", `{` + minimalModel + `,"normalizer":{"type":"Replace","pattern":{"Regex":"a*"},"content":" "}}`, "matches the empty text"},
		{"long content", `{` + minimalModel + `,"normalizer":{"type":"Replace","pattern":{"String":"a"},"content":"` + long + `"}}`, "content of 513 bytes, limit 128"},
		{"many normalisers", `{"normalizer":{"normalizers":[` + strings.Repeat(`{"type":"Strip"},`, 70) + `{}]}}`, "more than 64"},
		{"unknown pre-tokeniser", `{` + minimalModel + `,"pre_tokenizer":{"type":"ByteLevel"}}`, "pre-tokeniser \"ByteLevel\" is not supported"},
		{"metaspace contradiction", `{` + minimalModel + `,"pre_tokenizer":{"type":"Metaspace","replacement":"_","add_prefix_space":false}}`, "add_prefix_space is false"},
		{"metaspace mark", `{` + minimalModel + `,"pre_tokenizer":{"type":"Metaspace","replacement":"ab"}}`, "is not one character"},
		{"post-processor", `{` + minimalModel + `,"post_processor":{"type":"Bert"}}`, `post-processor "Bert" is not supported`},
		{"template without text", `{` + minimalModel + `,"post_processor":{"type":"TemplateProcessing","single":[],"special_tokens":{}}}`, "lacks the text"},
		{"template with a pair", `{` + minimalModel + `,"post_processor":{"single":[{"Sequence":{"id":"B"}}]}}`, "expected Sequence A"},
		{"template id too large", `{` + minimalModel + `,"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"e"}}],
			"special_tokens":{"e":{"ids":[4]}}}}`, "id 4 of \"e\" is not below the vocabulary size 4"},
		{"template token unknown", `{` + minimalModel + `,"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"SpecialToken":{"id":"e"}}]}}`, "has no ids"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Open(fstest.MapFS{fastFile: {Data: []byte(tc.text)}, spmFile: {Data: []byte("not looked at")}})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), fastFile) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestOpenFiles(t *testing.T) {
	if _, err := Open(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty folder: %v, want fs.ErrNotExist", err)
	}
	big := fstest.MapFS{spmFile: {Data: make([]byte, maxFileBytes+1)}}
	if _, err := Open(big); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("large file: %v", err)
	}
	if _, err := Open(fstest.MapFS{fastFile: {Mode: fs.ModeDir}}); err == nil {
		t.Error("a folder in place of the file: no error")
	}
}

// proto builds protobuf messages for tests.
type proto []byte

func (p proto) key(number, wire int) proto { return binary.AppendUvarint(p, uint64(number<<3|wire)) }
func (p proto) varint(number int, v uint64) proto {
	return binary.AppendUvarint(p.key(number, 0), v)
}
func (p proto) bytes(number int, b []byte) proto {
	return append(binary.AppendUvarint(p.key(number, 2), uint64(len(b))), b...)
}
func (p proto) float(number int, v float32) proto {
	return binary.LittleEndian.AppendUint32(p.key(number, 5), math.Float32bits(v))
}

func protoPiece(text string, score float32, kind uint64) []byte {
	return proto(nil).bytes(1, []byte(text)).float(2, score).varint(3, kind)
}

// handModel is a small spiece.model without byte fallback.
func handModel(extra ...[]byte) proto {
	p := proto(nil).bytes(1, protoPiece("<unk>", 0, pieceUnknown)).bytes(1, protoPiece("</s>", 0, pieceControl))
	for _, e := range extra {
		p = p.bytes(1, e)
	}
	return p
}

func TestBadSpieceModel(t *testing.T) {
	a := protoPiece("a", -1, pieceNormal)
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "no pieces"},
		{"text", []byte("version https://git-lfs.github.com/spec/v1\n"), "protobuf"},
		{"cut in a key", []byte{0x80}, "cut short"},
		{"cut in a length", []byte{0x0A}, "cut short"},
		{"length past the end", []byte{0x0A, 0x7F, 'a'}, "cut short"},
		{"huge length", append([]byte{0x0A}, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), "cut short"},
		{"group", []byte{0x0B}, "wire type 3"},
		{"field zero", []byte{0x00, 0x00}, "out of range"},
		{"piece as number", proto(nil).varint(1, 3), "wire type 0, expected 2"},
		{"empty piece", handModel(protoPiece("", 0, 1)), "piece 2: empty"},
		{"long piece", handModel(protoPiece(strings.Repeat("x", 513), 0, 1)), "513 bytes, limit 512"},
		{"piece not UTF-8", handModel(protoPiece("\xff", 0, 1)), "not valid UTF-8"},
		{"score NaN", handModel(protoPiece("a", float32(math.NaN()), 1)), "score is NaN"},
		{"kind", handModel(protoPiece("a", 0, 9)), "unknown type 9"},
		{"twice", handModel(a, a), "1 of 4 pieces are there twice"},
		{"twice, reserved", handModel(protoPiece("</s>", 0, pieceNormal), a), "piece \"</s>\" is there twice"},
		{"two unknown", handModel(protoPiece("u", 0, pieceUnknown)), "second unknown"},
		{"no normal", handModel(), "no normal pieces"},
		{"no unknown", proto(nil).bytes(1, a), "no unknown piece"},
		{"no end", proto(nil).bytes(1, protoPiece("u", 0, pieceUnknown)).bytes(1, a), `end of sentence "</s>"`},
		{"bpe", handModel(a).bytes(2, proto(nil).varint(3, 2)), "model type is 2"},
		{"suffix", handModel(a).bytes(2, proto(nil).varint(24, 1)), "treat_whitespace_as_suffix"},
		{"byte pieces missing", handModel(a).bytes(2, proto(nil).varint(35, 1)), "<0x00> is missing"},
		{"long replacement", handModel(a).bytes(3, proto(nil).bytes(2, append([]byte{4, 0, 0, 0, 0, 0, 0, 0}, strings.Repeat("x", 129)...))), "replacement of 129 bytes, limit 128"},
		{"charsmap", handModel(a).bytes(3, proto(nil).bytes(2, []byte{1, 0, 0, 0, 9})), "trie of 1 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Open(fstest.MapFS{spmFile: {Data: tc.data}})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), spmFile) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
