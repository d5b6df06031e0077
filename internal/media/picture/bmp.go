package picture

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// bmpFile is a BMP's header.
type bmpFile struct {
	w, h    int
	topDown bool
	bits    int
	palette []byte    // [256, 3]
	masks   [3]uint32 // red, green, blue of 16 and 32 bits
	rows    []byte    // from the first pixel on
	stride  int
}

// decodeBMP decodes uncompressed BMP of 1, 4, 8, 16, 24 and 32 bits.
func decodeBMP(data []byte, maxPixels int64) (*RGB, error) {
	f, err := readBMPHeader(data, maxPixels)
	if err != nil {
		return nil, err
	}
	p := newRGB(f.w, f.h)
	for y := range f.h {
		in := f.rows[y*f.stride:]
		if !f.topDown {
			in = f.rows[(f.h-1-y)*f.stride:]
		}
		f.row(p.Pix[y*f.w*3:(y+1)*f.w*3], in)
	}
	return p, nil
}

// readBMPHeader checks everything that row relies on.
func readBMPHeader(data []byte, maxPixels int64) (*bmpFile, error) {
	if len(data) < 26 {
		return nil, errTruncated
	}
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(data[at:])) }
	u32 := func(at int) int64 { return int64(binary.LittleEndian.Uint32(data[at:])) }
	offset, info := u32(10), u32(14)
	f := &bmpFile{}
	var w, h, compression, used int64
	entry := 4
	switch {
	case info == 12:
		w, h, f.bits, entry = int64(u16(18)), int64(u16(20)), u16(24), 3
	case info >= 40 && info <= 124:
		if int64(len(data)) < 14+info {
			return nil, errTruncated
		}
		w, h = int64(int32(u32(18))), int64(int32(u32(22)))
		f.bits, compression, used = u16(28), u32(30), u32(46)
	default:
		return nil, fmt.Errorf("header of %d bytes is not supported; convert to PNG: %w", info, ErrFormat)
	}
	if h < 0 {
		h, f.topDown = -h, true
	}
	if err := checkSize(w, h, maxPixels); err != nil {
		return nil, err
	}
	f.w, f.h = int(w), int(h)
	end := 14 + info // of the headers
	switch {
	case compression == 0 && f.bits == 16:
		f.masks = [3]uint32{0x7c00, 0x03e0, 0x001f}
	case compression == 0 && f.bits == 32:
		f.masks = [3]uint32{0xff0000, 0xff00, 0xff}
	case compression == 0 && (f.bits == 1 || f.bits == 4 || f.bits == 8 || f.bits == 24):
	case compression == 3 && (f.bits == 16 || f.bits == 32):
		if int64(len(data)) < 66 {
			return nil, errTruncated
		}
		f.masks = [3]uint32{uint32(u32(54)), uint32(u32(58)), uint32(u32(62))}
		end = max(end, 66)
	default:
		return nil, fmt.Errorf("%d bits with compression %d is not supported; convert to PNG: %w", f.bits, compression, ErrFormat)
	}
	if f.bits <= 8 {
		if used <= 0 || used > 256 {
			used = 1 << f.bits
		}
		if int64(len(data)) < end+used*int64(entry) {
			return nil, errTruncated
		}
		rgb := make([]byte, 0, 3*used)
		for i := range int(used) {
			e := data[int(end)+i*entry:]
			rgb = append(rgb, e[2], e[1], e[0])
		}
		f.palette = rampPalette(rgb)
		end += used * int64(entry)
	}
	if offset < end {
		return nil, fmt.Errorf("pixels begin at byte %d, inside the header of %d", offset, end)
	}
	stride := (w*int64(f.bits) + 31) / 32 * 4
	// The last row's padding may be missing.
	if int64(len(data)) < offset+stride*(h-1)+(w*int64(f.bits)+7)/8 {
		return nil, errTruncated
	}
	f.rows, f.stride = data[offset:], int(stride)
	for _, m := range f.masks {
		if f.masks != [3]uint32{} && m == 0 {
			return nil, errors.New("a colour without a bit mask")
		}
	}
	return f, nil
}

// row converts one row of pixels.
func (f *bmpFile) row(dst, in []byte) {
	for x := range f.w {
		o := dst[3*x : 3*x+3]
		switch f.bits {
		case 24:
			o[0], o[1], o[2] = in[3*x+2], in[3*x+1], in[3*x]
		case 32:
			f.masked(o, binary.LittleEndian.Uint32(in[4*x:]))
		case 16:
			f.masked(o, uint32(binary.LittleEndian.Uint16(in[2*x:])))
		default:
			at := x * f.bits
			index := int(in[at/8]>>(8-f.bits-at%8)) & (1<<f.bits - 1)
			copy(o, f.palette[3*index:3*index+3])
		}
	}
}

// masked takes the colours out of one value, scaled to 0..255 and cut.
func (f *bmpFile) masked(dst []byte, v uint32) {
	for i, m := range f.masks {
		low := m & -m
		dst[i] = uint8(uint64(v&m/low) * 255 / uint64(m/low))
	}
}
