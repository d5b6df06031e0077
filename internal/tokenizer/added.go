package tokenizer

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// addedToken is a token that is looked for before the model sees the text.
type addedToken struct {
	content                    string
	id                         int32
	singleWord, lstrip, rstrip bool
	normalized                 bool // look in the normalised text, not in the raw one
}

// addedTokens finds tokens of one kind: leftmost first, then longest.
type addedTokens struct {
	tokens []addedToken
	trie   *trie // content -> place in tokens
}

func newAddedTokens(tokens []addedToken) addedTokens {
	contents := make([]string, len(tokens))
	places := make([]int32, len(tokens))
	for i, t := range tokens {
		contents[i], places[i] = t.content, int32(i)
	}
	return addedTokens{tokens, newTrie(contents, places)}
}

// split calls text for what lies between tokens and token for each token.
func (a addedTokens) split(in aligned, text func(aligned), token func(id int32, src int)) {
	if len(a.tokens) == 0 {
		text(in)
		return
	}
	done := 0
	for i := 0; i < in.len(); {
		place, n := a.trie.longest(in.text[i:])
		if place == noID {
			i += in.runeLen(i)
			continue
		}
		t := a.tokens[place]
		start, end := i, i+n
		i = end
		if t.singleWord && (wordBefore(in.text[:start]) || wordAfter(in.text[end:])) {
			continue
		}
		if t.lstrip {
			start = max(len(bytes.TrimRightFunc(in.text[:start], unicode.IsSpace)), done)
		}
		if t.rstrip {
			end = in.len() - len(bytes.TrimLeftFunc(in.text[end:], unicode.IsSpace))
		}
		if start > done {
			text(in.slice(done, start))
		}
		token(t.id, in.src[start])
		done = end
		i = max(i, end)
	}
	if done < in.len() {
		text(in.slice(done, in.len()))
	}
}

func wordBefore(text []byte) bool {
	r, n := utf8.DecodeLastRune(text)
	return n > 0 && isWord(r)
}

func wordAfter(text []byte) bool {
	r, n := utf8.DecodeRune(text)
	return n > 0 && isWord(r)
}

// isWord is \w of Unicode regular expressions.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc,
		unicode.Other_Alphabetic, unicode.Join_Control)
}
