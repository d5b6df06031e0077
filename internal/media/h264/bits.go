package h264

import "encoding/binary"

// bitWriter collects a raw byte sequence payload, most significant bit first.
type bitWriter struct {
	buf []byte
	acc uint64 // the low n bits are not in buf yet
	n   int    // 0 <= n < 8 between calls
}

func (w *bitWriter) reset() { w.buf, w.acc, w.n = w.buf[:0], 0, 0 }

// put appends the low n bits of v, 0 <= n <= 32; v has no higher bits set.
func (w *bitWriter) put(v uint32, n int) {
	w.acc = w.acc<<uint(n) | uint64(v)
	w.n += n
	for w.n >= 8 {
		w.n -= 8
		w.buf = append(w.buf, byte(w.acc>>uint(w.n)))
	}
}

func (w *bitWriter) code(c vlc) { w.put(uint32(c.bits), int(c.n)) }

func (w *bitWriter) ue(v uint32) {
	n := ueBits(v)
	w.put(0, n/2)
	w.put(v+1, n/2+1)
}

func (w *bitWriter) se(v int) { w.ue(seCode(v)) }

func (w *bitWriter) flag(b bool) {
	if b {
		w.put(1, 1)
	} else {
		w.put(0, 1)
	}
}

// trailing ends the payload: a one, then zeros to the byte (clause 7.3.2.11).
func (w *bitWriter) trailing() {
	w.put(1, 1)
	if w.n > 0 {
		w.put(0, 8-w.n)
	}
}

// NAL unit types, Table 7-1.
const (
	nalSlice = 1
	nalIDR   = 5
	nalSPS   = 7
	nalPPS   = 8
)

// appendNAL appends one NAL unit of the given type. Every unit of our streams
// is needed for reference, hence nal_ref_idc 3. Emulation prevention bytes are
// put in (clause 7.4.1): no three bytes 00 00 0x with x < 4 remain.
func appendNAL(dst []byte, nalType byte, payload []byte) []byte {
	dst = append(dst, 3<<5|nalType)
	zeros := 0
	for _, b := range payload {
		if zeros >= 2 && b <= 3 {
			dst = append(dst, 3)
			zeros = 0
		}
		dst = append(dst, b)
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return dst
}

// appendSized appends a NAL unit after its length in four bytes, which is how
// MP4 samples hold them.
func appendSized(dst []byte, nalType byte, payload []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendNAL(dst, nalType, payload)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}
