package synthetic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// out is a file that is being written. Zeros may become holes, which take no room on
// disk and are read as zeros.
type out struct {
	ctx      context.Context
	file     *os.File
	sparse   bool
	at       int64
	progress func(n int64)
}

var zeros [1 << 16]byte

// hole is the least run of zeros, in bytes, that is left out.
const hole = 1 << 14

// Write writes p or, where that is allowed, leaves it out.
func (o *out) Write(p []byte) (n int, err error) {
	if o.ctx.Err() != nil {
		return 0, context.Cause(o.ctx)
	}
	if o.sparse && len(p) >= hole && allZero(p) {
		if _, err := o.file.Seek(int64(len(p)), io.SeekCurrent); err != nil {
			return 0, err
		}
		n = len(p)
	} else {
		n, err = o.file.Write(p)
	}
	o.at += int64(n)
	if o.progress != nil {
		o.progress(int64(n))
	}
	return n, err
}

func allZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(zeros))
		if !bytes.Equal(p[:n], zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

// create writes a file that is not there yet through write. What failed leaves none.
func (o Options) create(ctx context.Context, path string, write func(*out) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
		}
	}()
	to := &out{ctx: ctx, file: f, sparse: o.Sparse, progress: o.Progress}
	if err := write(to); err != nil {
		return err
	}
	return f.Truncate(to.at) // a hole at the end
}
