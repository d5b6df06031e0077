package picture

import (
	"errors"
	"fmt"
)

// DefaultMaxPixels is the largest picture that Decode takes when Options does
// not say otherwise: Pillow's decompression bomb limit, a quarter of a GiB of
// RGB.
const DefaultMaxPixels = 178_956_970

// ErrTooLarge is wrapped by the error for a picture of more than
// Options.MaxPixels pixels.
var ErrTooLarge = errors.New("picture too large")

// ErrFormat is wrapped by the error for a file that is no picture, or one of a
// kind that this package does not read.
var ErrFormat = errors.New("unsupported picture format")

// RGB is a decoded picture.
type RGB struct {
	W, H int     // both at least 1
	Pix  []uint8 // [H, W, 3]
}

// Options of Decode; the zero value is the official behaviour.
type Options struct {
	ExifOrient bool  // turn and mirror the picture as its EXIF orientation says
	MaxPixels  int64 // 0 or less means DefaultMaxPixels
}

// Decode reads a picture of any supported format: JPEG, PNG, WebP, BMP, GIF.
// The first frame of an animation is taken. data is not kept.
//
// Peak memory beside data is about 20 bytes for each pixel in the worst case
// (progressive CMYK JPEG, interlaced 16-bit PNG), 7 for an ordinary photograph.
// Time is bounded by pixels and data: no format has loops beyond them, and the
// scans of a JPEG are limited in number and in visits to a coefficient.
//
// Errors: ErrTooLarge, ErrFormat; anything else is a damaged file.
func Decode(data []byte, opt Options) (*RGB, error) {
	if opt.MaxPixels <= 0 {
		opt.MaxPixels = DefaultMaxPixels
	}
	kind, err := sniff(data)
	if err != nil {
		return nil, err
	}
	var p *RGB
	var exif []byte
	switch kind {
	case kindJPEG:
		p, exif, err = decodeJPEG(data, opt.MaxPixels)
	case kindPNG:
		p, exif, err = decodePNG(data, opt.MaxPixels)
	case kindWebP:
		p, exif, err = decodeWebP(data, opt.MaxPixels)
	case kindBMP:
		p, err = decodeBMP(data, opt.MaxPixels)
	case kindGIF:
		p, err = decodeGIF(data, opt.MaxPixels)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	if opt.ExifOrient {
		p = p.Orient(exifOrientation(exif))
	}
	return p, nil
}

// checkSize says whether a picture of w x h may be allocated. It must be
// called before the first allocation whose size depends on w or h.
func checkSize(w, h, maxPixels int64) error {
	if w <= 0 || h <= 0 {
		return fmt.Errorf("picture has no pixels (%d x %d)", w, h)
	}
	if w > maxPixels || h > maxPixels || w*h > maxPixels {
		return fmt.Errorf("%d x %d pixels, limit %d pixels in all; scale the picture down: %w", w, h, maxPixels, ErrTooLarge)
	}
	return nil
}

func newRGB(w, h int) *RGB {
	return &RGB{W: w, H: h, Pix: make([]uint8, w*h*3)}
}
