package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/internal/synthetic"
	"github.com/wanrun/wanrun/pkg/tensor"
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
	if bin, err = os.MkdirTemp("", "wanrun-memory-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	for name, pkg := range map[string]string{"wanrun": "./cmd/launcher", "wanworker": "./cmd/worker"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), pkg)
		cmd.Dir = "../../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return m.Run(), nil
}

// small is a model of a few MiB, with every part of an official one.
func small(t *testing.T, task string) checkpoint.Spec {
	t.Helper()
	s, err := synthetic.Official(task)
	if err != nil {
		t.Fatal(err)
	}
	s.DiT.Dim, s.DiT.FFNDim, s.DiT.NumHeads, s.DiT.NumLayers, s.DiT.FreqDim = 96, 192, 8, 2, 32
	s.T5.Dim, s.T5.AttnDim, s.T5.FFNDim, s.T5.NumHeads, s.T5.NumLayers, s.T5.VocabSize, s.T5.TextLen = 64, 64, 128, 4, 2, 8192, 64
	s.CLIP.ImageSize, s.CLIP.Dim, s.CLIP.MLPDim, s.CLIP.NumHeads, s.CLIP.NumLayers = 56, 64, 256, 4, 3
	s.VAE.Dim = 8
	return s
}

// write writes random weights of s and returns their folder.
func write(t *testing.T, s checkpoint.Spec, dtype tensor.DType) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	if err := synthetic.Write(t.Context(), dir, synthetic.Options{Spec: synthetic.Fit(s), DType: dtype, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// report is what is read of a --report file.
type report struct {
	Exit struct {
		Code  int
		Phase string
		Error string
	}
	Notices []string
	Ranks   []struct {
		Bytes  bytesOf
		Phases []struct {
			Name      string
			Predicted map[string]int64 `json:"device_predicted"`
			Used      map[string]int64 `json:"device_used"`
			bytesOfHost
		}
	}
}

type bytesOf struct {
	Predicted int64 `json:"device_predicted"`
	Used      int64 `json:"device_used"`
	bytesOfHost
}

type bytesOfHost struct {
	HostPredicted int64 `json:"host_predicted"`
	HostUsed      int64 `json:"host_used"`
}

// ran is a run that has ended.
type ran struct {
	code   int
	said   string // by the launcher, on both streams
	dir    string // where it ran
	report report
	peaks  []int64 // the most anonymous and shared memory of each rank that was seen, in bytes
}

// generate runs the launcher in a folder of its own and watches its ranks' memory.
func generate(t *testing.T, ckpt string, args ...string) ran {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r := ran{dir: t.TempDir()}
	args = append([]string{"--ckpt-dir", ckpt, "--prompt", "a red ball rolls over the grass", "--frames", "5", "--steps", "2", "--seed", "1",
		"--threads", "1", "-o", "out.mp4", "--report", "report.json"}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "wanrun"), args...)
	cmd.Dir = r.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "WANRUN_") && !strings.HasPrefix(v, "TMPDIR=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "TMPDIR="+r.dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop, watched := make(chan struct{}), make(chan []int64)
	go func() { watched <- watch(r.dir, stop) }()
	err := cmd.Wait()
	close(stop)
	r.peaks = <-watched
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("wanrun %q: %v\n%s", args, err, said.String())
	}
	r.code, r.said = cmd.ProcessState.ExitCode(), said.String()
	data, err := os.ReadFile(filepath.Join(r.dir, "report.json"))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.said)
	}
	if err := json.Unmarshal(data, &r.report); err != nil {
		t.Fatal(err)
	}
	return r
}

// watch looks every few milliseconds at the workers that run in dir, until stop, and
// returns the most that each rank had of memory that no file stands behind.
func watch(dir string, stop <-chan struct{}) []int64 {
	peaks, ranks := []int64{}, map[string]int{} // by pid
	worker := filepath.Join(bin, "wanworker")
	for {
		select {
		case <-stop:
			return peaks
		case <-time.After(5 * time.Millisecond):
		}
		processes, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return peaks
		}
		for _, p := range processes {
			rank, known := ranks[p]
			if !known {
				if exe, err := os.Readlink(p + "/exe"); err != nil || exe != worker {
					continue
				}
				if cwd, err := os.Readlink(p + "/cwd"); err != nil || cwd != dir {
					continue
				}
				if rank, err = rankOf(p); err != nil {
					continue // it has ended
				}
				ranks[p] = rank
			}
			status, err := os.ReadFile(p + "/status")
			if err != nil {
				continue
			}
			for len(peaks) <= rank {
				peaks = append(peaks, 0)
			}
			peaks[rank] = max(peaks[rank], field(status, "RssAnon:")+field(status, "RssShmem:"))
		}
	}
}

func rankOf(process string) (int, error) {
	environ, err := os.ReadFile(process + "/environ")
	if err != nil {
		return 0, err
	}
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if rank, ok := bytes.CutPrefix(v, []byte("WANRUN_RANK=")); ok {
			return strconv.Atoi(string(rank))
		}
	}
	return 0, errors.New("no rank")
}

// field returns a size of /proc/PID/status in bytes, 0 if it is not there.
func field(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if fields := bytes.Fields(rest); len(fields) > 0 {
				n, err := strconv.ParseInt(string(fields[0]), 10, 64)
				if err == nil {
					return n << 10
				}
			}
		}
	}
	return 0
}

// repo returns the absolute path of a file of the repository.
func repo(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join("../../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
