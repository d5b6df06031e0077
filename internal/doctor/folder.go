package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/output"
)

// maxFiles bounds the logs that are read of a folder.
const maxFiles = 512

// Folder opens the logs of a folder: those of a job that wanrun wrote with --log-dir, the
// report first, of each rank the last attempt's, or else all files whose names end as logs' do.
// The caller closes them. Errors: a folder that cannot be read, or has no logs.
func Folder(name string, root fs.FS) (sources []Source, closer func() error, err error) {
	names, err := indexed(root)
	if err != nil {
		if names, err = logNames(root); err != nil {
			return nil, nil, fmt.Errorf("logs in %q: %w", name, err)
		}
	}
	var files []fs.File
	closer = func() error {
		var err error
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	for _, file := range names {
		f, err := root.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // of a rank on another node
		}
		if err != nil {
			return nil, nil, errors.Join(err, closer())
		}
		files = append(files, f)
		s, err := Open(path.Join(name, file), f)
		if err != nil {
			return nil, nil, errors.Join(err, closer())
		}
		sources = append(sources, s)
	}
	if len(sources) == 0 {
		return nil, nil, errors.Join(fmt.Errorf("no logs in %q; give the folder of a job, DIR/JOB, or the files themselves", name), closer())
	}
	return sources, closer, nil
}

// Open makes a source of an open file, which must stay open until it was read.
func Open(name string, f fs.File) (Source, error) {
	info, err := f.Stat()
	if err != nil {
		return Source{}, fmt.Errorf("log %q: %w", name, err)
	}
	s := Source{Name: name, Read: f, Rank: -1}
	if at, ok := f.(io.ReaderAt); ok && info.Mode().IsRegular() {
		s.Read, s.Cut = Excerpt(at, info.Size())
	}
	return s, nil
}

// indexed are the files that a job's index names.
func indexed(root fs.FS) ([]string, error) {
	f, err := root.Open(output.IndexName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index, err := output.ReadIndex(f)
	if err != nil {
		return nil, err
	}
	names := []string{"report.json", "launcher.log"}
	last := 0
	for _, r := range index.Ranks {
		last = max(last, r.Attempt)
	}
	ranks := slices.Clone(index.Ranks)
	// Those that failed first: they have the cause.
	slices.SortStableFunc(ranks, func(a, b output.IndexRank) int {
		failed := func(r output.IndexRank) int {
			if r.Code != 0 || r.Signal != 0 {
				return 0
			}
			return 1
		}
		return cmp.Compare(failed(a), failed(b))
	})
	for _, r := range ranks {
		if r.Attempt == last && len(names) < maxFiles-1 {
			names = append(names, path.Clean(r.Err), path.Clean(r.Out))
		}
	}
	return names, nil
}

// logNames are the files that look like logs, by name, those of subfolders last.
func logNames(root fs.FS) ([]string, error) {
	var names []string
	seen := 0
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		const most, deep = 1 << 16, 4
		if seen++; seen > most || len(names) >= maxFiles {
			return fs.SkipAll
		}
		if d.IsDir() && strings.Count(name, "/") >= deep {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && isLog(name) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

func isLog(name string) bool {
	base := path.Base(name)
	switch path.Ext(base) {
	case ".log", ".out", ".err", ".txt", ".jsonl":
		return true
	case "":
		return strings.HasPrefix(base, "dmesg") || strings.HasPrefix(base, "std") || strings.HasPrefix(base, "slurm")
	}
	return base == "report.json"
}
