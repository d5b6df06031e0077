package mp4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// memFile is an io.WriteSeeker in memory.
type memFile struct {
	data []byte
	at   int64
}

func (m *memFile) Write(p []byte) (int, error) {
	if end := m.at + int64(len(p)); end > int64(len(m.data)) {
		m.data = append(m.data, make([]byte, end-int64(len(m.data)))...)
	}
	m.at += int64(copy(m.data[m.at:], p))
	return len(p), nil
}

func (m *memFile) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.New("only SeekStart is used")
	}
	m.at = offset
	return offset, nil
}

func video(n int, comment string) Video {
	return Video{Width: 832, Height: 480, FPS: 16, NumFrames: n, SPS: []byte{0x67, 66, 0xC0, 30, 1}, PPS: []byte{0x68, 2},
		Primaries: 1, Transfer: 13, Matrix: 6, Tool: "test", Comment: comment}
}

func writeFile(t testing.TB, v Video) []byte {
	t.Helper()
	var f memFile
	w, err := NewWriter(&f, v)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v.NumFrames {
		if err := w.WriteSample(bytes.Repeat([]byte{byte(i + 1)}, 10+i), i%3 == 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return f.data
}

// child is the contents of a box on a path like "moov/trak"; it fails the test
// if the box is not there.
func child(t *testing.T, data []byte, path string) []byte {
	t.Helper()
	f := &reader{r: bytes.NewReader(data), left: maxBoxes}
	at := span{0, int64(len(data))}
	for _, kind := range strings.Split(path, "/") {
		var err error
		if at, err = f.find(at, kind); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return data[at.start:at.end]
}

func TestSamplesAreWhereTheTablesSay(t *testing.T) {
	data := writeFile(t, video(5, "{}"))
	const stbl = "moov/trak/mdia/minf/stbl/"
	chunk := binary.BigEndian.Uint32(child(t, data, stbl+"stco")[8:])
	sizes := child(t, data, stbl+"stsz")[12:]
	at := chunk
	for i := range 5 {
		n := binary.BigEndian.Uint32(sizes[4*i:])
		if want := bytes.Repeat([]byte{byte(i + 1)}, 10+i); !bytes.Equal(data[at:at+n], want) {
			t.Errorf("sample %d at %d is %x, want %x", i, at, data[at:at+n], want)
		}
		at += n
	}
	if int(at) != len(data) {
		t.Errorf("samples end at %d, the file at %d", at, len(data))
	}
	if keys := child(t, data, stbl+"stss")[4:]; !bytes.Equal(keys, table([]uint32{2, 1, 4})) {
		t.Errorf("stss = %x, want two keys: 1 and 4", keys)
	}
	if mdat := child(t, data, "mdat"); len(mdat) != 10+11+12+13+14 {
		t.Errorf("mdat holds %d bytes, want 60", len(mdat))
	}
	if moov, mdat := bytes.Index(data, []byte("moov")), bytes.Index(data, []byte("mdat")); moov > mdat {
		t.Errorf("moov at %d comes after mdat at %d", moov, mdat)
	}
}

func TestCommentRoundTrip(t *testing.T) {
	for _, comment := range []string{"{}", `{"prompt":"круг → 圆"}`, strings.Repeat("x", MaxComment)} {
		data := writeFile(t, video(1, comment))
		got, err := Comment(bytes.NewReader(data), int64(len(data)))
		if err != nil || string(got) != comment {
			t.Errorf("Comment gave %d bytes, %v; want the %d bytes written", len(got), err, len(comment))
		}
	}
	data := writeFile(t, video(1, ""))
	if _, err := Comment(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrNoComment) {
		t.Errorf("a file without comment gives %v, want ErrNoComment", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Video)
	}{
		{"no frames", func(v *Video) { v.NumFrames = 0 }},
		{"too many frames", func(v *Video) { v.NumFrames = maxFrames + 1 }},
		{"wide", func(v *Video) { v.Width = math.MaxUint16 + 1 }},
		{"no rate", func(v *Video) { v.FPS = 0 }},
		{"no parameter sets", func(v *Video) { v.SPS = nil }},
		{"long comment", func(v *Video) { v.Comment = strings.Repeat("x", MaxComment+1) }},
	} {
		v := video(3, "{}")
		tc.edit(&v)
		if _, err := NewWriter(&memFile{}, v); err == nil {
			t.Errorf("%s: accepted", tc.name)
		}
	}
	w, err := NewWriter(&memFile{}, video(1, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("Close accepts a missing frame")
	}
	if err := w.WriteSample([]byte{1}, true); err != nil {
		t.Error(err)
	}
	if err := w.WriteSample([]byte{1}, true); err == nil {
		t.Error("WriteSample accepts a frame too many")
	}
}

// countingFile takes any number of bytes and keeps those of the header.
type countingFile struct{ memFile }

func (f *countingFile) Write(p []byte) (int, error) {
	if f.at < 1<<16 && len(p) < 1<<16 {
		return f.memFile.Write(p)
	}
	f.at += int64(len(p))
	return len(p), nil
}

func TestMoreThanFourGigabytes(t *testing.T) {
	var f countingFile
	const numFrames, sampleLen = 65, 64 << 20
	w, err := NewWriter(&f, video(numFrames, "{}"))
	if err != nil {
		t.Fatal(err)
	}
	sample := make([]byte, sampleLen)
	for range numFrames {
		if err := w.WriteSample(sample, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(f.data, []byte("mdat"))
	if size := binary.BigEndian.Uint32(f.data[at-4:]); size != 1 {
		t.Errorf("mdat's short size is %d, want 1, which points to the long one", size)
	}
	if size := binary.BigEndian.Uint64(f.data[at+4:]); size != numFrames*sampleLen+16 {
		t.Errorf("mdat's size is %d, want %d", size, numFrames*sampleLen+16)
	}
	if int64(at+12) != w.start {
		t.Errorf("samples begin at %d, want %d, right after the header of mdat", w.start, at+12)
	}
}

func TestCommentOfDamagedFiles(t *testing.T) {
	good := writeFile(t, video(2, `{"seed":1}`))
	cmt := bytes.Index(good, []byte("\xa9cmt"))
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not an mp4"},
		{"text", []byte("hello, this is not a film"), "not an mp4"},
		{"cut", good[:cmt+10], "expected 8 to"},
		{"box larger than its parent", patch(good, cmt-4, 0x7F), "expected 8 to"},
		{"box smaller than its header", patch(good, cmt-4, 0, 0, 0, 3), "says it is 3 bytes"},
		{"long size beyond 2^63", append(ftyp(), 0, 0, 0, 1, 'm', 'o', 'o', 'v', 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), "says it is"},
		{"many boxes", append(ftyp(), bytes.Repeat(box("free"), maxBoxes)...), "more than"},
		{"data without its type", patch(patch(good, cmt+4, 0, 0, 0, 9), cmt+8, 'd', 'a', 't', 'a'), "expected at least 8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Comment(bytes.NewReader(tc.data), int64(len(tc.data)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Comment gives %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func patch(data []byte, at int, b ...byte) []byte {
	out := bytes.Clone(data)
	copy(out[at:], b)
	return out
}

func FuzzComment(f *testing.F) {
	f.Add(writeFile(f, video(3, `{"seed":1}`)))
	f.Add(append(ftyp(), box("moov", box("udta", box("meta", box("hdlr", zeros(24)), box("ilst"))))...))
	f.Add(append(ftyp(), 0, 0, 0, 0, 'm', 'o', 'o', 'v', 0, 0, 0, 0, 'u', 'd', 't', 'a'))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Comment(bytes.NewReader(data), int64(len(data)))
		if err != nil && got != nil {
			t.Errorf("%d bytes together with error %v", len(got), err)
		}
		if len(got) > len(data) {
			t.Errorf("a comment of %d bytes from a file of %d", len(got), len(data))
		}
	})
}
