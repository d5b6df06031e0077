// Package tokenizer turns a cleaned prompt into the token ids of umT5, id for id
// as the official path does.
//
// That path reads tokenizer.json with Hugging Face's Rust library, and this is
// what is reproduced by default, oddities included (file fast.go). When only
// spiece.model is there, the text goes by sentencepiece's own rules (file spm.go),
// which give other ids for rare characters. Which byte fallback, normalisation
// and special tokens apply is read from the file, never assumed.
package tokenizer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Names of the files in the folder google/umt5-xxl.
const (
	fastFile = "tokenizer.json"
	spmFile  = "spiece.model"
)

// Limits on what a file may hold. The real umT5 has 256,384 pieces, a
// tokenizer.json of 17 MB and a spiece.model of 5 MB.
const (
	maxFileBytes   = 64 << 20
	maxPieces      = 1 << 20
	maxPieceBytes  = 512
	maxAddedTokens = 1 << 16
)

// Tokenizer encodes prompts. It is immutable and safe for concurrent use.
type Tokenizer struct {
	model          model
	prefix, suffix []int32 // ids set before and after those of the text; suffix is </s>
	vocabSize      int
}

// model encodes a text without the template's ids.
type model interface {
	encode(text aligned, out *sink)
}

// Encoding is an encoded prompt.
type Encoding struct {
	// IDs are the token ids as the text encoder gets them: </s> included, cut to
	// the text length, not padded.
	IDs []int32
	// Cut says that not all of the text fitted.
	Cut bool
	// CutAt is the byte offset in the text at which the first dropped token
	// begins (its space included), -1 if none was dropped.
	CutAt int
	// Total is the number of ids that there would be without a cut.
	Total int
}

// Open reads the tokenizer of a checkpoint. fsys is its folder google/umt5-xxl:
// tokenizer.json if it exists, otherwise spiece.model.
// Errors: fs.ErrNotExist if there is neither.
func Open(fsys fs.FS) (*Tokenizer, error) {
	for _, f := range []struct {
		name  string
		parse func([]byte) (*Tokenizer, error)
	}{
		{fastFile, parseFast},
		{spmFile, parseSPM},
	} {
		data, err := readBounded(fsys, f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t, err := f.parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		return t, nil
	}
	return nil, fmt.Errorf("neither %s nor %s in the tokenizer folder: %w", fastFile, spmFile, fs.ErrNotExist)
}

func readBounded(fsys fs.FS, name string) ([]byte, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d MiB, the limit for a tokenizer file", name, maxFileBytes>>20)
	}
	return data, nil
}

// VocabSize is one more than the largest id that Encode can give. The text
// encoder's embedding needs at least that many rows.
func (t *Tokenizer) VocabSize() int { return t.vocabSize }

// Encode returns the ids of a cleaned prompt, at most textLen of them. On
// overflow the text's ids are cut and </s> still ends. Bytes that are not UTF-8
// count as U+FFFD.
func (t *Tokenizer) Encode(text string, textLen int) Encoding {
	extra := len(t.prefix) + len(t.suffix)
	out := &sink{room: max(textLen-extra, 0), cutAt: -1}
	out.ids = append(out.ids, t.prefix...)
	t.model.encode(newAligned(text), out)
	out.ids = append(out.ids, t.suffix...)
	return Encoding{
		IDs:   out.ids[:min(len(out.ids), max(textLen, 0))],
		Cut:   out.total > out.room,
		CutAt: out.cutAt,
		Total: out.total + extra,
	}
}

// sink takes the ids of a text, keeps those that fit and counts all.
type sink struct {
	ids   []int32
	room  int // ids of the text that fit
	total int
	cutAt int
}

func (s *sink) add(id int32, src int) {
	switch {
	case s.total < s.room:
		s.ids = append(s.ids, id)
	case s.total == s.room:
		s.cutAt = src
	}
	s.total++
}
