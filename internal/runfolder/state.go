package runfolder

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// A state file is, little-endian:
//
//	magic        16 bytes
//	header size  uint64
//	header       JSON
//	arrays       float32, in the header's order
//	checksum     SHA-256 of all before
//
// Nothing follows.
const magic = "wanrun state 1\r\n"

// The bounds of what is read. A latent of 81 frames at 720p has 5 million numbers.
const (
	maxHeader   = 8 << 20 // prompts of a megabyte, escaped
	maxArrays   = 16
	maxElements = 1 << 30 // of all arrays
	maxSteps    = 1 << 20
)

// Header says what a state is of.
type Header struct {
	Build string `json:"build"`
	// Args is the command line that goes on with the run, paths absolute: flags of
	// `wanrun generate`.
	Args []string `json:"args"`
	// Facts are what the video depends on, by name.
	Facts map[string]string `json:"facts"`
	// Next is the first step not yet run; 0 <= Next <= Steps. At 0 there are no arrays.
	Next  int    `json:"next"`
	Steps int    `json:"steps"`
	Kind  string `json:"solver"`
	Shift string `json:"shift"` // as strconv writes it, so that no digit is lost
	// Apart says that the branches of guidance run one after the other.
	Apart bool `json:"branches_apart"`
	// Ranks says how the work was spread.
	Ranks string `json:"ranks"`
	// Arrays are the names and lengths of what follows the header.
	Arrays []Array `json:"arrays"`
}

// Array is one row of the header's list.
type Array struct {
	Name     string `json:"name"`
	Elements int    `json:"elements"`
}

// State is a run between two steps.
type State struct {
	Header
	// Data are the arrays' numbers, one for each of Arrays.
	Data [][]float32
}

// The names of arrays. The latent is always there once a step has run, the others are
// those of the solver's history that it has.
const (
	Latent = "latent"
	X0     = "x0"
	PrevX0 = "prev_x0"
	Sample = "sample"
)

// Add puts an array into the state; one without elements is left out.
func (s *State) Add(name string, data []float32) {
	if len(data) > 0 {
		s.Arrays, s.Data = append(s.Arrays, Array{name, len(data)}), append(s.Data, data)
	}
}

// Get returns an array, nil if there is none of the name.
func (s *State) Get(name string) []float32 {
	i := slices.IndexFunc(s.Arrays, func(a Array) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	return s.Data[i]
}

// Complete says that all steps have run, and only the decoding is left.
func (h Header) Complete() bool { return h.Next == h.Steps }

func (h Header) check() error {
	total := 0
	names := map[string]bool{}
	for _, a := range h.Arrays {
		switch {
		case a.Elements <= 0 || a.Elements > maxElements-total:
			return fmt.Errorf("array %.40q has %d elements, of at most %d in all", a.Name, a.Elements, maxElements)
		case names[a.Name]:
			return fmt.Errorf("array %.40q is there twice", a.Name)
		}
		names[a.Name] = true
		total += a.Elements
	}
	switch {
	case h.Steps < 1 || h.Steps > maxSteps || h.Next < 0 || h.Next > h.Steps:
		return fmt.Errorf("it stands before step %d of %d", h.Next, h.Steps)
	case len(h.Arrays) > maxArrays:
		return fmt.Errorf("%d arrays, at most %d are read", len(h.Arrays), maxArrays)
	case (h.Next > 0) != names[Latent]:
		return fmt.Errorf("it stands before step %d of %d, and has the arrays %v", h.Next, h.Steps, h.Arrays)
	}
	return nil
}

// size is that of the whole file, whose header has so many bytes. check bounds it.
func (h Header) size(header int64) int64 {
	n := int64(len(magic)) + 8 + header + sha256.Size
	for _, a := range h.Arrays {
		n += 4 * int64(a.Elements)
	}
	return n
}

// encode writes the state.
func (s State) encode(to io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	header, err := json.Marshal(s.Header)
	if err != nil {
		return err
	}
	if len(header) > maxHeader {
		return fmt.Errorf("settings of %d bytes, at most %d are saved", len(header), maxHeader)
	}
	sum := sha256.New()
	w := io.MultiWriter(to, sum)
	head := binary.LittleEndian.AppendUint64([]byte(magic), uint64(len(header)))
	if _, err := w.Write(append(head, header...)); err != nil {
		return err
	}
	buf := make([]byte, 0, chunk)
	for _, data := range s.Data {
		for part := range slices.Chunk(data, chunk/4) {
			buf = buf[:0]
			for _, v := range part {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
			}
			if _, err := w.Write(buf); err != nil {
				return err
			}
		}
	}
	_, err = to.Write(sum.Sum(nil))
	return err
}

// chunk is how many bytes are converted at once.
const chunk = 64 << 10

// errTorn is an end before the end.
var errTorn = errors.New("the file is cut off")

// decode reads a state of size bytes. Without whole it reads the header alone. It takes
// no more memory than the file has bytes.
func decode(from io.Reader, size int64, whole bool) (State, error) {
	var s State
	sum := sha256.New()
	r := io.TeeReader(from, sum)
	head := make([]byte, len(magic)+8)
	if _, err := io.ReadFull(r, head); err != nil {
		return s, torn(err)
	}
	if string(head[:len(magic)]) != magic {
		return s, errors.New("it is no saved run, or one of another version")
	}
	n := binary.LittleEndian.Uint64(head[len(magic):])
	if n > maxHeader || int64(n) > size {
		return s, fmt.Errorf("a header of %d bytes in a file of %d", n, size)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(r, header); err != nil {
		return s, torn(err)
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s.Header); err != nil {
		return State{}, fmt.Errorf("header: %w", err)
	}
	if err := s.check(); err != nil {
		return State{}, err
	}
	if want := s.size(int64(n)); size != want {
		return State{}, fmt.Errorf("%d bytes, want %d: %w", size, want, errTorn)
	}
	if !whole {
		return s, nil
	}
	buf := make([]byte, chunk)
	for _, a := range s.Arrays {
		data := make([]float32, 0, a.Elements)
		for len(data) < a.Elements {
			part := buf[:4*min(len(buf)/4, a.Elements-len(data))]
			if _, err := io.ReadFull(r, part); err != nil {
				return State{}, torn(err)
			}
			for ; len(part) > 0; part = part[4:] {
				data = append(data, math.Float32frombits(binary.LittleEndian.Uint32(part)))
			}
		}
		s.Data = append(s.Data, data)
	}
	var saved [sha256.Size]byte
	if _, err := io.ReadFull(from, saved[:]); err != nil {
		return State{}, torn(err)
	}
	if !bytes.Equal(saved[:], sum.Sum(nil)) {
		return State{}, errors.New("the checksum is wrong: the file was damaged, and cannot be used")
	}
	return s, nil
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}
