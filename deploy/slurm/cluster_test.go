// Package slurm_test runs the job scripts and the environment readers on a real Slurm.
package slurm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/slurm"
)

// These turn this test program into a stand-in for wanrun, which writes where it stands
// and its arguments to a file in a folder, and leaves with an exit code. (srun breaks
// lines of more than a kilobyte, so its output is no way to send them.)
const (
	probeFolder = "WANRUN_PROBE"
	probeCode   = "WANRUN_PROBE_CODE"
)

// probe is what one process has seen.
type probe struct {
	Placement placement.Placement
	Error     string
	Args      []string
	Address   string // of node 0, as scontrol knows it
}

func TestMain(m *testing.M) {
	if folder := os.Getenv(probeFolder); folder != "" {
		os.Exit(runProbe(folder))
	}
	os.Exit(m.Run())
}

func runProbe(folder string) int {
	p, err := placement.Find(os.LookupEnv, placement.Given{})
	seen := probe{Placement: p, Args: os.Args[1:]}
	if err != nil {
		seen.Error = err.Error()
	} else if host := p.Rendezvous.Host; host != "" && net.ParseIP(host) == nil {
		if seen.Address, err = slurm.Address(context.Background(), run, host); err != nil {
			seen.Error = err.Error()
		}
	}
	if err := seen.write(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 70
	}
	n, _ := strconv.Atoi(os.Getenv(probeCode))
	return n
}

func (p probe) write(folder string) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, "*.json")
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Close()
}

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, name, args...).Output()
}

// enabled is the variable that lets these tests run.
const enabled = "WANRUN_TEST_SLURM"

// cluster starts one for the test, or skips it.
func cluster(t *testing.T) {
	t.Helper()
	if os.Getenv(enabled) == "" {
		t.Skip("needs Slurm's Debian packages: set WANRUN_TEST_SLURM=1 (deploy/slurm/README.md)")
	}
	folder := t.TempDir()
	if len(folder) > 55 { // Unix sockets lie below it
		var err error
		if folder, err = os.MkdirTemp("", "slurm-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(folder) })
	}
	dir := filepath.Join(folder, "lab")
	script, err := filepath.Abs("../../tools/slurm-cluster.sh")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	out, err := output(t, script, "start", dir)
	if err != nil {
		t.Fatalf("start the cluster: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		out, err := output(t, script, "stop", dir)
		if err != nil || strings.Contains(out, "still running") {
			t.Errorf("stop the cluster: %v\n%s", err, out)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the cluster's folder is still there (%v)", err)
		}
		if left := processesOf(dir); len(left) > 0 {
			t.Errorf("the cluster's processes are still there: %v", left)
		}
	})
	took := time.Since(start)
	t.Logf("cluster started in %v", took.Round(10*time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("the cluster took %v to start, want at most 10 s", took)
	}
	t.Setenv("SLURM_CONF", filepath.Join(dir, "slurm.conf"))
}

// processesOf returns the command lines of processes that have the cluster's
// configuration in their environment, this one's aside.
func processesOf(dir string) (left []string) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		env, err := os.ReadFile(proc + "/environ")
		if err == nil && filepath.Base(proc) != fmt.Sprint(os.Getpid()) && bytes.Contains(env, []byte("SLURM_CONF="+dir+"/")) {
			cmdline, _ := os.ReadFile(proc + "/cmdline")
			left = append(left, string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return left
}

// output runs a command for at most a minute and returns what it has printed.
func output(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// probing starts a folder for the probes of one run; the function that it returns reads
// them, by agent.
func probing(t *testing.T) func() []probe {
	t.Helper()
	folder := t.TempDir()
	t.Setenv(probeFolder, folder)
	return func() (seen []probe) {
		t.Helper()
		files, err := filepath.Glob(folder + "/*.json")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var p probe
			if err := json.Unmarshal(text, &p); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			seen = append(seen, p)
		}
		slices.SortFunc(seen, func(a, b probe) int {
			i, _ := a.Placement.Agent()
			j, _ := b.Placement.Agent()
			return i - j
		})
		return seen
	}
}

// srun runs the probe under srun.
func srun(t *testing.T, args ...string) []probe {
	t.Helper()
	seen := probing(t)
	if out, err := output(t, "srun", append(args, os.Args[0])...); err != nil {
		t.Fatalf("srun %v: %v\n%s", args, err, out)
	}
	return seen()
}

// meet sees that all agents go to the same place, which has an address.
func meet(t *testing.T, seen []probe) {
	t.Helper()
	for i, p := range seen {
		index, count := p.Placement.Agent()
		if p.Error != "" || index != i || count != len(seen) {
			t.Errorf("agent %d of %d is %d of %d: %s", i, len(seen), index, count, p.Error)
		}
		if !reflect.DeepEqual(p.Placement.Rendezvous, seen[0].Placement.Rendezvous) || p.Placement.JobID != seen[0].Placement.JobID {
			t.Errorf("agent %d meets at %v for %s, agent 0 at %v for %s", i, p.Placement.Rendezvous, p.Placement.JobID,
				seen[0].Placement.Rendezvous, seen[0].Placement.JobID)
		}
		if p.Address != seen[0].Address {
			t.Errorf("agent %d finds node 0 at %q, agent 0 at %q", i, p.Address, seen[0].Address)
		}
	}
}

// sbatch runs a batch script to its end and returns its output.
func sbatch(t *testing.T, wantCode int, dir string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sbatch", append([]string{"--wait", "--output=" + file}, args...)...)
	cmd.Dir = dir
	said, err := cmd.CombinedOutput()
	out, _ := os.ReadFile(file)
	if code := cmd.ProcessState.ExitCode(); code != wantCode {
		t.Fatalf("sbatch %v: exit code %d, want %d (%v)\n%s%s", args, code, wantCode, err, said, out)
	}
	return string(out)
}
