package picture

import (
	"errors"
	"fmt"
)

// The JPEG decoder: markers and headers. Section numbers are of ITU-T T.81.

const (
	markerSOF0  = 0xc0
	markerSOF1  = 0xc1
	markerSOF2  = 0xc2
	markerDHT   = 0xc4
	markerRST0  = 0xd0
	markerRST7  = 0xd7
	markerSOI   = 0xd8
	markerEOI   = 0xd9
	markerSOS   = 0xda
	markerDQT   = 0xdb
	markerDRI   = 0xdd
	markerAPP0  = 0xe0
	markerAPP1  = 0xe1
	markerAPP14 = 0xee
	markerTEM   = 0x01
)

// maxScans bounds the time that a small hostile file can cost. Encoders write
// about ten scans; the most that libjpeg's own documentation suggests is far
// below.
const maxScans = 128

// smoothed are the coefficients (DC and the first nine of the zigzag) that
// libjpeg's block smoothing estimates when a progressive file ends before they
// are exact. Such a file is a download cut at a lucky place: refused.
const smoothed = 1<<10 - 1

var errTruncated = errors.New("file is truncated")

// naturalOrder maps a coefficient's place in the zigzag scan to its place in
// the 8 x 8 block.
var naturalOrder = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

type jpegComponent struct {
	id    uint8
	h, v  int // sampling factors, 1..4
	tq    uint8
	w, hh int // samples that belong to the picture: libjpeg's downsampled size

	// blocksX, blocksY count the 8 x 8 blocks of w x hh; the padded counts fill
	// whole MCUs and give the extent of plane and coef.
	blocksX, blocksY int
	paddedX, paddedY int
	quant            *[64]uint16 // of the component's first scan, natural order
	coef             []int16     // [paddedY, paddedX, 64] natural order; nil when the scan goes straight to plane
	plane            []uint8     // [paddedY*8, paddedX*8]
	dcTable, acTable int         // of the current scan
	dcPrev           int32
	hExpand, vExpand int    // maxH/h, maxV/v
	exact            uint64 // bit k: coefficient k (zigzag) has been sent in full
}

type jpegDecoder struct {
	data        []byte
	pos         int
	maxPixels   int64
	w, h        int
	progressive bool
	comps       []jpegComponent
	maxH, maxV  int
	mcusX       int
	mcusY       int
	quant       [4]*[64]uint16
	dc, ac      [4]*huffmanTable
	restart     int // MCUs between restart markers, 0 for none
	numScans    int
	visits      int64 // coefficients visited by all scans
	scanned     bool  // the whole picture has been decoded
	jfif, adobe bool
	transform   uint8 // Adobe's colour transform: 0 none, 1 YCbCr, 2 YCCK
	exif        []byte
}

// decodeJPEG decodes Huffman-coded 8-bit JPEG, sequential and progressive.
// The second result is the EXIF block (from the TIFF header on), or nil.
func decodeJPEG(data []byte, maxPixels int64) (*RGB, []byte, error) {
	d := &jpegDecoder{data: data, pos: 2, maxPixels: maxPixels}
	if err := d.readMarkers(); err != nil {
		return nil, nil, err
	}
	for i := range d.comps {
		c := &d.comps[i]
		if c.quant == nil {
			return nil, nil, fmt.Errorf("no scan has data for colour component %d", i)
		}
		if c.exact&smoothed != smoothed {
			return nil, nil, errors.New("a progressive file without its last scans; save it again")
		}
		c.inverseDCT()
	}
	p, err := d.toRGB()
	return p, d.exif, err
}

// nextMarker skips to the next marker and returns its code. Fill bytes and
// stray data before it are skipped, as libjpeg does.
func (d *jpegDecoder) nextMarker() (uint8, error) {
	for d.pos+1 < len(d.data) {
		if d.data[d.pos] == 0xff {
			if m := d.data[d.pos+1]; m == 0xff {
				d.pos++
				continue
			} else if m != 0 {
				d.pos += 2
				return m, nil
			}
		}
		d.pos++
	}
	return 0, errTruncated
}

// segment returns the payload of the marker that nextMarker has just passed.
func (d *jpegDecoder) segment() ([]byte, error) {
	if d.pos+2 > len(d.data) {
		return nil, errTruncated
	}
	n := int(d.data[d.pos])<<8 | int(d.data[d.pos+1])
	if n < 2 {
		return nil, fmt.Errorf("segment length %d, expected 2 or more", n)
	}
	if d.pos+n > len(d.data) {
		return nil, errTruncated
	}
	s := d.data[d.pos+2 : d.pos+n]
	d.pos += n
	return s, nil
}

