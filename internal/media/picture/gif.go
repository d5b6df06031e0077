package picture

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// decodeGIF decodes the first frame of a GIF. Where the frame leaves its screen
// free, colour 0 (or the frame's transparent one) is seen, as with Pillow.
func decodeGIF(data []byte, maxPixels int64) (*RGB, error) {
	if len(data) < 13 {
		return nil, errTruncated
	}
	screenW, screenH := int(binary.LittleEndian.Uint16(data[6:])), int(binary.LittleEndian.Uint16(data[8:]))
	palette, rest, err := gifPalette(data[10], data[13:])
	if err != nil {
		return nil, err
	}
	background := 0
	for {
		if len(rest) < 2 {
			return nil, errTruncated
		}
		switch rest[0] {
		case 0x21: // extension
			label := rest[1]
			body, after, err := gifBlocks(rest[2:])
			if err != nil {
				return nil, err
			}
			if label == 0xf9 && len(body) >= 4 && body[0]&1 != 0 {
				background = int(body[3])
			}
			rest = after
		case 0x2c:
			return gifFrame(rest[1:], screenW, screenH, palette, background, maxPixels)
		case 0x3b:
			return nil, errors.New("no picture before the end")
		default: // stray bytes occur between blocks
			rest = rest[1:]
		}
	}
}

// gifPalette reads the colour table that flags announce; without one the
// picture is grey.
func gifPalette(flags byte, rest []byte) (palette, after []byte, err error) {
	n := 0
	if flags&0x80 != 0 {
		n = 3 << (flags&7 + 1)
	}
	if len(rest) < n {
		return nil, nil, errTruncated
	}
	return rampPalette(rest[:n]), rest[n:], nil
}

// gifBlocks joins the sub-blocks up to the empty one.
func gifBlocks(rest []byte) (body, after []byte, err error) {
	for {
		if len(rest) < 1 {
			return nil, nil, errTruncated
		}
		n := int(rest[0])
		if len(rest) < 1+n {
			return nil, nil, errTruncated
		}
		body, rest = append(body, rest[1:1+n]...), rest[1+n:]
		if n == 0 {
			return body, rest, nil
		}
	}
}

// gifFrame reads an image descriptor and its pixels.
func gifFrame(rest []byte, screenW, screenH int, palette []byte, background int, maxPixels int64) (*RGB, error) {
	if len(rest) < 9 {
		return nil, errTruncated
	}
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(rest[at:])) }
	x, y, w, h, flags := u16(0), u16(2), u16(4), u16(6), rest[8]
	rest = rest[9:]
	if flags&0x80 != 0 {
		var err error
		if palette, rest, err = gifPalette(flags, rest); err != nil {
			return nil, err
		}
	}
	if w == 0 || h == 0 {
		return nil, fmt.Errorf("frame has no pixels (%d x %d)", w, h)
	}
	screenW, screenH = max(screenW, x+w), max(screenH, y+h)
	if err := checkSize(int64(screenW), int64(screenH), maxPixels); err != nil {
		return nil, err
	}
	if len(rest) < 1 || rest[0] < 2 || rest[0] > 8 {
		return nil, errors.New("LZW code size is missing or not 2..8")
	}
	packed, _, err := gifBlocks(rest[1:])
	if err != nil {
		return nil, err
	}
	// A code of 12 bits stands for at most 4096 pixels.
	if int64(w)*int64(h) > int64(len(packed))*4096 {
		return nil, fmt.Errorf("%d bytes of data cannot hold %d x %d pixels: %w", len(packed), w, h, errTruncated)
	}
	indices := make([]byte, w*h)
	lz := lzw.NewReader(bytes.NewReader(packed), lzw.LSB, int(rest[0]))
	defer lz.Close() // closes no file; an error would only repeat ReadFull's
	if _, err := io.ReadFull(lz, indices); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errTruncated
		}
		return nil, err
	}
	p := newRGB(screenW, screenH)
	for i := 0; i < len(p.Pix); i += 3 {
		copy(p.Pix[i:i+3], palette[3*background:])
	}
	for row := range h {
		at := ((y+gifRow(row, h, flags&0x40 != 0))*screenW + x) * 3
		for i, index := range indices[row*w : (row+1)*w] {
			copy(p.Pix[at+3*i:at+3*i+3], palette[3*int(index):])
		}
	}
	return p, nil
}

// gifRow is the place of the i-th stored row: interlaced, every 8th row from 0,
// every 8th from 4, every 4th from 2, every 2nd from 1.
func gifRow(i, h int, interlaced bool) int {
	if !interlaced {
		return i
	}
	for _, pass := range [4]struct{ start, step int }{{0, 8}, {4, 8}, {2, 4}, {1, 2}} {
		n := max(0, (h-pass.start+pass.step-1)/pass.step)
		if i < n {
			return pass.start + i*pass.step
		}
		i -= n
	}
	return 0 // not reached: the passes cover h rows
}
