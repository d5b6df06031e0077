package media

import "path/filepath"

// RemoveLeftover removes the temporary file that a run which was killed left
// beside path. One that another run is writing stays, and is an error.
func RemoveLeftover(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	dir, base := filepath.Split(abs)
	t := &target{path: abs, temp: filepath.Join(dir, tempName(base))}
	return t.removeStale()
}
