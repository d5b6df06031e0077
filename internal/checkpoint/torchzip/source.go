// Package torchzip reads the tensors of a file that torch.save wrote: a zip
// archive, with a pickle that describes a flat dict of tensors and one entry of
// raw bytes for each storage. Nothing in the file is executed; what is not needed
// for tensors is refused. Source: PyTorch, docs/source/notes/serialization.rst.
package torchzip

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// Source are the tensors of one file, which it owns.
type Source struct {
	file    *file.File
	names   []string // in file order
	entries map[string]file.Entry
}

// New returns the tensors of f, which it takes over.
func New(f *file.File) (*Source, error) {
	s := &Source{file: f, entries: map[string]file.Entry{}}
	if err := file.Guard(f.Name(), s.read); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return s, nil
}

// Names returns all tensors in file order; the caller must not change it.
func (s *Source) Names() []string { return s.names }

// Lookup returns the named tensor, valid until Close.
func (s *Source) Lookup(name string) (file.Entry, bool) {
	e, ok := s.entries[name]
	return e, ok
}

// Close gives the file back.
func (s *Source) Close() error {
	s.names, s.entries = nil, nil
	return s.file.Close()
}

func (s *Source) read() error {
	a, err := readArchive(s.file.Bytes())
	if err != nil {
		return err
	}
	folder, err := a.folder()
	if err != nil {
		return err
	}
	if m, ok := a.members[folder+"byteorder"]; ok {
		order, err := a.checked(m)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(order[:min(len(order), 16)])) != "little" {
			return fmt.Errorf("byte order %.16q, only little is read", order)
		}
	}
	pickle, err := a.checked(a.members[folder+"data.pkl"])
	if err != nil {
		return err
	}
	root, err := unpickle(pickle)
	if err != nil {
		return err
	}
	d, ok := root.(*dict)
	if !ok {
		return fmt.Errorf("the file holds %s, want a dict of tensors", describe(root))
	}
	return s.addAll(a, folder, d)
}

// folder returns the one folder of the archive, with its slash.
func (a *archive) folder() (string, error) {
	folder := ""
	for name := range a.members {
		if rest, ok := strings.CutSuffix(name, "/data.pkl"); ok && !strings.Contains(rest, "/") {
			if folder != "" {
				return "", fmt.Errorf("two entries are called data.pkl: %q and %q", folder+"data.pkl", name)
			}
			folder = rest + "/"
		}
	}
	if folder == "" {
		return "", fmt.Errorf("no entry is called data.pkl: not a file of torch.save, or one of a version before 1.6")
	}
	return folder, nil
}

func (s *Source) addAll(a *archive, folder string, d *dict) error {
	begin := make(map[string]int64, len(d.keys))
	for _, name := range d.keys {
		v, ok := d.items[name].(*view)
		if !ok {
			return fmt.Errorf("%q is %s, want a tensor: the file is not a plain state dict", name, describe(d.items[name]))
		}
		m, ok := a.members[folder+"data/"+v.storage.key]
		if !ok {
			return fmt.Errorf("tensor %q: no zip entry for storage %q", name, v.storage.key)
		}
		e, at, err := v.entry(a.bytes(m))
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		e.Name, e.File = name, s.file.Name()
		s.entries[name] = e
		begin[name] = m.begin + at
	}
	s.names = d.keys
	slices.SortStableFunc(s.names, func(a, b string) int { return cmp.Compare(begin[a], begin[b]) })
	return nil
}

const maxRank = 8

// entry checks v against the bytes of its storage and returns the tensor and
// the byte of the storage where it begins.
func (v *view) entry(data []byte) (e file.Entry, begin int64, err error) {
	size := v.dtype.Size()
	if size == 0 {
		return e, 0, fmt.Errorf("an untyped storage without a dtype")
	}
	have := int64(len(data))
	stored := size
	if v.storage.dtype == tensor.Invalid {
		stored = 1
	} else if v.storage.dtype != v.dtype {
		return e, 0, fmt.Errorf("%v view of a %v storage", v.dtype, v.storage.dtype)
	}
	if v.storage.count > have/stored || v.storage.count*stored != have {
		return e, 0, fmt.Errorf("storage %q should have %d elements of %d bytes, its zip entry has %d bytes",
			v.storage.key, v.storage.count, stored, have)
	}
	if len(v.shape) > maxRank || len(v.shape) != len(v.strides) {
		return e, 0, fmt.Errorf("%d dims with %d strides, at most %d dims allowed", len(v.shape), len(v.strides), maxRank)
	}
	room := have / size // elements
	if v.offset < 0 || v.offset >= room {
		return e, 0, fmt.Errorf("begins at element %d of a storage of %d", v.offset, room)
	}
	e = file.Entry{DType: v.dtype, Shape: make(tensor.Shape, len(v.shape))}
	strides, contiguous := make([]int64, len(v.shape)), true
	last, count := v.offset, int64(1) // of the elements
	for i := len(v.shape) - 1; i >= 0; i-- {
		dim, isInt := v.shape[i].(int64)
		stride, isStride := v.strides[i].(int64)
		switch {
		case !isInt || !isStride:
			return e, 0, fmt.Errorf("dim %d is %s with stride %s, want integers", i, describe(v.shape[i]), describe(v.strides[i]))
		case dim <= 0:
			return e, 0, fmt.Errorf("dim %d is %d, must be positive", i, dim)
		case stride < 0 || stride == 0 && dim > 1:
			return e, 0, fmt.Errorf("dim %d has stride %d, must be positive", i, stride)
		case dim > room/count:
			return e, 0, fmt.Errorf("more elements than the %d of its storage", room)
		case dim > 1 && stride > (room-1-last)/(dim-1):
			return e, 0, fmt.Errorf("dim %d of %d with stride %d reaches beyond the storage of %d elements", i, dim, stride, room)
		}
		if dim == 1 {
			stride = count // has no meaning
		}
		contiguous = contiguous && stride == count
		e.Shape[i], strides[i] = int(dim), stride
		last += (dim - 1) * stride
		count *= dim
	}
	if !contiguous {
		e.Strides = strides
	}
	begin, end := v.offset*size, (last+1)*size
	e.Data = data[begin:end:end]
	return e, begin, nil
}
