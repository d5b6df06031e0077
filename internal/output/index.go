package output

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// IndexName is the index of a job's logs in its folder.
const IndexName = "index.json"

// indexSchema changes when a reader of indexes has to.
const indexSchema = 1

// maxIndex bounds an index that is read: 100,000 ranks of 600 bytes each.
const maxIndex = 64 << 20

// Index says which files a job wrote, and what ranks they are of.
type Index struct {
	Schema  int         `json:"schema"`
	Job     string      `json:"job"`
	World   int         `json:"world"`
	Node    int         `json:"node"` // that wrote the index; 0's has all ranks
	Started time.Time   `json:"started"`
	Ended   *time.Time  `json:"ended"` // null while the job runs, or if it was killed
	Ranks   []IndexRank `json:"ranks"` // by attempt, in the order in which they started
}

// IndexRank is a rank in an attempt.
type IndexRank struct {
	Attempt int        `json:"attempt"`
	Rank    int        `json:"rank"`
	Node    int        `json:"node"`
	Local   int        `json:"local"`
	Host    string     `json:"host"`
	Pid     int        `json:"pid"` // on its node; 0 if it was not started
	Started *time.Time `json:"started"`
	Ended   *time.Time `json:"ended"` // null while it runs
	Code    int        `json:"code"`
	Signal  int        `json:"signal"` // that ended it, 0 for none
	Out     string     `json:"out"`    // its stdout, within the folder of the index, on its node
	Err     string     `json:"err"`    // its stderr
	OutFile *IndexFile `json:"out_file,omitempty"`
	ErrFile *IndexFile `json:"err_file,omitempty"`
}

// IndexFile says how much of a stream is in its file. It is absent for ranks of other nodes.
type IndexFile struct {
	Bytes   int64  `json:"bytes"`            // there are, with those of Before
	Before  string `json:"before,omitempty"` // the file of what came before, if there is one
	Rotated int64  `json:"rotated"`          // bytes that made place for newer ones
	Failed  int64  `json:"failed"`           // bytes that could not be written
	Error   string `json:"error,omitempty"`  // why
}

// ReadIndex reads an index. Errors: one that is no index, of another schema, or whose
// files are not within its folder.
func ReadIndex(r io.Reader) (Index, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	if err != nil {
		return Index{}, fmt.Errorf("index of the logs: %w", err)
	}
	if len(data) > maxIndex {
		return Index{}, fmt.Errorf("index of the logs has more than %d bytes", maxIndex)
	}
	var index Index
	if err := json.Unmarshal(data, &index); err != nil {
		return Index{}, fmt.Errorf("index of the logs: %w", err)
	}
	if index.Schema != indexSchema {
		return Index{}, fmt.Errorf("index of the logs has schema %d, want %d; another version of wanrun wrote it", index.Schema, indexSchema)
	}
	for _, rank := range index.Ranks {
		if err := rank.check(index.World); err != nil {
			return Index{}, fmt.Errorf("index of the logs: %w", err)
		}
	}
	return index, nil
}

func (r IndexRank) check(world int) error {
	if r.Rank < 0 || r.Rank >= world || r.Attempt < 0 {
		return fmt.Errorf("rank %d in attempt %d is none of a world of %d", r.Rank, r.Attempt, world)
	}
	names := []string{r.Out, r.Err}
	for _, f := range []*IndexFile{r.OutFile, r.ErrFile} {
		if f != nil && f.Before != "" {
			names = append(names, f.Before)
		}
	}
	for _, name := range names {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("file %q is not within the folder", name)
		}
	}
	return nil
}
