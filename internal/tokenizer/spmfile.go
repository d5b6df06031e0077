package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Kinds of piece, from sentencepiece_model.proto.
const (
	pieceNormal      = 1
	pieceUnknown     = 2
	pieceControl     = 3
	pieceUserDefined = 4
	pieceUnused      = 5
	pieceByte        = 6
)

// unigramModel is TrainerSpec.ModelType UNIGRAM.
const unigramModel = 1

// spmPiece is a line of the vocabulary; its id is its place.
type spmPiece struct {
	text  string
	score float32
	kind  uint64
}

// spmFields is what is read from spiece.model, with the defaults of its schema.
type spmFields struct {
	pieces []spmPiece

	modelType      uint64
	byteFallback   bool
	spaceAsSuffix  bool
	endOfSentence  string
	charsmap       []byte
	addPrefix      bool
	removeExtra    bool
	escapeSpaces   bool
	hasTrainerSpec bool
}

// parseSPM reads a ModelProto: 1 pieces, 2 trainer_spec, 3 normalizer_spec.
func parseSPM(data []byte) (*Tokenizer, error) {
	f := spmFields{
		modelType: unigramModel, endOfSentence: "</s>",
		addPrefix: true, removeExtra: true, escapeSpaces: true,
	}
	err := readProto(data, func(p protoField) error {
		switch p.number {
		case 1:
			return f.piece(p)
		case 2:
			f.hasTrainerSpec = true
			if err := p.want(2); err != nil {
				return err
			}
			return readProto(p.bytes, f.trainerSpec)
		case 3:
			if err := p.want(2); err != nil {
				return err
			}
			return readProto(p.bytes, f.normalizerSpec)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f.build()
}

func (f *spmFields) piece(p protoField) error {
	if err := p.want(2); err != nil {
		return err
	}
	if len(f.pieces) == maxPieces {
		return fmt.Errorf("more than %d pieces", maxPieces)
	}
	piece := spmPiece{kind: pieceNormal}
	err := readProto(p.bytes, func(q protoField) error {
		switch q.number {
		case 1:
			return q.text(&piece.text)
		case 2:
			return q.float(&piece.score)
		case 3:
			piece.kind = q.varint
			return q.want(0)
		}
		return nil
	})
	switch {
	case err != nil:
	case piece.text == "":
		err = errors.New("empty")
	case len(piece.text) > maxPieceBytes:
		err = fmt.Errorf("has %d bytes, limit %d", len(piece.text), maxPieceBytes)
	case !utf8.ValidString(piece.text):
		err = errors.New("not valid UTF-8")
	case math.IsNaN(float64(piece.score)) || math.IsInf(float64(piece.score), 0):
		err = fmt.Errorf("score is %v", piece.score)
	case piece.kind < pieceNormal || piece.kind > pieceByte:
		err = fmt.Errorf("unknown type %d", piece.kind)
	}
	if err != nil {
		return fmt.Errorf("piece %d: %w", len(f.pieces), err)
	}
	f.pieces = append(f.pieces, piece)
	return nil
}

func (f *spmFields) trainerSpec(p protoField) error {
	switch p.number {
	case 3:
		f.modelType = p.varint
		return p.want(0)
	case 24:
		return p.boolean(&f.spaceAsSuffix)
	case 35:
		return p.boolean(&f.byteFallback)
	case 47:
		return p.text(&f.endOfSentence)
	}
	return nil
}

func (f *spmFields) normalizerSpec(p protoField) error {
	switch p.number {
	case 2:
		f.charsmap = p.bytes
		return p.want(2)
	case 3:
		return p.boolean(&f.addPrefix)
	case 4:
		return p.boolean(&f.removeExtra)
	case 5:
		return p.boolean(&f.escapeSpaces)
	}
	return nil
}

func (f *spmFields) build() (*Tokenizer, error) {
	switch {
	case len(f.pieces) == 0:
		return nil, errors.New("no pieces")
	case f.modelType != unigramModel:
		return nil, fmt.Errorf("model type is %d, expected %d (unigram)", f.modelType, unigramModel)
	case f.spaceAsSuffix:
		return nil, errors.New("treat_whitespace_as_suffix is not supported")
	}
	m := &spm{addPrefix: f.addPrefix, removeExtra: f.removeExtra, space: " "}
	if f.escapeSpaces {
		m.space = spaceMark
	}
	m.unknown, m.byteFallback = noID, f.byteFallback

	var texts, user []string
	var ids, userIDs []int32
	reserved := make(map[string]int32)
	worst, best := float32(math.Inf(1)), float32(math.Inf(-1))
	m.score = make([]float32, len(f.pieces))
	m.kind = make([]uint8, len(f.pieces))
	for i, p := range f.pieces {
		m.score[i], m.kind[i] = p.score, uint8(p.kind)
		switch p.kind {
		case pieceNormal:
			worst, best = min(worst, p.score), max(best, p.score)
		case pieceUserDefined:
			user, userIDs = append(user, p.text), append(userIDs, int32(i))
		case pieceUnknown:
			if m.unknown != noID {
				return nil, fmt.Errorf("piece %d: a second unknown piece", i)
			}
			m.unknown = int32(i)
		}
		if p.kind == pieceNormal || p.kind == pieceUserDefined || p.kind == pieceUnused {
			texts, ids = append(texts, p.text), append(ids, int32(i))
		} else {
			reserved[p.text] = int32(i)
		}
	}
	if m.unknown == noID {
		return nil, errors.New("no unknown piece")
	}
	if math.IsInf(float64(worst), 1) {
		return nil, errors.New("no normal pieces")
	}
	m.trie, m.user = newTrie(texts, ids), newTrie(user, userIDs)
	for text := range reserved {
		if m.trie.lookup([]byte(text)) != noID {
			return nil, fmt.Errorf("piece %s is there twice", quoteShort(text))
		}
	}
	if numPieces := m.trie.count() + len(reserved); numPieces != len(f.pieces) {
		return nil, fmt.Errorf("%d of %d pieces are there twice", len(f.pieces)-numPieces, len(f.pieces))
	}
	m.unknownScore, m.bestScore = worst-unknownPenalty, best
	if err := f.byteIDs(m, reserved); err != nil {
		return nil, err
	}
	if len(f.charsmap) > 0 {
		var err error
		if m.charsmap, err = parseCharsmap(f.charsmap); err != nil {
			return nil, err
		}
	}
	eos, ok := reserved[f.endOfSentence]
	if !ok || f.pieces[eos].kind != pieceControl {
		return nil, fmt.Errorf("end of sentence %s is not a control piece", quoteShort(f.endOfSentence))
	}
	return &Tokenizer{model: m, suffix: []int32{eos}, vocabSize: len(f.pieces)}, nil
}

// byteIDs finds the byte pieces; all must be there if they are used.
func (f *spmFields) byteIDs(m *spm, reserved map[string]int32) error {
	m.findBytes(func(s string) int32 {
		if id, ok := reserved[s]; ok && f.pieces[id].kind == pieceByte {
			return id
		}
		return noID
	})
	for b, id := range m.byteID {
		if m.byteFallback && id == noID {
			return fmt.Errorf("byte_fallback is set but the piece <0x%02X> is missing", b)
		}
	}
	return nil
}
