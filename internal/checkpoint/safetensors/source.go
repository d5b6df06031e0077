package safetensors

import (
	"errors"
	"fmt"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
)

// Source are the tensors of one file, or of all shards of a model. It owns its
// files.
type Source struct {
	shards []shard
	names  []string // in file order
	where  map[string]place
}

type shard struct {
	file   *file.File
	header *header
}

type place struct{ shard, record int32 }

// New returns the tensors of f, which it takes over.
func New(f *file.File) (*Source, error) {
	s := &Source{}
	if err := s.add(f); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.index(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// add takes over f and reads its header.
func (s *Source) add(f *file.File) error {
	s.shards = append(s.shards, shard{file: f})
	sh := &s.shards[len(s.shards)-1]
	return file.Guard(f.Name(), func() (err error) {
		if sh.header, err = parse(f.Bytes()); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		return nil
	})
}

// index finds the tensors of all shards by name.
func (s *Source) index() error {
	n := 0
	for _, sh := range s.shards {
		n += len(sh.header.records)
	}
	s.names, s.where = make([]string, 0, n), make(map[string]place, n)
	for i, sh := range s.shards {
		for j, r := range sh.header.records {
			if other, ok := s.where[r.name]; ok {
				if int(other.shard) == i {
					return fmt.Errorf("%s: tensor %q occurs twice", sh.file.Name(), r.name)
				}
				return fmt.Errorf("tensor %q is in two shards: %s and %s", r.name, s.shards[other.shard].file.Name(), sh.file.Name())
			}
			s.where[r.name] = place{int32(i), int32(j)}
			s.names = append(s.names, r.name)
		}
	}
	return nil
}

// Names returns all tensors in file order; the caller must not change it.
func (s *Source) Names() []string { return s.names }

// Lookup returns the named tensor, valid until Close.
func (s *Source) Lookup(name string) (file.Entry, bool) {
	p, ok := s.where[name]
	if !ok {
		return file.Entry{}, false
	}
	sh := s.shards[p.shard]
	return sh.header.entry(sh.file, sh.header.records[p.record]), true
}

// Close gives the files back.
func (s *Source) Close() error {
	var errs []error
	for _, sh := range s.shards {
		errs = append(errs, sh.file.Close())
	}
	s.shards, s.names, s.where = nil, nil, nil
	return errors.Join(errs...)
}
