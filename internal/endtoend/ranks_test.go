package endtoend

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/golden"
)

// TestRanksEqualOne runs the launcher with real worker processes in every kind of
// plan and compares all that was computed with one rank's, byte for byte; a ring
// adds in another order, and its frames may differ by one level.
func TestRanksEqualOne(t *testing.T) {
	dir := t.TempDir()
	make := func(t *testing.T, name string, args ...string) []byte {
		t.Helper()
		got := wanrun(t, dir, append([]string{"--image", repo(t, "examples/in.jpg"), "--prompt", "the red ball moves right", "--seed", "42",
			"--frames", "5", "--steps", "3", "-o", name + ".mp4", "--dump", name + ".safetensors"}, args...)...)
		if got.code != 0 {
			t.Fatalf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
		}
		data, err := os.ReadFile(filepath.Join(dir, name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	one := make(t, "one")
	for name, args := range map[string][]string{
		"ulysses alone":     {"--ulysses", "8"},
		"nproc alone":       {"--nproc", "4"},
		"official flags":    {"--nproc_per_node", "8", "--ulysses_size", "8", "--dit_fsdp", "--t5_fsdp", "--t5_cpu", "--offload_model", "True"},
		"guidance halves":   {"--nproc", "2", "--cfg-parallel", "2"},
		"all axes, sharded": {"--nproc", "8", "--cfg-parallel", "2", "--ulysses", "4", "--dit-fsdp", "--offload", "dit=file"},
		"branches apart":    {"--nproc", "2", "--dit-fsdp", "--cfg-batch", "False"},
		"uneven heads":      {"--nproc", "3", "--ulysses", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			if !bytes.Equal(make(t, strings.ReplaceAll(name, " ", "_"), args...), one) {
				t.Error("another result than one rank's")
			}
		})
	}
	t.Run("ring", func(t *testing.T) {
		make(t, "ring", "--nproc", "4", "--ring", "2", "--ulysses", "2")
		want, got := golden.Load(t, filepath.Join(dir, "one.safetensors")), golden.Load(t, filepath.Join(dir, "ring.safetensors"))
		golden.Compare(t, "final_latent", got["final_latent"].F32, want["final_latent"].F32, 5e-4)
		for i, b := range got["video_uint8_FHWC"].U8 {
			if d := int(b) - int(want["video_uint8_FHWC"].U8[i]); d < -1 || d > 1 {
				t.Fatalf("frame byte %d is %d, want %d", i, b, want["video_uint8_FHWC"].U8[i])
			}
		}
	})
}

// workers returns the processes that the launcher started, by rank.
func workers(launcher int) map[int]int {
	found := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || !strings.Contains(string(stat), "(wanworker)") {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(launcher) || fields[0] == "Z" {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if rank, ok := bytes.CutPrefix(v, []byte("WANRUN_RANK=")); ok {
				if n, err := strconv.Atoi(string(rank)); err == nil {
					found[n] = pid
				}
			}
		}
	}
	return found
}

// TestKilledRank kills a rank in each phase: the launcher names it, every other
// rank is gone at once, and nothing is left behind.
func TestKilledRank(t *testing.T) {
	const size = 4
	for _, tc := range []struct {
		phase  string
		victim int
	}{{"start", 1}, {"vae_encode", 2}, {"denoise", 3}, {"denoise", 0}, {"vae_decode", 2}} {
		t.Run(fmt.Sprintf("%s, rank %d", tc.phase, tc.victim), func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(filepath.Join(bin, "wanrun"), "--nproc", strconv.Itoa(size), "--dit-fsdp", "--image", repo(t, "examples/in.jpg"),
				"--prompt", "x", "--frames", "81", "--steps", "30", "-o", "out.mp4", "--log-format", "json")
			cmd.Dir, cmd.Env = dir, cleanEnv(dir)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan bool)
			defer func() {
				if cmd.ProcessState == nil {
					_ = cmd.Process.Kill() // the test failed; its own process must not stay
				}
			}()
			var text strings.Builder
			var killed time.Time
			kill := func() {
				deadline := time.Now().Add(20 * time.Second)
				for time.Now().Before(deadline) {
					if all := workers(cmd.Process.Pid); len(all) == size {
						killed = time.Now()
						if err := syscall.Kill(all[tc.victim], syscall.SIGKILL); err != nil {
							t.Error(err)
						}
						go func() {
							for len(workers(cmd.Process.Pid)) > 0 {
								time.Sleep(time.Millisecond)
							}
							t.Logf("others gone after %v", time.Since(killed))
							if d := time.Since(killed); d > 300*time.Millisecond {
								t.Errorf("other ranks lived for %v", d)
							}
							close(ended)
						}()
						return
					}
					time.Sleep(time.Millisecond)
				}
				t.Errorf("there were never %d workers", size)
				close(ended)
			}
			if tc.phase == "start" {
				kill()
			}
			lines := bufio.NewScanner(stderr)
			for lines.Scan() {
				text.WriteString(lines.Text() + "\n")
				if killed.IsZero() && strings.Contains(lines.Text(), `"phase":"`+tc.phase+`"`) {
					kill()
				}
			}
			err = cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 128+9 {
				t.Errorf("ended with %v, want exit code 137", err)
			}
			if killed.IsZero() {
				t.Fatalf("%s was never seen:\n%s", tc.phase, text.String())
			}
			<-ended
			if want := fmt.Sprintf("rank %d", tc.victim); !strings.Contains(text.String(), want) || !strings.Contains(text.String(), "SIGKILL") {
				t.Errorf("the end names not %q and SIGKILL:\n%s", want, text.String())
			}
			if left := files(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			shm, err := os.ReadDir("/dev/shm")
			if err == nil && slices.ContainsFunc(shm, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "wanrun") }) {
				t.Errorf("left in /dev/shm: %v", shm)
			}
		})
	}
}
