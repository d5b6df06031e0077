package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/wanrun/wanrun/internal/media/mp4"
)

// ReadMetadata returns the settings, JSON, that were stored in a .mp4 or .png
// file by a FrameWriter, whichever encoder made it. The kind of file is seen from its
// first bytes; at most MaxMetadata bytes are read from it.
func ReadMetadata(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", path)
	}
	comment, err := readComment(f, st.Size())
	if errors.Is(err, mp4.ErrNoComment) || errors.Is(err, errNoComment) || err == nil && !json.Valid(comment) {
		return nil, fmt.Errorf("%q holds no settings of wanrun", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return comment, nil
}

func readComment(r io.ReaderAt, size int64) ([]byte, error) {
	var head [len(pngSignature)]byte
	if n, _ := r.ReadAt(head[:], 0); string(head[:n]) == pngSignature {
		return readPNGComment(r, size)
	}
	if size < 8 || string(head[4:]) != "ftyp" {
		return nil, errors.New("neither an mp4 nor a png file")
	}
	return mp4.Comment(r, size)
}
