// Package safetensors reads tensors in the safetensors format: an 8-byte
// little-endian length, a JSON header of that length and the tensors' bytes.
// Source: https://github.com/huggingface/safetensors, README.md, "Format".
//
// Files come from outside, so the header is checked before anything is read:
// every tensor lies inside the file, their ranges follow one another without
// overlap or hole, and no name occurs twice.
package safetensors

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/internal/checkpoint/strictjson"
	"github.com/wanrun/wanrun/pkg/tensor"
)

const (
	maxHeader  = 100_000_000 // bytes; the format's own limit
	maxTensors = 1 << 17     // Wan's largest file set has about 1,300
	maxName    = 4096        // bytes
	maxRank    = 8
	maxDepth   = 4 // a header is three deep
)

// record is what the header says about one tensor. It is kept small, as the
// header chooses how many there are.
type record struct {
	name       string
	begin, end int64 // from the end of the header on
	dims       uint32
	rank       uint8
	dtype      tensor.DType
}

type header struct {
	records []record
	dims    []int // of all tensors
	start   int64 // of the data in the file
}

func (h *header) shape(r record) tensor.Shape {
	return tensor.Shape(h.dims[r.dims : r.dims+uint32(r.rank) : r.dims+uint32(r.rank)])
}

// parse reads and checks the header of a file. The records are in file order.
func parse(data []byte) (*header, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("%d bytes are too few for a safetensors file", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case n == 0:
		return nil, fmt.Errorf("the header is empty")
	case n > maxHeader:
		return nil, fmt.Errorf("header of %d bytes, at most %d allowed", n, maxHeader)
	case n > uint64(len(data)-8):
		return nil, fmt.Errorf("header of %d bytes in a file of %d: is the download complete?", n, len(data))
	}
	h := &header{start: 8 + int64(n)}
	if err := h.read(data[8:h.start]); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	slices.SortFunc(h.records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), strings.Compare(a.name, b.name))
	})
	return h, h.checkRanges(int64(len(data)))
}

func (h *header) read(data []byte) error {
	r, err := strictjson.New(data, maxDepth)
	if err != nil {
		return err
	}
	metadata := false
	err = r.Members(func(key []byte) error {
		if string(key) == "__metadata__" {
			if metadata {
				return fmt.Errorf("key %q occurs twice", key)
			}
			metadata = true
			return readMetadata(r)
		}
		switch {
		case len(h.records) == maxTensors:
			return fmt.Errorf("more than %d tensors, from %.64q on", maxTensors, key)
		case len(key) > maxName:
			return fmt.Errorf("tensor name %.64q... has %d bytes, at most %d allowed", key, len(key), maxName)
		}
		rec, err := h.readRecord(r)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", key, err)
		}
		rec.name = string(key)
		h.records = append(h.records, rec)
		return nil
	})
	if err != nil {
		return err
	}
	return r.End()
}

func readMetadata(r *strictjson.Reader) error {
	err := r.Object(func(string) error {
		_, err := r.String()
		return err
	})
	if err != nil {
		return fmt.Errorf("__metadata__ is not an object of strings: %w", err)
	}
	return nil
}

// readRecord reads {"dtype": .., "shape": [..], "data_offsets": [..]}.
func (h *header) readRecord(r *strictjson.Reader) (rec record, err error) {
	const dtype, shape, offsets = 1, 2, 4
	seen := 0
	once := func(field int) error {
		if seen&field != 0 {
			return fmt.Errorf("a field occurs twice")
		}
		seen |= field
		return nil
	}
	rec.dims = uint32(len(h.dims))
	err = r.Members(func(key []byte) error {
		switch string(key) {
		case "dtype":
			if err := once(dtype); err != nil {
				return err
			}
			name, err := r.String()
			if err != nil {
				return err
			}
			rec.dtype, err = tensor.ParseDType(string(name))
			return err
		case "shape":
			if err := once(shape); err != nil {
				return err
			}
			return h.readShape(r, &rec)
		case "data_offsets":
			if err := once(offsets); err != nil {
				return err
			}
			return readOffsets(r, &rec)
		}
		return fmt.Errorf("unknown field %.64q", key)
	})
	if err == nil && seen != dtype|shape|offsets {
		err = fmt.Errorf("dtype, shape and data_offsets are needed")
	}
	return rec, err
}

func (h *header) readShape(r *strictjson.Reader, rec *record) error {
	return r.Array(func() error {
		d, err := r.Int()
		switch {
		case err != nil:
			return fmt.Errorf("shape: %w", err)
		case d <= 0:
			return fmt.Errorf("shape: dim %d, must be positive", d)
		case rec.rank == maxRank:
			return fmt.Errorf("shape: more than %d dims", maxRank)
		}
		h.dims = append(h.dims, int(d))
		rec.rank++
		return nil
	})
}

func readOffsets(r *strictjson.Reader, rec *record) error {
	var v [2]int64
	n := 0
	err := r.Array(func() error {
		x, err := r.Int()
		switch {
		case err != nil:
			return fmt.Errorf("data_offsets: %w", err)
		case x < 0:
			return fmt.Errorf("data_offsets: %d is negative", x)
		case n == len(v):
			return fmt.Errorf("data_offsets: more than two numbers")
		}
		v[n] = x
		n++
		return nil
	})
	if err == nil && n != len(v) {
		err = fmt.Errorf("data_offsets: two numbers expected, got %d", n)
	}
	rec.begin, rec.end = v[0], v[1]
	return err
}

// checkRanges checks, in file order, that the tensors' bytes are those of their
// shapes, aligned, and that together they fill the file.
func (h *header) checkRanges(fileBytes int64) error {
	body := fileBytes - h.start
	at, last := int64(0), ""
	for _, r := range h.records {
		n, ok := h.shape(r).NumElements()
		size := r.dtype.Size()
		switch {
		case r.begin > r.end:
			return fmt.Errorf("tensor %q: data_offsets [%d, %d] are reversed", r.name, r.begin, r.end)
		case !ok || n > (1<<62)/size:
			return fmt.Errorf("tensor %q: shape %v is too large", r.name, h.shape(r))
		case r.end-r.begin != n*size:
			return fmt.Errorf("tensor %q: %v%v has %d bytes, data_offsets [%d, %d] give %d",
				r.name, r.dtype, h.shape(r), n*size, r.begin, r.end, r.end-r.begin)
		case r.end > body:
			return fmt.Errorf("tensor %q: the file should have at least %d bytes, got %d: is the download complete?",
				r.name, h.start+r.end, fileBytes)
		case r.begin < at:
			return fmt.Errorf("tensor %q overlaps %q", r.name, last)
		case r.begin > at:
			return fmt.Errorf("tensor %q: a hole of %d bytes before it", r.name, r.begin-at)
		case (h.start+r.begin)%size != 0:
			return fmt.Errorf("tensor %q: byte %d of the file is not aligned for %v", r.name, h.start+r.begin, r.dtype)
		}
		at, last = r.end, r.name
	}
	if at != body {
		return fmt.Errorf("the file has %d bytes, its header accounts for %d: is the download complete?", fileBytes, h.start+at)
	}
	return nil
}

// entry returns the tensor of record r in the file with header h.
func (h *header) entry(f *file.File, r record) file.Entry {
	return file.Entry{
		Name:  r.name,
		DType: r.dtype,
		Shape: h.shape(r),
		Data:  f.Bytes()[h.start+r.begin : h.start+r.end : h.start+r.end],
		File:  f.Name(),
	}
}
