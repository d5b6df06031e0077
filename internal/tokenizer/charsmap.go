package tokenizer

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// maxCharsmapBytes bounds the precompiled map; nmt_nfkc has 237,561 bytes.
const maxCharsmapBytes = 8 << 20

// maxReplacement bounds what one character may become, in bytes.
const maxReplacement = 128

// charsmap is sentencepiece's precompiled normalisation: a double-array trie
// (Darts-clone) from character sequences to offsets into blob, where each
// replacement ends with a zero byte. Layout of the file: uint32 size of the trie
// in bytes, the trie as uint32 units, the blob; little-endian.
type charsmap struct {
	units []uint32
	blob  string
}

func parseCharsmap(data []byte) (*charsmap, error) {
	if len(data) > maxCharsmapBytes {
		return nil, fmt.Errorf("precompiled charsmap has %d bytes, limit %d", len(data), maxCharsmapBytes)
	}
	if len(data) < 4 {
		return nil, fmt.Errorf("precompiled charsmap has %d bytes, expected at least 4", len(data))
	}
	size := int64(binary.LittleEndian.Uint32(data))
	rest := data[4:]
	if size > int64(len(rest)) || size%4 != 0 || size == 0 {
		return nil, fmt.Errorf("precompiled charsmap: trie of %d bytes in %d, expected a multiple of 4", size, len(rest))
	}
	m := &charsmap{units: make([]uint32, size/4), blob: string(rest[size:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(rest[4*i:])
	}
	if !utf8.ValidString(m.blob) {
		return nil, fmt.Errorf("precompiled charsmap: replacements are not UTF-8")
	}
	for with := range strings.SplitSeq(m.blob, "\x00") {
		if len(with) > maxReplacement {
			return nil, fmt.Errorf("precompiled charsmap: replacement of %d bytes, limit %d", len(with), maxReplacement)
		}
	}
	return m, nil
}

// matches walks the trie over key and calls found with each prefix that has a
// replacement, shortest first, until found returns false.
func (m *charsmap) matches(key []byte, found func(length int, with string) bool) {
	// A unit: bits 0-7 label (with bit 31 set in values), 8 has a value, 9 offset
	// is shifted by 8, 10-30 offset.
	offset := func(u uint32) uint32 { return u >> 10 << (u >> 6 & 8) }
	at := offset(m.units[0])
	for i, c := range key {
		at ^= uint32(c)
		if c == 0 || at >= uint32(len(m.units)) {
			return
		}
		u := m.units[at]
		if u&(1<<31|0xFF) != uint32(c) {
			return
		}
		at ^= offset(u)
		if u>>8&1 == 0 {
			continue
		}
		if at >= uint32(len(m.units)) {
			return
		}
		if with, ok := m.replacement(m.units[at] &^ (1 << 31)); ok && !found(i+1, with) {
			return
		}
	}
}

// replacement is the text from an offset of blob up to its zero byte.
func (m *charsmap) replacement(at uint32) (string, bool) {
	if at > uint32(len(m.blob)) || at < uint32(len(m.blob)) && !utf8.RuneStart(m.blob[at]) {
		return "", false
	}
	end := int(at)
	for end < len(m.blob) && m.blob[end] != 0 {
		end++
	}
	return m.blob[at:end], true
}

func (m *charsmap) shortest(key []byte) (with string, ok bool) {
	m.matches(key, func(_ int, w string) bool {
		with, ok = w, true
		return false
	})
	return with, ok
}

func (m *charsmap) longest(key []byte) (length int, with string) {
	m.matches(key, func(n int, w string) bool {
		length, with = n, w
		return true
	})
	return length, with
}

// maxGrapheme is the longest grapheme cluster, in bytes, that is looked up as a
// whole; longer ones are looked up character by character.
const maxGrapheme = 5

// normalize does what the Rust library's Precompiled does, which is not what
// sentencepiece does: it goes by grapheme clusters, and the whole cluster (or
// character) is replaced by what its shortest mapped prefix maps to. So "①" with
// a combining mark loses the mark. Where the text begins with characters that
// vanish, the first one left takes their place, which "first" of Metaspace sees.
func (m *charsmap) normalize(in aligned) aligned {
	out := in.empty(in.len())
	for i := 0; i < in.len(); {
		n := graphemeLen(in.text[i:])
		if n <= maxGrapheme {
			if with, ok := m.shortest(in.text[i : i+n]); ok {
				out.append(with, in.src[i])
				i += n
				continue
			}
		}
		for end := i + n; i < end; {
			k := in.runeLen(i)
			if with, ok := m.shortest(in.text[i : i+k]); ok {
				out.append(with, in.src[i])
			} else {
				out.appendSlice(in.slice(i, i+k))
			}
			i += k
		}
	}
	if out.len() > 0 {
		lead := in.src[0]
		for i := range out.runeLen(0) {
			out.src[i] = lead
		}
	}
	return out
}

// graphemeLen is the length of the first grapheme cluster. Two ASCII characters
// never share one, but for CRLF.
func graphemeLen(text []byte) int {
	if text[0] < utf8.RuneSelf && (len(text) == 1 || text[1] < utf8.RuneSelf && text[0] != '\r') {
		return 1
	}
	cluster, _, _, _ := uniseg.FirstGraphemeCluster(text, -1)
	return len(cluster)
}
