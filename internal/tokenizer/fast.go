package tokenizer

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// fast is tokenizer.json with the semantics of Hugging Face's tokenizers
// library, 0.22: special tokens are found in the raw text, what lies between is
// normalised, split, and each part is segmented on its own.
type fast struct {
	raw           addedTokens // found before normalisation
	normalised    addedTokens // found after it
	normalizers   []normalizer
	pretokenizers []pretokenizer
	model         *unigram
}

func (f *fast) encode(text aligned, out *sink) {
	var l lattice
	f.raw.split(text, func(raw aligned) {
		f.normalised.split(f.normalize(raw), func(part aligned) {
			f.encodePart(part, &l, out)
		}, out.add)
	}, out.add)
}

func (f *fast) normalize(text aligned) aligned {
	for _, n := range f.normalizers {
		text = n.normalize(text)
	}
	return text
}

func (f *fast) encodePart(part aligned, l *lattice, out *sink) {
	parts := []aligned{part}
	for _, p := range f.pretokenizers {
		var next []aligned
		for _, part := range parts {
			next = append(next, p.split(part)...)
		}
		parts = next
	}
	for _, part := range parts {
		f.model.encode(part, l, out)
	}
}

// fastFields is what is read from tokenizer.json before it is put together: the
// sections may come in any order.
type fastFields struct {
	added         []addedToken
	normalizer    *step
	pretokenizer  *step
	template      []templatePiece
	specials      map[string][]int32
	hasTemplate   bool
	pieces        []string
	scores        []float64
	unknown       int32
	byteFallback  bool
	modelIsInFile bool
}

// templatePiece is the text itself (special == "") or a special token.
type templatePiece struct{ special string }

func parseFast(data []byte) (*Tokenizer, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	r := &jsonReader{text: string(data)}
	var f fastFields
	if err := r.object(func(key string) error { return f.section(r, key) }); err != nil {
		return nil, err
	}
	if r.peek() != 0 || r.pos != len(r.text) {
		return nil, r.errorf("more after the end of the object")
	}
	return f.build()
}

func (f *fastFields) section(r *jsonReader, key string) error {
	steps := maxSteps
	switch key {
	case "version":
		v, err := r.str()
		if err == nil && v != "1.0" {
			err = fmt.Errorf("expected version 1.0, got %s", quoteShort(v))
		}
		return err
	case "added_tokens":
		return r.array(func() error { return f.addedToken(r) })
	case "normalizer", "pre_tokenizer":
		if r.null() {
			return nil
		}
		s, err := r.step(&steps)
		if key == "normalizer" {
			f.normalizer = &s
		} else {
			f.pretokenizer = &s
		}
		return err
	case "post_processor":
		if r.null() {
			return nil
		}
		return f.postProcessor(r)
	case "model":
		return f.modelSection(r)
	}
	return r.skip() // truncation and padding are the caller's, decoding is not needed
}

func (f *fastFields) addedToken(r *jsonReader) error {
	if len(f.added) == maxAddedTokens {
		return r.errorf("more than %d added tokens", maxAddedTokens)
	}
	var t addedToken
	err := r.object(func(key string) (err error) {
		switch key {
		case "id":
			_, err = r.id() // see assignIDs
		case "content":
			t.content, err = r.str()
		case "single_word":
			t.singleWord, err = r.boolean()
		case "lstrip":
			t.lstrip, err = r.boolean()
		case "rstrip":
			t.rstrip, err = r.boolean()
		case "normalized":
			t.normalized, err = r.boolean()
		default:
			err = r.skip()
		}
		return err
	})
	if err == nil && len(t.content) > maxPieceBytes {
		err = r.errorf("added token has %d bytes, limit %d", len(t.content), maxPieceBytes)
	}
	if t.content != "" {
		f.added = append(f.added, t)
	}
	return err
}

func (f *fastFields) postProcessor(r *jsonReader) error {
	kind := ""
	err := r.object(func(key string) (err error) {
		switch key {
		case "type":
			kind, err = r.str()
		case "single":
			err = r.array(func() error { return f.templatePiece(r) })
		case "special_tokens":
			f.specials = make(map[string][]int32)
			err = r.object(func(name string) error { return f.specialToken(r, name) })
		default:
			err = r.skip()
		}
		return err
	})
	if err == nil && kind != "TemplateProcessing" {
		err = fmt.Errorf("post-processor %s is not supported; known is TemplateProcessing", quoteShort(kind))
	}
	f.hasTemplate = true
	return err
}

// templatePiece reads {"Sequence": {"id": "A"}} or {"SpecialToken": {"id": name}}.
func (f *fastFields) templatePiece(r *jsonReader) error {
	if len(f.template) == 16 {
		return r.errorf("template of more than 16 pieces")
	}
	return r.object(func(kind string) error {
		id := ""
		err := r.object(func(key string) (err error) {
			if key == "id" {
				id, err = r.str()
				return err
			}
			return r.skip()
		})
		switch {
		case err != nil:
			return err
		case kind == "Sequence" && id == "A":
			f.template = append(f.template, templatePiece{})
		case kind == "SpecialToken" && id != "":
			f.template = append(f.template, templatePiece{special: id})
		default:
			return r.errorf("template piece %s with id %s; expected Sequence A or SpecialToken", quoteShort(kind), quoteShort(id))
		}
		return nil
	})
}

