// Package checkpoint opens a model in the official Wan2.1 layout: its
// hyper-parameters, its tensors where they lie in their files, and the folder of its
// tokenizer. Everything in it comes from outside and is checked; what is wrong
// comes back as ErrCheckpoint with words that say what the folder seems to be.
package checkpoint

import (
	"errors"
	"fmt"

	"github.com/wanrun/wanrun/internal/checkpoint/file"
)

// ErrCheckpoint marks a checkpoint that cannot be used: missing or damaged
// files, tensors that do not fit the model, another model than asked for.
var ErrCheckpoint = errors.New("checkpoint")

// Entry is one tensor where it lies in its file.
type Entry = file.Entry

// Source are the tensors of one model. It owns the files that they lie in.
type Source interface {
	// Names returns the names of all tensors in file order.
	Names() []string
	// Lookup returns the named tensor, valid until Close.
	Lookup(name string) (Entry, bool)
	// Close gives the files back.
	Close() error
}

// fail marks err as one of the checkpoint.
func fail(err error) error {
	if err == nil || errors.Is(err, ErrCheckpoint) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCheckpoint, err)
}

func failf(format string, args ...any) error { return fail(fmt.Errorf(format, args...)) }
