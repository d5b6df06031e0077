package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
)

// pngFile is what matters of a PNG's chunks.
type pngFile struct {
	w, h     int64
	depth    uint8
	color    uint8 // colour type; bit 0 palette, bit 1 colour, bit 2 alpha
	header   []byte
	palette  []byte
	data     [][]byte // the IDAT chunks, whole
	numBytes int64    // payload of data
	exif     []byte
}

// decodePNG decodes the default image of a PNG, which is an animation's first
// frame. The pixels are the standard library's; it is handed only the chunks
// that carry them, so that transparency is never applied and no ancillary chunk
// can do harm.
func decodePNG(data []byte, maxPixels int64) (*RGB, []byte, error) {
	f, err := readPNGChunks(data)
	if err != nil {
		return nil, nil, err
	}
	if err := f.check(maxPixels); err != nil {
		return nil, nil, err
	}
	parts := []io.Reader{bytes.NewReader([]byte(pngSignature)), bytes.NewReader(f.header)}
	palette := rampPalette(f.palette)
	if f.color == 3 {
		parts = append(parts, bytes.NewReader(pngChunk("PLTE", palette[:3<<f.depth])))
	}
	for _, c := range f.data {
		parts = append(parts, bytes.NewReader(c))
	}
	parts = append(parts, bytes.NewReader(pngChunk("IEND", nil)))
	m, err := png.Decode(io.MultiReader(parts...))
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTruncated
		}
		return nil, nil, err
	}
	p, err := pngPixels(m, palette)
	return p, f.exif, err
}

// readPNGChunks walks the chunks. A missing IEND is forgiven, as by Pillow,
// a cut IDAT is not.
func readPNGChunks(data []byte) (*pngFile, error) {
	f := &pngFile{}
	for rest := data[len(pngSignature):]; len(rest) > 0; {
		if len(rest) < 8 {
			break
		}
		n := int64(binary.BigEndian.Uint32(rest))
		name := string(rest[4:8])
		if f.header == nil && (name != "IHDR" || n != 13) {
			return nil, errors.New("does not begin with an IHDR chunk")
		}
		if int64(len(rest)) < n+12 {
			if name == "IDAT" || name == "IHDR" || name == "PLTE" {
				return nil, errTruncated
			}
			break
		}
		chunk, body := rest[:n+12], rest[8:8+n]
		rest = rest[n+12:]
		switch name {
		case "IHDR":
			if f.header != nil {
				return nil, errors.New("a second IHDR chunk")
			}
			f.header = chunk
			f.w, f.h = int64(binary.BigEndian.Uint32(body)), int64(binary.BigEndian.Uint32(body[4:]))
			f.depth, f.color = body[8], body[9]
		case "PLTE":
			if f.palette == nil {
				f.palette = body
			}
		case "IDAT":
			f.data = append(f.data, chunk)
			f.numBytes += n
		case "eXIf":
			if f.exif == nil {
				f.exif = body
			}
		case "IEND":
			rest = nil
		}
	}
	if f.header == nil || f.data == nil {
		return nil, errTruncated
	}
	return f, nil
}

// check refuses what cannot or must not be decoded, before any allocation.
func (f *pngFile) check(maxPixels int64) error {
	channels := map[uint8]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[f.color]
	if channels == 0 || f.color == 3 && f.depth > 8 || f.depth > 16 || f.depth == 0 {
		return fmt.Errorf("colour type %d with %d bits", f.color, f.depth)
	}
	if f.color == 3 && f.palette == nil {
		return errors.New("palette is missing")
	}
	if err := checkSize(f.w, f.h, maxPixels); err != nil {
		return err
	}
	// Deflate expands to at most 1032 times its size.
	if raw := (f.w*channels*int64(f.depth) + 7) / 8 * f.h; raw/1032 > f.numBytes {
		return fmt.Errorf("%d bytes of data cannot hold %d x %d pixels: %w", f.numBytes, f.w, f.h, errTruncated)
	}
	return nil
}

// rampPalette fills a palette up to 256 entries the way Pillow does: entry i
// that the file leaves out is grey i.
func rampPalette(rgb []byte) []byte {
	p := make([]byte, 3*256)
	for i := range p {
		p[i] = byte(i / 3)
	}
	copy(p, rgb[:len(rgb)/3*3])
	return p
}

func pngChunk(name string, body []byte) []byte {
	c := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	c = append(append(c, name...), body...)
	return binary.BigEndian.AppendUint32(c, crc32.ChecksumIEEE(c[4:]))
}

// pngPixels converts as Pillow's modes do: the high byte of 16-bit colour, but
// 16-bit grey clipped at 255.
func pngPixels(m image.Image, palette []byte) (*RGB, error) {
	p := newRGB(m.Bounds().Dx(), m.Bounds().Dy())
	dst := p.Pix
	switch m := m.(type) {
	case *image.Gray:
		for i, s := range m.Pix {
			dst[3*i], dst[3*i+1], dst[3*i+2] = s, s, s
		}
	case *image.Gray16:
		for i := range len(m.Pix) / 2 {
			s := m.Pix[2*i+1]
			if m.Pix[2*i] != 0 {
				s = 255
			}
			dst[3*i], dst[3*i+1], dst[3*i+2] = s, s, s
		}
	case *image.Paletted:
		for i, index := range m.Pix {
			copy(dst[3*i:3*i+3], palette[3*int(index):])
		}
	case *image.RGBA:
		copyRGB(dst, m.Pix, 4, 1)
	case *image.NRGBA:
		copyRGB(dst, m.Pix, 4, 1)
	case *image.RGBA64:
		copyRGB(dst, m.Pix, 8, 2)
	case *image.NRGBA64:
		copyRGB(dst, m.Pix, 8, 2)
	default:
		return nil, fmt.Errorf("pixels of type %T", m)
	}
	return p, nil
}

// copyRGB takes three bytes from every pixel of src, step bytes apart.
func copyRGB(dst, src []uint8, pixel, step int) {
	for i, j := 0, 0; i+3 <= len(dst); i, j = i+3, j+pixel {
		dst[i], dst[i+1], dst[i+2] = src[j], src[j+step], src[j+2*step]
	}
}