func (f *fastFields) specialToken(r *jsonReader, name string) error {
	return r.object(func(key string) error {
		if key != "ids" {
			return r.skip()
		}
		return r.array(func() error {
			id, err := r.id()
			f.specials[name] = append(f.specials[name], id)
			if err == nil && len(f.specials[name]) > 16 {
				err = r.errorf("more than 16 ids")
			}
			return err
		})
	})
}

func (f *fastFields) modelSection(r *jsonReader) error {
	f.unknown, f.modelIsInFile = noID, true
	return r.object(func(key string) (err error) {
		switch key {
		case "type":
			var kind string
			if kind, err = r.str(); err == nil && kind != "Unigram" {
				err = fmt.Errorf("model %s is not supported; expected Unigram", quoteShort(kind))
			}
		case "unk_id":
			if !r.null() {
				f.unknown, err = r.id()
			}
		case "byte_fallback":
			f.byteFallback, err = r.boolean()
		case "vocab":
			f.pieces, f.scores = nil, nil
			err = r.array(func() error { return f.piece(r) })
		default:
			err = r.skip()
		}
		return err
	})
}

// piece reads [text, score].
func (f *fastFields) piece(r *jsonReader) error {
	if len(f.pieces) == maxPieces {
		return r.errorf("more than %d pieces", maxPieces)
	}
	k := 0
	err := r.array(func() error {
		k++
		switch k {
		case 1:
			s, err := r.str()
			if err == nil && len(s) > maxPieceBytes {
				err = r.errorf("piece has %d bytes, limit %d", len(s), maxPieceBytes)
			}
			f.pieces = append(f.pieces, s)
			return err
		case 2:
			v, err := r.float()
			f.scores = append(f.scores, v)
			return err
		}
		return r.errorf("expected 2 values for a piece, got more")
	})
	if err == nil && k != 2 {
		err = r.errorf("expected 2 values for a piece, got %d", k)
	}
	return err
}

func (f *fastFields) build() (*Tokenizer, error) {
	switch {
	case !f.modelIsInFile:
		return nil, errors.New("no model section")
	case len(f.pieces) == 0:
		return nil, errors.New("model: empty vocabulary")
	case f.unknown == noID:
		return nil, errors.New("model: unk_id is missing")
	case int(f.unknown) >= len(f.pieces):
		return nil, fmt.Errorf("model: unk_id %d is not below the vocabulary size %d", f.unknown, len(f.pieces))
	}
	m := &fast{model: newUnigram(f.pieces, f.scores, f.unknown, f.byteFallback)}
	var err error
	if f.normalizer != nil {
		if m.normalizers, err = f.normalizer.normalizers(); err != nil {
			return nil, err
		}
	}
	if f.pretokenizer != nil {
		if m.pretokenizers, err = f.pretokenizer.pretokenizers(); err != nil {
			return nil, err
		}
	}
	t := &Tokenizer{model: m, vocabSize: f.assignIDs(m.model.trie)}
	var raw, normalised []addedToken
	for _, a := range f.added {
		if !a.normalized {
			raw = append(raw, a)
			continue
		}
		a.content = string(m.normalize(newAligned(a.content)).text)
		normalised = append(normalised, a)
	}
	m.raw, m.normalised = newAddedTokens(raw), newAddedTokens(normalised)
	return t, f.applyTemplate(t)
}

// assignIDs gives the added tokens their ids and returns the size of the whole
// vocabulary. Like the Rust library it goes by content (a piece keeps its id) and
// then by order from the end of the vocabulary on; the id in the file is only
// what its writer expected.
func (f *fastFields) assignIDs(t *trie) int {
	next := int32(len(f.pieces))
	known := make(map[string]int32)
	for i := range f.added {
		a := &f.added[i]
		id, ok := known[a.content]
		if !ok {
			if id = t.lookup([]byte(a.content)); id == noID {
				id = next
				next++
			}
			known[a.content] = id
		}
		a.id = id
	}
	return int(next)
}

// applyTemplate sets the ids before and after the text.
func (f *fastFields) applyTemplate(t *Tokenizer) error {
	if !f.hasTemplate {
		return nil
	}
	seen := false
	for _, p := range f.template {
		if p.special == "" {
			if seen {
				return errors.New("post-processor: the template has the text twice")
			}
			seen = true
			continue
		}
		ids, ok := f.specials[p.special]
		if !ok {
			return fmt.Errorf("post-processor: special token %s has no ids", quoteShort(p.special))
		}
		for _, id := range ids {
			if int(id) >= t.vocabSize {
				return fmt.Errorf("post-processor: id %d of %s is not below the vocabulary size %d", id, quoteShort(p.special), t.vocabSize)
			}
		}
		if seen {
			t.suffix = append(t.suffix, ids...)
		} else {
			t.prefix = append(t.prefix, ids...)
		}
	}
	if !seen {
		return errors.New("post-processor: the template lacks the text, Sequence A")
	}
	return nil
}
