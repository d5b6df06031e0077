package media

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

// pngEncoder writes one frame.
type pngEncoder struct {
	file io.Writer
	opt  Options
}

func (e *pngEncoder) writeFrame(rgb []byte) error {
	img := image.NewRGBA(image.Rect(0, 0, e.opt.W, e.opt.H))
	blit(img, 0, 0, rgb, e.opt.W, e.opt.H)
	return encodePNG(e.file, img, e.opt.Metadata, e.opt.Tool)
}

func (e *pngEncoder) finish() error { return nil }

func (e *pngEncoder) kill() {}

// WritePNG writes a picture with the settings, JSON or nil, under path, as
// whole or not at all. Errors: ErrOutput.
func WritePNG(path string, img image.Image, metadata []byte) error {
	if err := writePNG(path, img, metadata); err != nil {
		return outputError(path, err)
	}
	return nil
}

func writePNG(path string, img image.Image, metadata []byte) error {
	meta, err := compactMetadata(metadata)
	if err != nil {
		return err
	}
	t, err := createTarget(path)
	if err != nil {
		return err
	}
	if err := encodePNG(t.file, img, meta, ""); err != nil {
		t.discard()
		return err
	}
	kept, err := t.commit()
	if err != nil && !kept {
		t.discard()
	}
	return err
}

const pngSignature = "\x89PNG\r\n\x1a\n"

// pngHeaderLen is the signature and the IHDR chunk, which comes first.
const pngHeaderLen = 8 + 12 + 13

// Keywords of PNG text, as registered in its specification, section 11.3.3.2.
const (
	pngComment  = "Comment"
	pngSoftware = "Software"
)

// encodePNG writes img with text chunks after its header.
func encodePNG(w io.Writer, img image.Image, metadata []byte, tool string) error {
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		return fmt.Errorf("encode png: %w", err)
	}
	data := buf.Bytes()
	head := bytes.Clone(data[:pngHeaderLen])
	if tool != "" {
		head = appendText(head, pngSoftware, []byte(tool))
	}
	if len(metadata) > 0 {
		head = appendText(head, pngComment, metadata)
	}
	for _, part := range [][]byte{head, data[pngHeaderLen:]} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("write png: %w", err)
		}
	}
	return nil
}

// textPrefix is what comes before the text in an iTXt chunk: the keyword, not
// compressed, no language, no translated keyword.
func textPrefix(keyword string) string { return keyword + "\x00\x00\x00\x00\x00" }

// appendText appends an iTXt chunk (UTF-8 text).
func appendText(dst []byte, keyword string, text []byte) []byte {
	body := append([]byte("iTXt"+textPrefix(keyword)), text...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)-4))
	dst = append(dst, body...)
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(body))
}

// maxChunks bounds how many chunks of a PNG file are looked at.
const maxChunks = 1 << 16

// errNoComment is returned by readPNGComment for a sound file that has none.
var errNoComment = errors.New("png file has no comment")

// readPNGComment finds the uncompressed iTXt chunk "Comment" in a file of size
// bytes. Errors: errNoComment.
func readPNGComment(r io.ReaderAt, size int64) ([]byte, error) {
	read := func(p []byte, at int64) error {
		if _, err := io.ReadFull(io.NewSectionReader(r, at, int64(len(p))), p); err != nil {
			return fmt.Errorf("read png at %d: %w", at, err)
		}
		return nil
	}
	var head [8]byte
	if err := read(head[:], 0); err != nil {
		return nil, err
	}
	if string(head[:]) != pngSignature {
		return nil, errors.New("not a png file")
	}
	prefix := textPrefix(pngComment)
	at := int64(len(pngSignature))
	for range maxChunks {
		if err := read(head[:], at); err != nil {
			return nil, err
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		if n > size-at-12 {
			return nil, fmt.Errorf("png chunk %q at %d says it is %d bytes long, the file has %d more", head[4:], at, n, max(size-at-12, 0))
		}
		switch string(head[4:]) {
		case "IEND":
			return nil, errNoComment
		case "iTXt":
			if n < int64(len(prefix)) || n > int64(len(prefix)+MaxMetadata) {
				break
			}
			body := make([]byte, 4+n+4) // with the type before and the sum after
			if err := read(body, at+4); err != nil {
				return nil, err
			}
			if !bytes.HasPrefix(body[4:4+n], []byte(prefix)) {
				break
			}
			sum := binary.BigEndian.Uint32(body[4+n:])
			if got := crc32.ChecksumIEEE(body[:4+n]); got != sum {
				return nil, fmt.Errorf("png comment at %d is damaged: checksum %08x, expected %08x", at, got, sum)
			}
			return body[4+len(prefix) : 4+n], nil
		}
		at += 12 + n
	}
	return nil, fmt.Errorf("png file has more than %d chunks", maxChunks)
}
