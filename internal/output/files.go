package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync"
	"time"
)

const (
	// folderMode and fileMode keep logs among the user's own group: what ranks print is
	// written as it is, with whatever secrets it has.
	folderMode = 0o750
	fileMode   = 0o640
	// maxJobName bounds the name of a job's folder; file systems take 255 bytes.
	maxJobName = 128
	// minLogMax is the least bound of a file's size.
	minLogMax = 4 << 10
	// maxEarlier is how many files of the same name from earlier runs are kept.
	maxEarlier = 1000
)

// FilesConfig says where logs go.
type FilesConfig struct {
	Dir     string // made if it is not there
	Job     string // the name of the job's folder in Dir
	World   int    // ranks in all
	Node    int    // this node's number: several nodes may share Dir
	Max     int64  // bytes kept of each stream, the last ones; 0 for all
	Now     func() time.Time
	Trouble func(error) // told of the first error of each file; nil for nobody
}

// Files are the logs of a job, or of one node's part of it:
//
//	D/JOB/index.json                     Index; index_node_001.json on other nodes
//	D/JOB/launcher.log                   node_001.log on other nodes
//	D/JOB/attempt_0/rank_003.out, .err   every byte that the rank wrote
//	D/JOB/attempt_0/rank_003.out.1       the part before, if Max cuts the file
//	D/JOB/attempt_0/rank_003.out.old-1   of an earlier run of the same job
//
// Its methods may be called from several goroutines.
type Files struct {
	config FilesConfig
	root   *os.Root // D/JOB: no name leads out of it
	log    *file

	mu       sync.Mutex
	index    Index
	open     map[*file]bool
	byStream map[streamKey]*file
	writing  sync.Mutex // of the index
}

type streamKey struct {
	attempt, rank int
	stream        string
}

// OpenFiles makes the job's folder and its launcher.log. Errors: what of that cannot be
// done, which the user should hear before anything starts.
func OpenFiles(config FilesConfig) (*Files, error) {
	if err := checkJobName(config.Job); err != nil {
		return nil, err
	}
	if config.Max != 0 && config.Max < minLogMax {
		return nil, fmt.Errorf("--log-max is %d bytes, want at least %d, or 0 for no bound", config.Max, minLogMax)
	}
	folder := path.Join(config.Dir, config.Job)
	if err := os.MkdirAll(folder, folderMode); err != nil {
		return nil, fmt.Errorf("log folder: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("log folder: %w", err)
	}
	f := &Files{config: config, root: root, open: map[*file]bool{}, byStream: map[streamKey]*file{},
		index: Index{Schema: indexSchema, Job: config.Job, World: config.World, Node: config.Node, Started: config.Now(), Ranks: []IndexRank{}}}
	name := "launcher.log"
	if config.Node != 0 {
		name = fmt.Sprintf("node_%0*d.log", numDigits, config.Node)
	}
	f.log, err = f.create(name)
	if err == nil {
		err = f.WriteIndex()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("log folder %q: %w", folder, err), f.Close())
	}
	return f, nil
}

// checkJobName refuses names that are no plain name of a folder.
func checkJobName(name string) error {
	if name == "" || len(name) > maxJobName || name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("job name %q cannot be a folder's: want 1 to %d characters, the first a letter or digit", name, maxJobName)
	}
	for _, c := range []byte(name) {
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("job name %q cannot be a folder's: %q is none of a-z, A-Z, 0-9, '.', '_', '-'", name, c)
		}
	}
	return nil
}

// numDigits is how many digits numbers in names have at least.
const numDigits = 3

// RankName is the name of a rank's files in an attempt's folder, without the end that
// says the stream: "rank_012". There are as many digits as the largest rank needs.
func RankName(rank, world int) string {
	return fmt.Sprintf("rank_%0*d", max(numDigits, len(strconv.Itoa(world-1))), rank)
}

// Path is the name of a stream's file within the job's folder.
func (f *Files) Path(attempt, rank int, stream string) string {
	end := ".err"
	if stream == Stdout {
		end = ".out"
	}
	return path.Join(fmt.Sprintf("attempt_%d", attempt), RankName(rank, f.config.World)+end)
}

// Folder is the job's folder.
func (f *Files) Folder() string { return f.root.Name() }

// Log is launcher.log.
func (f *Files) Log() io.Writer { return f.log }

