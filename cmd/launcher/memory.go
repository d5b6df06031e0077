package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/timeline"
)

// memoryPage is the page about memory in a job's log folder, beside the report.
const memoryPage = "memory.html"

// recorder keeps what the ranks take. Its log is opened before anything is computed.
func (j *job) recorder(say func(string)) (*timeline.Recorder, error) {
	var log io.WriteCloser
	if path := j.launch.VRAMLog; path != "" {
		f, err := os.Create(path)
		if err != nil {
			return nil, ends.As(ends.OutputLost, fmt.Errorf("--vram-log: %w", err))
		}
		log = f
	}
	return timeline.NewRecorder(j.w.now(), log, say), nil
}

// writeMemory ends the log, and writes the page beside the report.
func (j *job) writeMemory(r *timeline.Recorder, files *output.Files) error {
	err := r.Close()
	if err != nil {
		err = fmt.Errorf("--vram-log %q: %w", j.launch.VRAMLog, err)
	}
	if files == nil {
		return ends.As(ends.OutputLost, err)
	}
	return ends.As(ends.OutputLost, errors.Join(err, writePage(r, filepath.Join(files.Folder(), memoryPage), j.id)))
}

func writePage(r *timeline.Recorder, path, id string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.WritePage(f, "Memory of job "+settings.Escape(id)), f.Close())
}
