package settings

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/runfolder"
	"github.com/wanrun/wanrun/internal/task"
)

// outputs settles the files that the run writes.
func (r *resolver) outputs() {
	r.s.ContactSheet = r.path("contact-sheet")
	r.s.Dump = r.path("dump")
	r.s.Encoder = r.choice("encoder", "auto", "default")
	r.s.FFmpeg = r.path("ffmpeg")
	r.s.Output = r.path("output")
	if r.err != nil {
		return
	}
	if r.s.Output == "" {
		r.s.Output = r.defaultOutput()
		r.record("output", r.s.Output, "named for task, time and seed")
	}
	r.runDir()
	r.checkKinds()
	r.checkApart()
	if !r.s.Overwrite && !r.s.Explain && !r.in.Planning {
		r.checkFree()
	}
}

// runDir settles where the unfinished run is kept.
func (r *resolver) runDir() {
	r.s.RunDir = r.path("run-dir")
	if r.s.RunDir == "" {
		r.s.RunDir = runfolder.Beside(r.s.Output)
		r.record("run-dir", r.s.RunDir, "beside the output")
	}
	r.s.SaveEvery = r.number("save-every", 1, "default", func(n int) error {
		if n < 0 || n > maxSaveEvery {
			return fmt.Errorf("%d steps, want 0 to %d; nearest is %d", n, maxSaveEvery, min(max(n, 0), maxSaveEvery))
		}
		return nil
	})
	_, given := r.given["run-dir"]
	r.s.KeepRunDir = r.truth("keep-run-dir", given)
}

// maxSaveEvery bounds --save-every.
const maxSaveEvery = 1 << 20

// defaultOutput names the output as the official code does, with the time, so that
// runs do not meet; nothing of the prompt gets into a file's name.
func (r *resolver) defaultOutput() string {
	extension := ".mp4"
	if r.s.Task.Kind() == task.KindT2I {
		extension = ".png"
	}
	return fmt.Sprintf("%s_%s_seed%d%s", r.s.Task, r.in.Now.Format("20060102-150405"), r.s.Seed, extension)
}

// checkKinds holds the names to what can be written under them.
func (r *resolver) checkKinds() {
	switch ext := strings.ToLower(filepath.Ext(r.s.Output)); {
	case ext != ".mp4" && ext != ".png":
		r.fail(ends.Usage, fmt.Errorf("output %q: the name must end in .mp4, or for a single frame in .png", r.s.Output))
	case ext == ".png" && r.s.Frames > 1:
		r.fail(ends.Usage, fmt.Errorf("output %q: a .png holds one frame, not %d; name it .mp4, or give --frames 1", r.s.Output, r.s.Frames))
	}
	for _, f := range []struct{ flag, path, ext string }{
		{"--contact-sheet", r.s.ContactSheet, ".png"},
		{"--dump", r.s.Dump, ".safetensors"},
	} {
		if f.path != "" && strings.ToLower(filepath.Ext(f.path)) != f.ext {
			r.fail(ends.Usage, fmt.Errorf("%s %q: the name must end in %s", f.flag, f.path, f.ext))
		}
	}
}

// written lists the run's outputs.
func (r *resolver) written() []struct{ what, path string } {
	var files []struct{ what, path string }
	for _, f := range []struct{ what, path string }{
		{"--output", r.s.Output}, {"--contact-sheet", r.s.ContactSheet}, {"--dump", r.s.Dump}, {"--report", r.s.Report},
	} {
		if f.path != "" {
			files = append(files, f)
		}
	}
	return files
}

// checkApart refuses outputs that would replace each other or an input.
func (r *resolver) checkApart() {
	names := map[string]string{}
	for _, f := range []struct{ what, path string }{
		{"the first picture", r.s.Image}, {"the last picture", r.s.LastImage}, {"--config", r.given["config"].Text},
	} {
		if f.path != "" {
			names[filepath.Clean(f.path)] = f.what
		}
	}
	for _, f := range r.written() {
		path := filepath.Clean(f.path)
		if other, taken := names[path]; taken {
			r.fail(ends.Usage, fmt.Errorf("%s and %s are one file, %q", f.what, other, path))
		}
		names[path] = f.what
	}
}

// checkFree leaves existing files alone.
func (r *resolver) checkFree() {
	for _, f := range r.written() {
		if r.in.Exists(f.path) {
			r.fail(ends.OutputLost, fmt.Errorf("%s %q exists; give another name, or --overwrite", f.what, f.path))
		}
	}
}
