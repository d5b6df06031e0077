package slurm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/launch"
)

// quick makes the demo model's video in a few seconds on two cores, lasting in many.
var (
	quick   = []string{"--sample_steps", "2", "--frame_num", "5", "--seed", "7", "--overwrite"}
	lasting = []string{"--sample_steps", "400", "--frame_num", "5", "--seed", "7", "--overwrite"}
)

// TestVideos makes videos through the job scripts, on ranks that compute on the CPU, and
// sees how jobs end that are interrupted.
func TestVideos(t *testing.T) {
	cluster(t)
	build(t)
	image, err := filepath.Abs("../../examples/in.jpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("IMAGE", image)

	t.Run("no other flags", func(t *testing.T) {
		t.Chdir(t.TempDir())
		out, err := output(t, "srun", "--ntasks-per-node=1", "wanrun", "--ulysses", "8", "--image", image)
		if files, _ := filepath.Glob("*.mp4"); err != nil || len(files) != 1 || !strings.Contains(out, "8 ranks: ulysses 8") {
			t.Errorf("%v, files %v\n%s", err, files, out)
		}
		nothingLeft(t)
	})

	for _, c := range []struct {
		script  string
		sbatch  []string
		ulysses string
		nodes   int
	}{
		{"one-node.sbatch", []string{"--cpus-per-task=16"}, "8", 1},
		{"two-nodes.sbatch", []string{"--cpus-per-task=16", "--gpus-per-node=4"}, "4", 2},
		{"task-per-gpu.sbatch", []string{"--cpus-per-task=2"}, "8", 1},
		{"task-per-gpu.sbatch", []string{"--cpus-per-task=2", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4"}, "8", 2},
	} {
		t.Run(fmt.Sprintf("%s on %d nodes", c.script, c.nodes), func(t *testing.T) {
			t.Setenv("ULYSSES", c.ulysses)
			b := submit(t, c.sbatch, c.script, append([]string{"--image", image, "--output", "out.mp4"}, quick...)...)
			b.ends(t, "COMPLETED", 0)
			r := b.report(t)
			if r.Output == nil || r.Output.Frames != 5 || len(r.Ranks) != 8 || r.Place.Source != "slurm" || r.Place.Nodes != c.nodes {
				t.Errorf("output %+v, %d ranks, %+v", r.Output, len(r.Ranks), r.Place)
			}
			if st, err := os.Stat(filepath.Join(b.dir, "out.mp4")); err != nil || st.Size() == 0 {
				t.Errorf("out.mp4: %v", err)
			}
			nothingLeft(t)
		})
	}

	t.Run("array", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "images.txt"), []byte(image+"\n"+image+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := submitIn(t, dir, []string{"--cpus-per-task=16", "--array=0-1%1"}, "array.sbatch", append([]string{"images.txt", "videos"}, quick...)...)
		b.over(t)
		if _, err := os.Stat(filepath.Join(dir, "videos", "in.mp4")); err != nil {
			t.Error(err)
		}
		if reports, _ := filepath.Glob(filepath.Join(dir, "logs", "*", "*", "report.json")); len(reports) != 2 {
			t.Errorf("reports %v, want 2", reports)
		}
		nothingLeft(t)
	})

	t.Run("requeue", func(t *testing.T) {
		done := make(chan struct{})
		defer func() { <-done }()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer close(done)
			skipDelay(ctx)
		}()
		b := submit(t, []string{"--cpus-per-task=16"}, "requeue.sbatch", "--image", image, "--output", "out.mp4", "--sample_steps", "60",
			"--frame_num", "5", "--overwrite")
		b.denoises(t)
		slurmctl(t, "scancel", "--signal=USR1", b.id)
		// In between the job looks as if it were over.
		eventually(t, 2*time.Minute, "a second attempt", func() bool {
			_, err := os.Stat(filepath.Join(b.logs(1), "report.json"))
			return err == nil
		})
		b.ends(t, "COMPLETED", 0)
		first, second := b.reportOf(t, 0), b.reportOf(t, 1)
		if first.Exit.Code != 75 || !strings.Contains(first.Exit.Error, "drained: SIGUSR1") || first.Place.Restarts != 0 {
			t.Errorf("first attempt %+v, %+v", first.Exit, first.Place)
		}
		if second.Exit.Code != 0 || second.Place.Restarts != 1 {
			t.Errorf("second attempt %+v, %+v", second.Exit, second.Place)
		}
		nothingLeft(t)
	})

	// Each interrupts a lasting video on two nodes of four ranks.
	for _, c := range []struct {
		name  string
		flags []string
		do    func(t *testing.T, b *batch)
		state string
		code  int // of the report, and of the job
		job   int // of the job, where srun has another: it returns the highest of its tasks
		error string
	}{
		{name: "scancel", do: func(t *testing.T, b *batch) { slurmctl(t, "scancel", b.id) }, state: "CANCELLED", code: 75, error: `^drained: SIGTERM`},
		{name: "a rank killed", do: func(t *testing.T, b *batch) { kill(t, process(t, b.id, "wanworker", "WANRUN_RANK=5")) }, state: "FAILED", code: 137,
			error: `^rank 5 on gpu-02 was killed by SIGKILL`},
		{name: "node 1's step daemon killed", do: func(t *testing.T, b *batch) {
			kill(t, parent(t, process(t, b.id, "wanrun", "SLURM_NODEID=1")))
		}, state: "FAILED", code: 69, error: `^node 1 \(gpu-02\) is lost: Slurm's step daemon there died`},
		{name: "node 0's step daemon killed", do: func(t *testing.T, b *batch) {
			kill(t, parent(t, process(t, b.id, "wanrun", "SLURM_NODEID=0")))
		}, state: "FAILED", code: 75, error: `^drained: SIGTERM`},
		{name: "an agent killed", do: func(t *testing.T, b *batch) { kill(t, process(t, b.id, "wanrun", "SLURM_NODEID=1")) }, state: "FAILED", code: 69,
			job: 137, error: `^node 1 \(gpu-02\) is lost`},
		{name: "a warning that is only passed on", flags: []string{"--on-usr1", "forward"}, do: func(t *testing.T, b *batch) {
			slurmctl(t, "scancel", "--signal=USR1", b.id)
			time.Sleep(500 * time.Millisecond)
			slurmctl(t, "scancel", b.id)
		}, state: "CANCELLED", code: 75, error: `^drained: SIGTERM`},
		{name: "drained before the time limit", flags: []string{"--stop-before", "35s"}, do: func(*testing.T, *batch) {}, state: "FAILED", code: 75,
			error: `drained: the time limit is at`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			script := filepath.Join(dir, "job")
			// The scripts' --wait would take a minute.
			text := "#!/bin/sh\nexec srun --wait=2 wanrun --ulysses 8 --image \"$IMAGE\" --output out.mp4 --log-dir logs/$SLURM_JOB_ID \"$@\"\n"
			if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			b := submitIn(t, dir, []string{"--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=4", "--time=1"}, script, append(slices.Clone(lasting), c.flags...)...)
			b.denoises(t)
			c.do(t, b)
			b.ends(t, c.state, max(c.code, c.job))
			if r := b.report(t); r.Exit.Code != c.code || !regexp.MustCompile(c.error).MatchString(r.Exit.Error) {
				t.Errorf("report: %+v, want code %d and %s", r.Exit, c.code, c.error)
			}
			if files, _ := filepath.Glob(filepath.Join(dir, "*.mp4")); len(files) > 0 {
				t.Errorf("half a video is left: %v", files)
			}
			nothingLeft(t)
		})
	}

	t.Run("any program", func(t *testing.T) {
		report := filepath.Join(t.TempDir(), "report.json")
		out, err := output(t, "srun", "-N2", "--ntasks-per-node=1", "--gpus-per-node=4", "wanrun", "run", "--report", report, "--",
			"sh", "-c", `[ "$RANK/$WORLD_SIZE/$LOCAL_RANK" != 5/8/1 ] || exit 9; sleep 30`)
		if code := exitCode(err); code != 9 {
			t.Errorf("exit code %d, want 9\n%s", code, out)
		}
		if r, err := launch.ReadReport(report); err != nil || r.Exit.Code != 9 || r.Exit.Rank == nil || *r.Exit.Rank != 5 {
			t.Errorf("report: %+v, %v", r.Exit, err)
		}
		nothingLeft(t)
	})
}

