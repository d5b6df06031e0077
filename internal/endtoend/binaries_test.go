package endtoend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bin is the folder of the programs under test, built once.
var bin string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	if bin, err = os.MkdirTemp("", "wanrun-endtoend-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	for name, pkg := range map[string]string{"wanrun": "./cmd/launcher", "wanworker": "./cmd/worker"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return m.Run(), nil
}

// ended is how a program ended.
type ended struct {
	code           int
	stdout, stderr string
}

// wanrun runs the launcher in dir, with a time limit, and waits for it.
func wanrun(t *testing.T, dir string, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "wanrun"), args...)
	cmd.Dir = dir
	cmd.Env = cleanEnv(dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("wanrun %q did not end:\n%s%s", args, stdout.String(), stderr.String())
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// cleanEnv is the environment without wanrun's own variables, with its temporary
// files in a folder that the test can look into.
func cleanEnv(dir string) []string {
	env := []string{"TMPDIR=" + dir, "XDG_RUNTIME_DIR=" + runtimeDir()} // where jobs register, which outlasts them
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "WANRUN_") && !strings.HasPrefix(v, "TMPDIR=") && !strings.HasPrefix(v, "XDG_RUNTIME_DIR=") {
			env = append(env, v)
		}
	}
	return env
}

// repo returns the absolute path of a file of the repository.
func repo(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// files lists what is in dir.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// runtimeDir is a folder of the tests' own, of this user alone.
func runtimeDir() string {
	dir := filepath.Join(bin, "runtime")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err) // bin is ours
	}
	return dir
}
