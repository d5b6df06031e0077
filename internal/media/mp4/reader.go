package mp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxComment bounds the comment, in bytes, on writing and on reading.
const MaxComment = 4 << 20

// maxBoxes bounds how many boxes are looked at in one file.
const maxBoxes = 1 << 14

// ErrNoComment is returned by [Comment] for a sound file that has none.
var ErrNoComment = errors.New("mp4 file has no comment")

// span is a range of a file.
type span struct{ start, end int64 }

// Comment returns the comment (©cmt in the metadata item list) of an MP4 or
// QuickTime file of size bytes, at most MaxComment long. It reads box headers
// and the comment, nothing else, and trusts no size. Errors: ErrNoComment.
func Comment(r io.ReaderAt, size int64) ([]byte, error) {
	f := &reader{r: r, left: maxBoxes}
	at := span{0, size}
	if kind, _, err := f.header(at); err != nil || kind != "ftyp" {
		return nil, fmt.Errorf("not an mp4 file: no ftyp box at its start")
	}
	for _, kind := range [...]string{"moov", "udta", "meta", "ilst", "\xa9cmt", "data"} {
		var err error
		if at, err = f.find(at, kind); err != nil {
			return nil, err
		}
		if kind == "meta" {
			if at, err = f.skipVersion(at); err != nil {
				return nil, err
			}
		}
	}
	const typeAndLocale = 8
	if at.end-at.start < typeAndLocale {
		return nil, fmt.Errorf("mp4 comment at %d is %d bytes long, expected at least %d", at.start, at.end-at.start, typeAndLocale)
	}
	at.start += typeAndLocale
	n := at.end - at.start
	if n > MaxComment {
		return nil, fmt.Errorf("mp4 comment at %d is %d bytes long, at most %d are read", at.start, n, MaxComment)
	}
	out := make([]byte, n)
	if err := f.read(out, at.start); err != nil {
		return nil, err
	}
	return out, nil
}

type reader struct {
	r    io.ReaderAt
	left int // boxes that may still be looked at
}

func (f *reader) read(p []byte, at int64) error {
	if _, err := io.ReadFull(io.NewSectionReader(f.r, at, int64(len(p))), p); err != nil {
		return fmt.Errorf("read mp4 at %d: %w", at, err)
	}
	return nil
}

// header reads the box at the start of within and returns its type and contents.
func (f *reader) header(within span) (kind string, body span, err error) {
	if f.left--; f.left < 0 {
		return "", span{}, fmt.Errorf("mp4 file has more than %d boxes before its comment", maxBoxes)
	}
	room := within.end - within.start
	if room < 8 {
		return "", span{}, fmt.Errorf("mp4 box header at %d is cut off", within.start)
	}
	var h [16]byte
	if err := f.read(h[:8], within.start); err != nil {
		return "", span{}, err
	}
	size, headLen := int64(binary.BigEndian.Uint32(h[:])), int64(8)
	switch size {
	case 0: // to the end of what contains it
		size = room
	case 1:
		if room < 16 {
			return "", span{}, fmt.Errorf("mp4 box header at %d is cut off", within.start)
		}
		if err := f.read(h[8:], within.start+8); err != nil {
			return "", span{}, err
		}
		headLen = 16
		size = int64(min(binary.BigEndian.Uint64(h[8:]), 1<<62))
	}
	if size < headLen || size > room {
		return "", span{}, fmt.Errorf("mp4 box %q at %d says it is %d bytes long, expected %d to %d", h[4:8], within.start, size, headLen, room)
	}
	return string(h[4:8]), span{within.start + headLen, within.start + size}, nil
}

// find returns the contents of the first box of that type in within.
func (f *reader) find(within span, want string) (span, error) {
	// QuickTime ends some lists with four zero bytes.
	for within.end-within.start > 4 {
		kind, body, err := f.header(within)
		if err != nil {
			return span{}, err
		}
		if kind == want {
			return body, nil
		}
		within.start = body.end
	}
	return span{}, fmt.Errorf("no %q box: %w", want, ErrNoComment)
}

// skipVersion steps over the version of a meta box, which QuickTime's lacks.
func (f *reader) skipVersion(body span) (span, error) {
	if body.end-body.start < 8 {
		return span{}, fmt.Errorf("mp4 meta box at %d is cut off", body.start)
	}
	var h [8]byte
	if err := f.read(h[:], body.start); err != nil {
		return span{}, err
	}
	if string(h[4:]) != "hdlr" {
		body.start += 4
	}
	return body, nil
}