// build puts wanrun and its worker into PATH, and before the scripts.
func build(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	for name, pkg := range map[string]string{"wanrun": "launcher", "wanworker": "worker"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), "../../cmd/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("WANRUN", filepath.Join(bin, "wanrun"))
	t.Setenv("HOME", t.TempDir()) // where nodes without a secret meet
	t.Setenv(enabled, "")         // so that it is back after the test
	os.Unsetenv(enabled)          // wanrun tells of variables of its own that it does not know
}

// batch is one submitted job.
type batch struct{ id, dir, out string }

// submit submits one of the scripts of this folder, to run in a new one.
func submit(t *testing.T, flags []string, script string, args ...string) *batch {
	t.Helper()
	return submitIn(t, t.TempDir(), flags, script, args...)
}

func submitIn(t *testing.T, dir string, flags []string, script string, args ...string) *batch {
	t.Helper()
	if !filepath.IsAbs(script) {
		var err error
		if script, err = filepath.Abs(script); err != nil {
			t.Fatal(err)
		}
	}
	b := &batch{dir: dir, out: filepath.Join(dir, "out.txt")}
	all := slices.Concat([]string{"--parsable", "--time=5", "--output=" + b.out, "--chdir=" + dir}, flags, []string{script}, args)
	out, err := output(t, "sbatch", all...)
	if b.id = strings.TrimSpace(out); err != nil || strings.Trim(b.id, "0123456789") != "" {
		t.Fatalf("sbatch %v: %v\n%s", all, err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(b.out)
			t.Logf("job %s:\n%s", b.id, text)
		}
		_, _ = output(t, "scancel", b.id) // it is over if all went well
	})
	return b
}