// readMarkers reads the file up to EOI, or to the end of the only scan.
func (d *jpegDecoder) readMarkers() error {
	for {
		m, err := d.nextMarker()
		if err != nil {
			return err
		}
		switch {
		case m >= markerRST0 && m <= markerRST7, m == markerTEM:
			continue
		case m == markerSOI:
			return errors.New("a second start of image inside the first")
		case m == markerEOI:
			if d.numScans == 0 {
				return errors.New("ends before any picture data")
			}
			return nil
		}
		seg, err := d.segment()
		if err != nil {
			return err
		}
		switch {
		case m == markerSOF0, m == markerSOF1, m == markerSOF2:
			err = d.readFrame(seg, m == markerSOF2)
		case m >= 0xc3 && m <= 0xcf && m != markerDHT && m != 0xc8 && m != 0xcc:
			err = fmt.Errorf("%s coding is not supported; save it again as an ordinary JPEG or PNG: %w", sofName(m), ErrFormat)
		case m == markerDHT:
			err = d.readHuffmanTables(seg)
		case m == markerDQT:
			err = d.readQuantTables(seg)
		case m == markerDRI:
			if len(seg) != 2 {
				return fmt.Errorf("restart interval of %d bytes, expected 2", len(seg))
			}
			d.restart = int(seg[0])<<8 | int(seg[1])
		case m == markerAPP0:
			d.jfif = d.jfif || len(seg) >= 12 && string(seg[:5]) == "JFIF\x00"
		case m == markerAPP1:
			if d.exif == nil && len(seg) > 6 && string(seg[:6]) == "Exif\x00\x00" {
				d.exif = seg[6:]
			}
		case m == markerAPP14:
			if len(seg) >= 12 && string(seg[:5]) == "Adobe" {
				d.adobe, d.transform = true, seg[11]
			}
		case m == markerSOS:
			err = d.readScan(seg)
			if err == nil && d.scanned {
				// What follows the only scan cannot change the picture; but a
				// file that just stops was cut, and Pillow refuses it.
				_, err = d.nextMarker()
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func sofName(m uint8) string {
	switch m {
	case 0xc3:
		return "lossless"
	case 0xc5, 0xc6, 0xc7:
		return "hierarchical"
	}
	return "arithmetic"
}

// readQuantTables reads a DQT segment (B.2.4.1).
func (d *jpegDecoder) readQuantTables(seg []byte) error {
	for len(seg) > 0 {
		wide, tq := int(seg[0]>>4), seg[0]&15
		if wide > 1 || tq > 3 {
			return fmt.Errorf("quantisation table %d of precision %d", tq, wide)
		}
		n := 64 << wide
		if len(seg) < 1+n {
			return errors.New("quantisation table is cut short")
		}
		var q [64]uint16
		for k, at := range naturalOrder {
			if wide == 1 {
				q[at] = uint16(seg[1+2*k])<<8 | uint16(seg[2+2*k])
			} else {
				q[at] = uint16(seg[1+k])
			}
		}
		d.quant[tq] = &q
		seg = seg[1+n:]
	}
	return nil
}

// readFrame reads a SOF segment (B.2.2) and checks the size, but allocates
// nothing yet: that is the first scan's business, when more is known.
func (d *jpegDecoder) readFrame(seg []byte, progressive bool) error {
	if d.comps != nil {
		return errors.New("a second frame header")
	}
	if len(seg) < 6 || len(seg) != 6+3*int(seg[5]) {
		return errors.New("frame header has a wrong length")
	}
	if seg[0] != 8 {
		return fmt.Errorf("%d bits a sample are not supported, expected 8; convert to PNG: %w", seg[0], ErrFormat)
	}
	h, w, n := int(seg[1])<<8|int(seg[2]), int(seg[3])<<8|int(seg[4]), int(seg[5])
	if n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("%d colour components, expected 1, 3 or 4: %w", n, ErrFormat)
	}
	if err := checkSize(int64(w), int64(h), d.maxPixels); err != nil {
		return err
	}
	d.w, d.h, d.progressive = w, h, progressive
	d.comps = make([]jpegComponent, n)
	for i := range d.comps {
		c, s := &d.comps[i], seg[6+3*i:]
		c.id, c.h, c.v, c.tq = s[0], int(s[1]>>4), int(s[1]&15), s[2]
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.tq > 3 {
			return fmt.Errorf("colour component %d has sampling %d x %d, quantisation table %d", i, c.h, c.v, c.tq)
		}
		d.maxH, d.maxV = max(d.maxH, c.h), max(d.maxV, c.v)
	}
	d.mcusX, d.mcusY = ceilDiv(w, 8*d.maxH), ceilDiv(h, 8*d.maxV)
	for i := range d.comps {
		c := &d.comps[i]
		if d.maxH%c.h != 0 || d.maxV%c.v != 0 {
			return fmt.Errorf("sampling %d x %d of %d x %d is not supported; save it again with common settings: %w", c.h, c.v, d.maxH, d.maxV, ErrFormat)
		}
		c.hExpand, c.vExpand = d.maxH/c.h, d.maxV/c.v
		c.w, c.hh = ceilDiv(w*c.h, d.maxH), ceilDiv(h*c.v, d.maxV)
		c.blocksX, c.blocksY = ceilDiv(c.w, 8), ceilDiv(c.hh, 8)
		c.paddedX, c.paddedY = d.mcusX*c.h, d.mcusY*c.v
	}
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
