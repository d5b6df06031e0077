package mp4

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Video describes the one track of a file.
type Video struct {
	Width, Height int // samples shown
	FPS           int
	NumFrames     int // exactly as many samples must be written
	SPS, PPS      []byte
	Primaries     uint16 // colour, ISO/IEC 23091-2 code points
	Transfer      uint16
	Matrix        uint16
	Tool          string // program that made the file
	Comment       string // free text, at most MaxComment bytes
}

// maxFrames bounds NumFrames: a day at 12 frames a second.
const maxFrames = 1 << 20

// Writer puts samples into an MP4 file. The number of samples is known from the
// start, so the place of the movie header (moov) is kept free before them and filled in by
// Close; nothing is ever copied or held in memory but the sizes.
type Writer struct {
	w     io.WriteSeeker
	video Video
	start int64 // offset of the first sample
	end   int64 // offset after the last one
	sizes []uint32
	keys  []uint32 // numbers of the key samples, from one
}

// mdatHeader is room for a box header with a 64 bit size.
const mdatHeader = 16

// NewWriter checks v and moves w past the room for the header. w must be empty
// and at its start.
func NewWriter(w io.WriteSeeker, v Video) (*Writer, error) {
	switch {
	case v.Width < 1 || v.Height < 1 || v.Width > math.MaxUint16 || v.Height > math.MaxUint16:
		return nil, fmt.Errorf("mp4 picture size %dx%d: each side must be 1 to %d", v.Width, v.Height, math.MaxUint16)
	case v.FPS < 1 || v.FPS > 1000:
		return nil, fmt.Errorf("mp4 with %d frames a second, expected 1 to 1000", v.FPS)
	case v.NumFrames < 1 || v.NumFrames > maxFrames:
		return nil, fmt.Errorf("mp4 of %d frames, expected 1 to %d", v.NumFrames, maxFrames)
	case len(v.SPS) < 4 || len(v.SPS) > math.MaxUint16 || len(v.PPS) < 1 || len(v.PPS) > math.MaxUint16:
		return nil, errors.New("mp4 needs the stream's parameter sets")
	case len(v.Comment) > MaxComment:
		return nil, fmt.Errorf("mp4 comment of %d bytes, at most %d are possible", len(v.Comment), MaxComment)
	}
	m := &Writer{w: w, video: v}
	// Room for the header at its largest, were every sample a key sample, and
	// for the free box that will fill what is left over.
	all := make([]uint32, v.NumFrames)
	room := len(ftyp()) + len(moov(&v, all, all, 0)) + 8 + mdatHeader
	m.start = int64(room)
	m.end = m.start
	if _, err := w.Seek(m.start, io.SeekStart); err != nil {
		return nil, fmt.Errorf("seek to the first frame: %w", err)
	}
	return m, nil
}

// WriteSample appends one picture: its NAL units, each after its length in four
// bytes. key says that decoding can start here.
func (m *Writer) WriteSample(data []byte, key bool) error {
	if len(m.sizes) == m.video.NumFrames {
		return fmt.Errorf("frame %d of a video of %d frames", len(m.sizes)+1, m.video.NumFrames)
	}
	if len(data) > math.MaxInt32 {
		return fmt.Errorf("frame of %d bytes is too large for an mp4 file", len(data))
	}
	n, err := m.w.Write(data)
	m.end += int64(n)
	if err != nil {
		return fmt.Errorf("write frame %d: %w", len(m.sizes)+1, err)
	}
	m.sizes = append(m.sizes, uint32(len(data)))
	if key {
		m.keys = append(m.keys, uint32(len(m.sizes)))
	}
	return nil
}

// Close fills in the header. It does not close the file.
func (m *Writer) Close() error {
	if len(m.sizes) != m.video.NumFrames {
		return fmt.Errorf("%d frames were written, expected %d", len(m.sizes), m.video.NumFrames)
	}
	if _, err := m.w.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("seek to the header: %w", err)
	}
	head := append(ftyp(), moov(&m.video, m.sizes, m.keys, uint32(m.start))...)
	free := int(m.start) - len(head) - mdatHeader
	dataLen := m.end - m.start
	var mdat []byte
	if dataLen+8 <= math.MaxUint32 {
		free += 8
		mdat = append(u32(uint32(dataLen+8)), "mdat"...)
	} else {
		mdat = append(u32(1), "mdat"...)
		mdat = append(mdat, u64(uint64(dataLen+16))...)
	}
	head = append(head, box("free", make([]byte, free-8))...)
	head = append(head, mdat...)
	if _, err := m.w.Write(head); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	if _, err := m.w.Seek(m.end, io.SeekStart); err != nil {
		return fmt.Errorf("seek to the end: %w", err)
	}
	return nil
}
