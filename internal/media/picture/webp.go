package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
)

// webpFile is what matters of a WebP's chunks.
type webpFile struct {
	canvasW, canvasH int64 // of the VP8X chunk; 0 without one
	x, y             int   // where an animation's first frame lies on the canvas
	frameW, frameH   int   // of the ANMF chunk; 0 for a still picture
	lossy, lossless  []byte
	exif             []byte
}

// decodeWebP decodes a lossy or lossless WebP; alpha is not even read. An
// animation gives its first frame, on black where it leaves the canvas free.
func decodeWebP(data []byte, maxPixels int64) (*RGB, []byte, error) {
	size := int64(binary.LittleEndian.Uint32(data[4:]))
	if size < 4 || int64(len(data)) < 8+size {
		return nil, nil, errTruncated
	}
	f := &webpFile{}
	if err := f.readChunks(data[12:8+size], false); err != nil {
		return nil, nil, err
	}
	if f.canvasW > 0 {
		if err := checkSize(f.canvasW, f.canvasH, maxPixels); err != nil {
			return nil, nil, err
		}
	}
	p, err := f.decodeFrame(maxPixels)
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errTruncated
		}
		return nil, nil, err
	}
	p, err = f.place(p)
	return p, f.exif, err
}

// readChunks reads the chunks of the file or, inFrame, of its first frame.
func (f *webpFile) readChunks(rest []byte, inFrame bool) error {
	for len(rest) >= 8 {
		name, n := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:]))
		if int64(len(rest)) < 8+n {
			return errTruncated
		}
		body := rest[8 : 8+n]
		rest = rest[min(int64(len(rest)), 8+n+n&1):]
		found := f.lossy != nil || f.lossless != nil
		switch {
		case name == "VP8X" && !inFrame:
			if n < 10 {
				return fmt.Errorf("VP8X chunk of %d bytes, expected 10", n)
			}
			f.canvasW, f.canvasH = 1+int64(uint24(body[4:])), 1+int64(uint24(body[7:]))
		case name == "ANMF" && !inFrame && !found:
			if n < 16 {
				return fmt.Errorf("ANMF chunk of %d bytes, expected 16 or more", n)
			}
			f.x, f.y = 2*uint24(body), 2*uint24(body[3:])
			f.frameW, f.frameH = 1+uint24(body[6:]), 1+uint24(body[9:])
			if err := f.readChunks(body[16:], true); err != nil {
				return err
			}
		case name == "VP8 " && !found:
			f.lossy = body
		case name == "VP8L" && !found:
			f.lossless = body
		case name == "EXIF" && f.exif == nil:
			f.exif = bytes.TrimPrefix(body, []byte("Exif\x00\x00"))
		}
	}
	return nil
}

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// decodeFrame decodes the picture data that readChunks has found.
func (f *webpFile) decodeFrame(maxPixels int64) (*RGB, error) {
	switch {
	case f.lossy != nil:
		d := vp8.NewDecoder()
		d.Init(bytes.NewReader(f.lossy), len(f.lossy))
		h, err := d.DecodeFrameHeader()
		if err != nil {
			return nil, err
		}
		if err := checkSize(int64(h.Width), int64(h.Height), maxPixels); err != nil {
			return nil, err
		}
		// The prediction modes alone take more than a bit for each macroblock.
		if mbs := ((h.Width + 15) / 16) * ((h.Height + 15) / 16); mbs/8 > len(f.lossy) {
			return nil, fmt.Errorf("%d bytes of data cannot hold %d x %d pixels: %w", len(f.lossy), h.Width, h.Height, errTruncated)
		}
		m, err := d.DecodeFrame()
		if err != nil {
			return nil, err
		}
		return webpToRGB(m), nil
	case f.lossless != nil:
		c, err := vp8l.DecodeConfig(bytes.NewReader(f.lossless))
		if err != nil {
			return nil, err
		}
		if err := checkSize(int64(c.Width), int64(c.Height), maxPixels); err != nil {
			return nil, err
		}
		m, err := vp8l.Decode(bytes.NewReader(f.lossless))
		if err != nil {
			return nil, err
		}
		n, ok := m.(*image.NRGBA)
		if !ok {
			return nil, fmt.Errorf("pixels of type %T", m)
		}
		p := newRGB(c.Width, c.Height)
		copyRGB(p.Pix, n.Pix, 4, 1)
		return p, nil
	}
	return nil, errors.New("no picture data")
}

