package tokenizer

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"testing/fstest"
)

// layout is tokenizer.json as a tree, scores kept digit by digit.
type layout map[string]any

func tinyLayout(t testing.TB) layout {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(readFile(t, "testdata/umt5-tiny/"+fastFile)))
	d.UseNumber()
	var l layout
	if err := d.Decode(&l); err != nil {
		t.Fatal(err)
	}
	return l
}

// set replaces the section of that name.
func (l layout) set(t testing.TB, section, value string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	l[section] = v
}

func (l layout) append(t testing.TB, list *any, value string) {
	t.Helper()
	var more []any
	if err := json.Unmarshal([]byte(value), &more); err != nil {
		t.Fatal(err)
	}
	*list = append((*list).([]any), more...)
}

func (l layout) open(t testing.TB) *Tokenizer {
	t.Helper()
	data, err := json.Marshal(map[string]any(l))
	if err != nil {
		t.Fatal(err)
	}
	return open(t, fstest.MapFS{fastFile: {Data: data}})
}

// TestRustVectors compares with the Rust library on 300 generated texts in each
// of seven layouts.
func TestRustVectors(t *testing.T) {
	var file struct {
		Texts []string
		IDs   map[string][][]int32
	}
	readJSON(t, "testdata/rust_vectors.json", &file)
	layouts := map[string]func(*testing.T, layout){
		"base":  func(*testing.T, layout) {},
		"bytes": func(_ *testing.T, l layout) { l["model"].(map[string]any)["byte_fallback"] = true },
		"wsplit": func(t *testing.T, l layout) {
			l.set(t, "pre_tokenizer", `{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},
				{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}]}`)
		},
		"first": func(t *testing.T, l layout) {
			l.set(t, "pre_tokenizer", `{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true}`)
		},
		"never": func(t *testing.T, l layout) {
			l.set(t, "pre_tokenizer", `{"type":"Metaspace","replacement":"▁","prepend_scheme":"never","split":false}`)
			n := l["normalizer"].(map[string]any)
			list := n["normalizers"]
			l.append(t, &list, `[{"type":"Strip","strip_left":true,"strip_right":true},
				{"type":"Replace","pattern":{"String":"o"},"content":"ab"}]`)
			n["normalizers"] = list
		},
		"added": func(t *testing.T, l layout) {
			list := l["added_tokens"]
			l.append(t, &list, `[
				{"id":4300,"content":"robot","single_word":true,"lstrip":false,"rstrip":false,"normalized":false,"special":false},
				{"id":4301,"content":"ro","single_word":false,"lstrip":true,"rstrip":true,"normalized":true,"special":false},
				{"id":4302,"content":"fi","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false},
				{"id":4303,"content":"cat","single_word":false,"lstrip":true,"rstrip":false,"normalized":false,"special":false},
				{"id":4304,"content":"ｅ","single_word":false,"lstrip":false,"rstrip":false,"normalized":true,"special":false},
				{"id":4305,"content":"the","single_word":true,"lstrip":false,"rstrip":true,"normalized":false,"special":false},
				{"id":4306,"content":"小","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":false}]`)
			l["added_tokens"] = list
		},
	}
	toks := map[string]*Tokenizer{"demo": open(t, os.DirFS(demoFolder))}
	for name, edit := range layouts {
		l := tinyLayout(t)
		edit(t, l)
		toks[name] = l.open(t)
	}
	for name, tok := range toks {
		if len(file.Texts) != 300 || len(file.IDs[name]) != 300 {
			t.Fatalf("%s: %d texts, %d results, want 300", name, len(file.Texts), len(file.IDs[name]))
		}
		for i, text := range file.Texts {
			if got := tok.Encode(text, noCut).IDs; !slices.Equal(got, file.IDs[name][i]) {
				t.Errorf("%s, text %d %+q: %s", name, i, text, diff(got, file.IDs[name][i]))
			}
		}
	}
}

// TestSentencepieceVectors compares spiece.model alone with sentencepiece on 360
// texts, 60 of them made of ties.
func TestSentencepieceVectors(t *testing.T) {
	var file struct {
		Texts []string
		IDs   [][]int32
	}
	readJSON(t, "testdata/spm_vectors.json", &file)
	tok := openTinySPM(t)
	if len(file.Texts) != 360 || len(file.IDs) != 360 {
		t.Fatalf("%d texts, %d results, want 360", len(file.Texts), len(file.IDs))
	}
	for i, text := range file.Texts {
		want := append(slices.Clone(file.IDs[i]), 1)
		if got := tok.Encode(text, noCut).IDs; !slices.Equal(got, want) {
			t.Errorf("text %d %+q: %s", i, text, diff(got, want))
		}
	}
}

// TestNumberTies holds texts whose ids depend on how a score of 17 digits is
// rounded.
func TestNumberTies(t *testing.T) {
	var file struct {
		Tokenizer string
		Texts     []string
		IDs       [][]int32
	}
	readJSON(t, "testdata/number_ties.json", &file)
	tok := open(t, fstest.MapFS{fastFile: {Data: []byte(file.Tokenizer)}})
	if len(file.Texts) < 50 {
		t.Fatalf("%d texts, want at least 50", len(file.Texts))
	}
	for i, text := range file.Texts {
		if got := tok.Encode(text, noCut).IDs; !slices.Equal(got, file.IDs[i]) {
			t.Errorf("text %d %q: %s", i, text, diff(got, file.IDs[i]))
		}
	}
}
