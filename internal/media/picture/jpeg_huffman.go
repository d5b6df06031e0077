package picture

import (
	"errors"
	"fmt"
)

var errHuffmanCode = errors.New("picture data are damaged (a bit pattern that is no code)")

const lutBits = 9

// huffmanTable decodes one code. Codes of up to lutBits bits are looked up;
// longer ones are compared with the largest code of each length (F.2.2.3).
type huffmanTable struct {
	lut     [1 << lutBits]uint16 // length<<8 | symbol; 0 when the code is longer
	maxCode [18]int32            // largest code of a length, -1 for none; [17] ends every search
	offset  [17]int32            // index of a length's first symbol, less its first code
	symbols [256]uint8
}

// newHuffmanTable builds the table for counts[i] codes of length i+1.
func newHuffmanTable(counts *[16]uint8, symbols []byte) (*huffmanTable, error) {
	t := &huffmanTable{}
	copy(t.symbols[:], symbols)
	code, at := int32(0), int32(0)
	for n := 1; n <= 16; n++ {
		c := int32(counts[n-1])
		t.maxCode[n] = -1
		if c > 0 {
			// libjpeg, too, refuses a code of ones only, which C.2 reserves.
			if code+c >= 1<<n {
				return nil, fmt.Errorf("huffman table has too many codes of %d bits", n)
			}
			t.offset[n] = at - code
			if n <= lutBits {
				for i := range c {
					first := (code + i) << (lutBits - n)
					entry := uint16(n)<<8 | uint16(t.symbols[at+i])
					for j := range int32(1) << (lutBits - n) {
						t.lut[first+j] = entry
					}
				}
			}
			code += c
			at += c
			t.maxCode[n] = code - 1
		}
		code <<= 1
	}
	t.maxCode[17] = 1<<31 - 1
	return t, nil
}

// readHuffmanTables reads a DHT segment (B.2.4.2).
func (d *jpegDecoder) readHuffmanTables(seg []byte) error {
	for len(seg) > 0 {
		if len(seg) < 17 {
			return errors.New("huffman table is cut short")
		}
		class, id := seg[0]>>4, seg[0]&15
		if class > 1 || id > 3 {
			return fmt.Errorf("huffman table %d of class %d", id, class)
		}
		counts := [16]uint8(seg[1:17])
		n := 0
		for _, c := range counts {
			n += int(c)
		}
		if n > 256 || len(seg) < 17+n {
			return fmt.Errorf("huffman table of %d symbols in %d bytes", n, len(seg)-17)
		}
		t, err := newHuffmanTable(&counts, seg[17:17+n])
		if err != nil {
			return err
		}
		if class == 0 {
			d.dc[id] = t
		} else {
			d.ac[id] = t
		}
		seg = seg[17+n:]
	}
	return nil
}

// bitReader reads entropy-coded data up to the next marker. Past the end it
// gives zeros and counts them, so that callers test once a block (overrun)
// instead of once a bit.
type bitReader struct {
	data []byte
	pos  int
	acc  uint64
	n    uint // valid low bits of acc
	pad  uint // how many bits of padding have been fed since the last reset
}

// fill makes at least 57 bits available.
func (r *bitReader) fill() {
	if r.pos+8 <= len(r.data) {
		b := r.data[r.pos : r.pos+8]
		x := uint64(b[0])<<56 | uint64(b[1])<<48 | uint64(b[2])<<40 | uint64(b[3])<<32 |
			uint64(b[4])<<24 | uint64(b[5])<<16 | uint64(b[6])<<8 | uint64(b[7])
		const ones, highs = 0x0101010101010101, 0x8080808080808080
		if (^x-ones)&x&highs == 0 { // no byte is 0xff
			if k := (64 - r.n) / 8; k == 8 {
				r.acc, r.n = x, 64
				r.pos += 8
			} else {
				r.acc = r.acc<<(8*k) | x>>(64-8*k)
				r.n += 8 * k
				r.pos += int(k)
			}
			return
		}
	}
	for r.n <= 56 {
		var b byte
		if r.pos < len(r.data) {
			b = r.data[r.pos]
			if b != 0xff {
				r.pos++
			} else if r.pos+1 < len(r.data) && r.data[r.pos+1] == 0 {
				r.pos += 2
			} else { // a marker, or the end: stay before it
				b = 0
				r.pad += 8
			}
		} else {
			r.pad += 8
		}
		r.acc = r.acc<<8 | uint64(b)
		r.n += 8
	}
}

// overrun tells whether bits beyond the data have been consumed.
func (r *bitReader) overrun() bool { return r.n < r.pad }

// reset drops the bits up to the byte boundary, and padding.
func (r *bitReader) reset() { r.acc, r.n, r.pad = 0, 0, 0 }

// bits returns the next k bits, k <= 16; the caller has filled.
func (r *bitReader) bits(k uint) int32 {
	r.n -= k
	return int32(r.acc>>(r.n&63)) & (1<<k - 1)
}

// extended returns the next k bits as the signed value of F.2.2.1.
func (r *bitReader) extended(k uint) int32 {
	v := r.bits(k)
	if k > 0 && v < 1<<(k-1) {
		v += -1<<k + 1
	}
	return v
}

// symbol decodes one code; the caller has filled. -1 if there is none.
func (r *bitReader) symbol(t *huffmanTable) int32 {
	if e := t.lut[(r.acc>>((r.n-lutBits)&63))&(1<<lutBits-1)]; e != 0 {
		r.n -= uint(e >> 8)
		return int32(e & 0xff)
	}
	for n := uint(lutBits + 1); n <= 16; n++ {
		code := int32(r.acc>>((r.n-n)&63)) & (1<<n - 1)
		if code <= t.maxCode[n] {
			r.n -= n
			return int32(t.symbols[code+t.offset[n]])
		}
	}
	return -1
}
