package mp4

import (
	"encoding/binary"
	"slices"
)

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// box is size, type and contents. Sizes above 32 bits do not occur: the limits
// of NewWriter keep everything but the samples under a few MiB.
func box(kind string, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat(u32(uint32(8+len(body))), []byte(kind), body)
}

// fullBox is a box whose contents begin with a version and flags.
func fullBox(kind string, version uint8, flags uint32, parts ...[]byte) []byte {
	return box(kind, append([][]byte{u32(uint32(version)<<24 | flags)}, parts...)...)
}

func table(values []uint32) []byte {
	out := make([]byte, 0, 4*len(values))
	for _, v := range values {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	return out
}

func zeros(n int) []byte { return make([]byte, n) }

func ftyp() []byte {
	return box("ftyp", []byte("isom"), u32(512), []byte("isomiso2avc1mp41"))
}

// ticksPerFrame makes the time scale fine enough for tools that cut.
const ticksPerFrame = 512

// unityMatrix leaves the picture as it is; 16.16 and 2.30 fixed point.
func unityMatrix() []byte {
	return table([]uint32{1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30})
}

// moov is the movie header: one track, all its samples in one chunk at the file
// offset chunk. Times of creation are zero: output depends on its inputs only.
func moov(v *Video, sizes, keys []uint32, chunk uint32) []byte {
	scale := uint32(v.FPS * ticksPerFrame)
	duration := uint32(len(sizes) * ticksPerFrame)
	mvhd := fullBox("mvhd", 0, 0, u32(0), u32(0), u32(scale), u32(duration),
		u32(1<<16), u16(1<<8), zeros(10), unityMatrix(), zeros(24), u32(2))
	tkhd := fullBox("tkhd", 0, 3, u32(0), u32(0), u32(1), u32(0), u32(duration), zeros(8),
		u16(0), u16(0), u16(0), u16(0), unityMatrix(), u32(uint32(v.Width)<<16), u32(uint32(v.Height)<<16))
	mdhd := fullBox("mdhd", 0, 0, u32(0), u32(0), u32(scale), u32(duration), u16(undetermined), u16(0))
	hdlr := fullBox("hdlr", 0, 0, u32(0), []byte("vide"), zeros(12), []byte("VideoHandler\x00"))
	dinf := box("dinf", fullBox("dref", 0, 0, u32(1), fullBox("url ", 0, 1)))
	minf := box("minf", fullBox("vmhd", 0, 1, zeros(8)), dinf, stbl(v, sizes, keys, chunk))
	return box("moov", mvhd, box("trak", tkhd, box("mdia", mdhd, hdlr, minf)), udta(v))
}

// undetermined is the language code "und", five bits a letter.
const undetermined = ('u'-0x60)<<10 | ('n'-0x60)<<5 | ('d' - 0x60)

func stbl(v *Video, sizes, keys []uint32, chunk uint32) []byte {
	n := uint32(len(sizes))
	return box("stbl",
		fullBox("stsd", 0, 0, u32(1), avc1(v)),
		fullBox("stts", 0, 0, u32(1), u32(n), u32(ticksPerFrame)),
		fullBox("stss", 0, 0, u32(uint32(len(keys))), table(keys)),
		fullBox("stsc", 0, 0, u32(1), u32(1), u32(n), u32(1)),
		fullBox("stsz", 0, 0, u32(0), u32(n), table(sizes)),
		fullBox("stco", 0, 0, u32(1), u32(chunk)))
}

// avc1 is the sample entry: size, parameter sets, colour, square pixels.
func avc1(v *Video) []byte {
	name := zeros(32)
	name[0] = byte(copy(name[1:], "H.264"))
	avcC := box("avcC", []byte{1, v.SPS[1], v.SPS[2], v.SPS[3], 0xFF, 0xE1},
		u16(uint16(len(v.SPS))), v.SPS, []byte{1}, u16(uint16(len(v.PPS))), v.PPS)
	colr := box("colr", []byte("nclx"), u16(v.Primaries), u16(v.Transfer), u16(v.Matrix), []byte{0})
	return box("avc1", zeros(6), u16(1), zeros(16), u16(uint16(v.Width)), u16(uint16(v.Height)),
		u32(72<<16), u32(72<<16), u32(0), u16(1), name, u16(24), u16(0xFFFF),
		avcC, colr, box("pasp", u32(1), u32(1)))
}

// udta holds the metadata item list that players and ffprobe show.
func udta(v *Video) []byte {
	var items [][]byte
	for _, it := range []struct{ kind, text string }{{"\xa9too", v.Tool}, {"\xa9cmt", v.Comment}} {
		if it.text != "" {
			items = append(items, box(it.kind, box("data", u32(1), u32(0), []byte(it.text))))
		}
	}
	if items == nil {
		return nil
	}
	hdlr := fullBox("hdlr", 0, 0, u32(0), []byte("mdirappl"), zeros(8), []byte{0})
	return box("udta", fullBox("meta", 0, 0, hdlr, box("ilst", items...)))
}