// Stream creates the file of a rank's stream. Writing to it never fails: FilesConfig.Trouble
// and the index tell of errors. Whoever reads the stream closes it at its end.
func (f *Files) Stream(attempt, rank int, stream string) (io.WriteCloser, error) {
	if attempt < 0 || rank < 0 || rank >= f.config.World {
		return nil, fmt.Errorf("no log for rank %d of %d in attempt %d", rank, f.config.World, attempt)
	}
	name := f.Path(attempt, rank, stream)
	if err := f.root.Mkdir(path.Dir(name), folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("log folder: %w", err)
	}
	w, err := f.create(name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.byStream[streamKey{attempt, rank, stream}] = w
	f.mu.Unlock()
	return w, nil
}

// create creates a file. One of that name from an earlier run is kept under another.
func (f *Files) create(name string) (*file, error) {
	w, err := f.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, fileMode)
	if errors.Is(err, fs.ErrExist) {
		if err := f.setAside(name); err != nil {
			return nil, err
		}
		w, err = f.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, fileMode)
	}
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	out := &file{files: f, name: name, f: w}
	f.mu.Lock()
	f.open[out] = true
	f.mu.Unlock()
	return out, nil
}

// setAside renames a file that an earlier run left.
func (f *Files) setAside(name string) error {
	for i := 1; i <= maxEarlier; i++ {
		old := fmt.Sprintf("%s.old-%d", name, i)
		if _, err := f.root.Lstat(old); errors.Is(err, fs.ErrNotExist) {
			if err := f.root.Rename(name, old); err != nil {
				return fmt.Errorf("log file of an earlier run: %w", err)
			}
			return nil
		}
	}
	return fmt.Errorf("log file %q: there are %d files of earlier runs beside it; take them away or choose another --log-dir", name, maxEarlier)
}

// Rank notes what is known of a rank in an attempt. What was noted of the same before is
// replaced.
func (f *Files) Rank(r IndexRank) {
	r.Out, r.Err = f.Path(r.Attempt, r.Rank, Stdout), f.Path(r.Attempt, r.Rank, Stderr)
	f.mu.Lock()
	defer f.mu.Unlock()
	// The latest are at the end, and that is where the one to replace is.
	for i := len(f.index.Ranks) - 1; i >= 0; i-- {
		if old := f.index.Ranks[i]; old.Attempt == r.Attempt && old.Rank == r.Rank {
			f.index.Ranks[i] = r
			return
		}
	}
	f.index.Ranks = append(f.index.Ranks, r)
}

// WriteIndex writes index.json, under another name first: a reader sees one that is
// complete. It is worth calling when all ranks of an attempt run and when all have ended.
func (f *Files) WriteIndex() error {
	f.writing.Lock()
	defer f.writing.Unlock()
	data, err := json.MarshalIndent(f.snapshot(), "", " ")
	if err != nil {
		return fmt.Errorf("index of the logs: %w", err)
	}
	name := f.indexName()
	temp := "." + name + ".new"
	if err := f.root.WriteFile(temp, append(data, '\n'), fileMode); err != nil {
		return fmt.Errorf("index of the logs: %w", err)
	}
	if err := f.root.Rename(temp, name); err != nil {
		return fmt.Errorf("index of the logs: %w", err)
	}
	return nil
}

func (f *Files) indexName() string {
	if f.config.Node == 0 {
		return IndexName
	}
	return fmt.Sprintf("index_node_%0*d.json", numDigits, f.config.Node)
}

// snapshot is the index with what is in the files now.
func (f *Files) snapshot() Index {
	f.mu.Lock()
	defer f.mu.Unlock()
	index := f.index
	index.Ranks = make([]IndexRank, len(f.index.Ranks))
	for i, r := range f.index.Ranks {
		r.OutFile = f.byStream[streamKey{r.Attempt, r.Rank, Stdout}].state()
		r.ErrFile = f.byStream[streamKey{r.Attempt, r.Rank, Stderr}].state()
		index.Ranks[i] = r
	}
	return index
}

// Close writes the index for the last time and closes all files.
func (f *Files) Close() error {
	f.mu.Lock()
	ended := f.config.Now()
	f.index.Ended = &ended
	var open []*file
	for w := range f.open {
		open = append(open, w)
	}
	f.mu.Unlock()
	var err error
	for _, w := range open {
		err = errors.Join(err, w.Close())
	}
	return errors.Join(err, f.WriteIndex(), f.root.Close())
}