// place puts the frame on the canvas. A still picture must fill it.
func (f *webpFile) place(p *RGB) (*RGB, error) {
	if f.canvasW == 0 || int64(p.W) == f.canvasW && int64(p.H) == f.canvasH {
		return p, nil
	}
	if p.W != f.frameW || p.H != f.frameH || int64(f.x+p.W) > f.canvasW || int64(f.y+p.H) > f.canvasH {
		return nil, fmt.Errorf("picture of %d x %d does not fit its canvas of %d x %d", p.W, p.H, f.canvasW, f.canvasH)
	}
	canvas := newRGB(int(f.canvasW), int(f.canvasH))
	for y := range p.H {
		copy(canvas.Pix[((f.y+y)*canvas.W+f.x)*3:], p.Pix[y*p.W*3:(y+1)*p.W*3])
	}
	return canvas, nil
}

// webpToRGB upsamples and converts like libwebp's default ("fancy"): a bilinear
// chroma filter with weights 9, 3, 3, 1, then limited-range BT.601.
func webpToRGB(m *image.YCbCr) *RGB {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	p := newRGB(w, h)
	chromaRow := func(plane []uint8, y int) []uint8 {
		y = max(0, min(y, (h+1)/2-1))
		return plane[y*m.CStride : y*m.CStride+(w+1)/2]
	}
	u, v := make([]uint8, w+1), make([]uint8, w+1)
	for y := range h {
		// Luma rows 2k-1 and 2k lie between chroma rows k-1 and k.
		near, far := y/2, y/2-1+2*(y&1)
		webpUpsample(u, chromaRow(m.Cb, near), chromaRow(m.Cb, far))
		webpUpsample(v, chromaRow(m.Cr, near), chromaRow(m.Cr, far))
		luma := m.Y[y*m.YStride : y*m.YStride+w]
		out := p.Pix[y*w*3 : (y+1)*w*3]
		for x, s := range luma {
			webpPixel(out[3*x:3*x+3:3*x+3], int32(s), int32(u[x]), int32(v[x]))
		}
	}
	return p
}

// webpUpsample makes one row at full width; dst has room for an even number of
// samples.
func webpUpsample(dst, near, far []uint8) {
	n := len(near)
	far = far[:n]
	dst[0] = uint8((3*int32(near[0]) + int32(far[0]) + 2) >> 2)
	for x := 1; x < n; x++ {
		// a b: near, c d: far; the roundings in between are libwebp's.
		a, b, c, d := int32(near[x-1]), int32(near[x]), int32(far[x-1]), int32(far[x])
		sum := a + b + c + d + 8
		dst[2*x-1] = uint8(((sum+2*(b+c))>>3 + a) >> 1)
		dst[2*x] = uint8(((sum+2*(a+d))>>3 + b) >> 1)
	}
	if 2*n-1 < len(dst) {
		dst[2*n-1] = uint8((3*int32(near[n-1]) + int32(far[n-1]) + 2) >> 2)
	}
}

// webpPixel is libwebp's 14-bit fixed-point conversion.
func webpPixel(dst []uint8, y, u, v int32) {
	y = y * 19077 >> 8
	dst[0] = clip6(y + v*26149>>8 - 14234)
	dst[1] = clip6(y - u*6419>>8 - v*13320>>8 + 8708)
	dst[2] = clip6(y + u*33050>>8 - 17685)
}

func clip6(v int32) uint8 {
	if v < 0 {
		return 0
	}
	return uint8(min(v>>6, 255))
}
