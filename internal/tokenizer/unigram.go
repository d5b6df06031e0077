package tokenizer

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// unknownPenalty is how far below the worst piece an unknown character scores.
const unknownPenalty = 10

// node is the best segmentation that ends at a place of the text.
type node struct {
	score float64
	start int32 // where its last piece begins, -1 if the place was not reached
	id    int32
}

// span is one piece of a segmentation: text[start:end].
type span struct{ start, end, id int32 }

// lattice holds the buffers of one Encode call, used again for each part.
type lattice struct {
	best  []node
	spans []span
}

// reset makes room for a text of n bytes.
func (l *lattice) reset(n int) {
	if cap(l.best) <= n {
		l.best = make([]node, n+1)
	}
	l.best = l.best[:n+1]
	for i := range l.best {
		l.best[i] = node{start: -1}
	}
}

// backtrack returns the best segmentation, first piece first.
func (l *lattice) backtrack() []span {
	l.spans = l.spans[:0]
	for end := int32(len(l.best) - 1); end > 0; end = l.best[end].start {
		l.spans = append(l.spans, span{l.best[end].start, end, l.best[end].id})
	}
	for i, j := 0, len(l.spans)-1; i < j; i, j = i+1, j-1 {
		l.spans[i], l.spans[j] = l.spans[j], l.spans[i]
	}
	return l.spans
}

// vocabulary is what both kinds of file share.
type vocabulary struct {
	trie         *trie
	unknown      int32
	byteFallback bool
	byteID       [256]int32 // of the piece <0xNN>, noID if there is none
}

// findBytes looks up the byte pieces.
func (v *vocabulary) findBytes(lookup func(string) int32) {
	for b := range v.byteID {
		v.byteID[b] = lookup(fmt.Sprintf("<0x%02X>", b))
	}
}

// unigram is the model of tokenizer.json, with the Rust library's semantics:
// float64 scores, first of equals wins, a run of unknown characters is one token.
type unigram struct {
	vocabulary
	score        []float64 // by id
	unknownScore float64
}

func newUnigram(pieces []string, score []float64, unknown int32, byteFallback bool) *unigram {
	ids := make([]int32, len(pieces))
	worst := math.Inf(1)
	for i := range ids {
		ids[i] = int32(i)
		worst = min(worst, score[i])
	}
	u := &unigram{
		vocabulary:   vocabulary{trie: newTrie(pieces, ids), unknown: unknown, byteFallback: byteFallback},
		score:        score,
		unknownScore: worst - unknownPenalty,
	}
	u.findBytes(func(s string) int32 { return u.trie.lookup([]byte(s)) })
	return u
}

// segment finds the segmentation of the highest total score.
func (u *unigram) segment(text []byte, l *lattice) []span {
	l.reset(len(text))
	for start := 0; start < len(text); {
		here := l.best[start].score
		_, charLen := utf8.DecodeRune(text[start:])
		single := false
		at := uint32(0)
		for end := start; end < len(text); {
			if at = u.trie.child(at, text[end]); at == 0 {
				break
			}
			end++
			id := u.trie.id[at]
			if id == noID {
				continue
			}
			if score := u.score[id] + here; l.best[end].start < 0 || score > l.best[end].score {
				l.best[end] = node{score, int32(start), id}
			}
			single = single || end-start == charLen
		}
		if !single {
			end := start + charLen
			if score := u.unknownScore + here; l.best[end].start < 0 || score > l.best[end].score {
				l.best[end] = node{score, int32(start), u.unknown}
			}
		}
		start += charLen
	}
	return l.backtrack()
}

// encode appends the ids of one part. Neighbouring unknown spans are one piece
// of text, which may happen to be in the vocabulary; otherwise it becomes its
// bytes, if the file asks for that and has them all, or one unknown id.
func (u *unigram) encode(part aligned, l *lattice, out *sink) {
	spans := u.segment(part.text, l)
	for i := 0; i < len(spans); i++ {
		s := spans[i]
		if s.id != u.unknown {
			out.add(s.id, part.src[s.start])
			continue
		}
		for i+1 < len(spans) && spans[i+1].id == u.unknown {
			i++
			s.end = spans[i].end
		}
		text := part.slice(int(s.start), int(s.end))
		switch id := u.trie.lookup(text.text); {
		case id != noID:
			out.add(id, text.src[0])
		case u.byteFallback && u.hasBytes(text.text):
			for k, b := range text.text {
				out.add(u.byteID[b], text.src[k])
			}
		default:
			out.add(u.unknown, text.src[0])
		}
	}
}

func (v *vocabulary) hasBytes(text []byte) bool {
	for _, b := range text {
		if v.byteID[b] == noID {
			return false
		}
	}
	return true
}
