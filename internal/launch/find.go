package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/wanrun/wanrun/internal/ends"
)

// WorkerName is the worker's program.
const WorkerName = "wanworker"

// FindWorker returns the worker's absolute path: given if it is not empty, else the
// program beside self, the launcher's own path, else the one in PATH.
// Errors: ends.NotFound, ends.NotExecutable.
func FindWorker(given, self string) (string, error) {
	if given != "" {
		path, err := filepath.Abs(given)
		if err != nil {
			return "", ends.As(ends.NotFound, err)
		}
		return path, checkProgram(path)
	}
	beside := filepath.Join(filepath.Dir(self), WorkerName)
	err := checkProgram(beside)
	if err == nil || ends.CodeOf(err) == ends.NotExecutable {
		return beside, err
	}
	path, err := exec.LookPath(WorkerName)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", ends.Errorf(ends.NotFound, "%s is neither beside wanrun (%q) nor in PATH; build it with `make build`, or name it with --worker", WorkerName, beside)
	}
	return path, checkProgram(path)
}

func checkProgram(path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ends.Errorf(ends.NotFound, "worker %q does not exist", path)
	case err != nil:
		return ends.As(ends.NotExecutable, fmt.Errorf("worker: %w", err))
	case st.IsDir():
		return ends.Errorf(ends.NotExecutable, "worker %q is a folder", path)
	case st.Mode()&0o111 == 0:
		return ends.Errorf(ends.NotExecutable, "worker %q is not executable; chmod +x helps if it is the right file", path)
	}
	return nil
}