// eventually waits until done is true.
func eventually(t *testing.T, limit time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// denoises waits until the ranks are amid their work.
func (b *batch) denoises(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "denoising", func() bool {
		text, _ := os.ReadFile(b.out)
		return bytes.Contains(text, []byte("\ndenoise"))
	})
}

var jobFields = regexp.MustCompile(`JobState=(\S+).* ExitCode=(\d+):(\d+)`)

// over waits until no job of that number is queued or runs.
func (b *batch) over(t *testing.T) {
	t.Helper()
	eventually(t, 2*time.Minute, "the end of job "+b.id, func() bool {
		out, err := output(t, "squeue", "-h", "-j", b.id)
		return err != nil || strings.TrimSpace(out) == ""
	})
}

// ends waits for the job's end and sees that it is the one wanted. Slurm gives a cancelled
// job no exit code of its own.
func (b *batch) ends(t *testing.T, state string, code int) {
	t.Helper()
	b.over(t)
	out, err := output(t, "scontrol", "show", "job", b.id, "-o")
	got := jobFields.FindStringSubmatch(out)
	if err != nil || got == nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n, _ := strconv.Atoi(got[2]); got[1] != state || state != "CANCELLED" && n != code {
		t.Errorf("the job is %s with exit code %s, want %s with %d", got[1], got[2], state, code)
	}
}

func (b *batch) report(t *testing.T) launch.File {
	t.Helper()
	return b.reportOf(t, 0)
}

// logs is the folder with ranks' output and the report after so many requeues.
func (b *batch) logs(restarts int) string {
	return filepath.Join(b.dir, "logs", b.id, fmt.Sprintf("slurm-lab-%s-0-%d", b.id, restarts))
}

// reportOf reads the report of the job after so many requeues.
func (b *batch) reportOf(t *testing.T, restarts int) launch.File {
	t.Helper()
	r, err := launch.ReadReport(b.logs(restarts))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// slurmctl runs one of Slurm's commands.
func slurmctl(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := output(t, name, args...); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// processes returns the job's, or with job "" every job's, that have the name and the
// variable.
func processes(job, name, variable string) (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	conf := os.Getenv("SLURM_CONF")
	for _, proc := range procs {
		comm, err := os.ReadFile(proc + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		env, err := os.ReadFile(proc + "/environ")
		vars := strings.Split(string(env), "\x00")
		if err == nil && slices.Contains(vars, "SLURM_CONF="+conf) && (job == "" || slices.Contains(vars, "SLURM_JOB_ID="+job)) &&
			(variable == "" || slices.Contains(vars, variable)) {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func process(t *testing.T, job, name, variable string) int {
	t.Helper()
	pids := processes(job, name, variable)
	if len(pids) == 0 {
		t.Fatalf("no process %s with %s", name, variable)
	}
	return pids[0] // the launcher was there before its guard
}

// parent returns the process's parent, which must be Slurm's step daemon.
func parent(t *testing.T, pid int) int {
	t.Helper()
	out, err := output(t, "ps", "-o", "ppid=", "-p", strconv.Itoa(pid))
	n, _ := strconv.Atoi(strings.TrimSpace(out))
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n))
	if err != nil || strings.TrimSpace(string(comm)) != "slurmstepd" {
		t.Fatalf("the parent of %d is %d (%s), want slurmstepd: %v", pid, n, comm, err)
	}
	return n
}

func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// nothingLeft sees that no process of ours outlives its job.
func nothingLeft(t *testing.T) {
	t.Helper()
	for _, name := range []string{"wanrun", "wanworker", "ffmpeg", "sleep"} {
		if pids := processes("", name, ""); len(pids) > 0 {
			t.Errorf("%s still runs: %v", name, pids)
		}
	}
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return -1
}
