package slurm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/slurm"
)

// TestSlurm runs everything on one cluster.
func TestSlurm(t *testing.T) {
	cluster(t)

	t.Run("srun reaches both nodes", func(t *testing.T) {
		// srun itself tells on stderr when it waits for a node.
		out, err := run(t.Context(), "srun", "-N2", "sh", "-c", `echo "$SLURMD_NODENAME"`)
		names := strings.Fields(string(out))
		slices.Sort(names)
		if err != nil || !slices.Equal(names, []string{"gpu-01", "gpu-02"}) {
			t.Errorf("%v, %v", names, err)
		}
		if out, err := run(t.Context(), "srun", "-N2", "hostname"); err != nil || len(bytes.Fields(out)) != 2 {
			t.Errorf("hostname: %q, %v", out, err)
		}
	})

	t.Run("1 x 8, one agent", func(t *testing.T) {
		seen := srun(t, "-N1", "--ntasks-per-node=1", "--gpus-per-node=8", "--cpus-per-task=16")
		if len(seen) != 1 {
			t.Fatalf("%d agents, want 1", len(seen))
		}
		meet(t, seen)
		p := seen[0].Placement
		if p.Source != placement.FromSlurm || p.Mode != placement.Agent || p.NumNodes != 1 || p.GPUs != 8 || p.CPUs != 16 || p.Rendezvous.Host != "" {
			t.Errorf("%+v", p)
		}
	})

	t.Run("2 x 4, two agents", func(t *testing.T) {
		seen := srun(t, "-N2", "--ntasks-per-node=1", "--gpus-per-node=4")
		if len(seen) != 2 {
			t.Fatalf("%d agents, want 2", len(seen))
		}
		meet(t, seen)
		for i, node := range []string{"gpu-01", "gpu-02"} {
			p := seen[i].Placement
			if p.Mode != placement.Agent || p.NodeRank != i || p.NodeName != node || p.GPUs != 4 || p.Rendezvous.Host != "gpu-01" ||
				!slices.Equal(p.Hosts, []string{"gpu-01", "gpu-02"}) {
				t.Errorf("node %d: %+v", i, p)
			}
		}
		if seen[0].Address != "127.0.0.1" {
			t.Errorf("node 0 is at %q, want 127.0.0.1", seen[0].Address)
		}
	})

	for _, distribution := range []string{"block", "cyclic"} {
		t.Run("one task per GPU, "+distribution, func(t *testing.T) {
			seen := srun(t, "-N2", "-n8", "--ntasks-per-node=4", "--gpus-per-task=1", "--distribution="+distribution)
			if len(seen) != 8 {
				t.Fatalf("%d ranks, want 8", len(seen))
			}
			meet(t, seen)
			for i, s := range seen {
				p := s.Placement
				if p.Mode != placement.Rank || p.Rank != i || p.WorldSize != 8 || p.NodeRank != i/4 || p.LocalRank != i%4 || p.GPUs != 1 {
					t.Errorf("rank %d: %+v", i, p)
				}
				if dealt := len(p.Notes) > 0; dealt && distribution == "block" {
					t.Errorf("rank %d: notes %v", i, p.Notes)
				}
			}
		})
	}

	t.Run("uneven, 2 and 1", func(t *testing.T) {
		seen := srun(t, "-N2", "-n3", "--gpus-per-task=2")
		if len(seen) != 3 {
			t.Fatalf("%d ranks, want 3", len(seen))
		}
		meet(t, seen)
		for i, want := range [][2]int{{0, 2}, {0, 2}, {1, 1}} {
			if p := seen[i].Placement; p.NodeRank != want[0] || p.RanksPerNode != want[1] || p.GPUs != 2 {
				t.Errorf("rank %d: %+v", i, p)
			}
		}
	})

	t.Run("batch script outside a step", func(t *testing.T) {
		read := probing(t)
		sbatch(t, 0, "", "--nodes=2", "--ntasks-per-node=1", "--wrap="+os.Args[0])
		seen := read()
		if len(seen) != 1 || !strings.Contains(seen[0].Error, "has 2 nodes, but this is no step on them") {
			t.Errorf("%+v", seen)
		}
	})

	t.Run("the end of the job", func(t *testing.T) {
		out, err := output(t, "sbatch", "--parsable", "--time=10", "--output=/dev/null", "--wrap=sleep 30")
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		job := strings.TrimSpace(out)
		defer output(t, "scancel", job)
		for deadline := time.Now().Add(10 * time.Second); ; {
			if state, _ := output(t, "squeue", "-h", "-j", job, "-o", "%T"); strings.TrimSpace(state) == "RUNNING" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the job does not start")
			}
			time.Sleep(50 * time.Millisecond)
		}
		end, err := slurm.End(t.Context(), run, job, time.Local)
		if left := time.Until(end); err != nil || left < 9*time.Minute || left > 10*time.Minute {
			t.Errorf("ends in %v (%v), want about 10 minutes", left, err)
		}
	})

	t.Run("scripts", scripts)
	t.Run("hostlists", hostlists)
}

// scripts runs each job script with the probe in wanrun's place.
func scripts(t *testing.T) {
	t.Setenv("WANRUN", os.Args[0])
	// What a virtual node can give, beside what the script asks for.
	small := []string{"--cpus-per-task=16", "--time=5"}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	attempt := func(t *testing.T, code int, script string, args ...string) []probe {
		t.Helper()
		read := probing(t)
		sbatch(t, code, t.TempDir(), append(append(slices.Clone(small), filepath.Join(here, script)), args...)...)
		return read()
	}

	t.Run("one-node", func(t *testing.T) {
		seen := attempt(t, 0, "one-node.sbatch", "--image", "in my folder.jpg")
		if len(seen) != 1 || seen[0].Placement.GPUs != 8 || seen[0].Placement.NumNodes != 1 {
			t.Fatalf("%+v", seen)
		}
		want := regexp.MustCompile(`^\[--ulysses 8 --log-dir logs/\d+ --image in my folder.jpg\]$`)
		if got := fmt.Sprint(seen[0].Args); !want.MatchString(got) || len(seen[0].Args) != 6 {
			t.Errorf("arguments %q", seen[0].Args)
		}
	})
	t.Run("two-nodes", func(t *testing.T) {
		seen := attempt(t, 0, "two-nodes.sbatch", "--image", "in.jpg")
		if len(seen) != 2 || !slices.Contains(seen[1].Args, "--ring") {
			t.Fatalf("%+v", seen)
		}
		meet(t, seen)
	})
	t.Run("task-per-gpu", func(t *testing.T) {
		small = []string{"--cpus-per-task=2", "--time=5"}
		defer func() { small[0] = "--cpus-per-task=16" }()
		seen := attempt(t, 0, "task-per-gpu.sbatch")
		if len(seen) != 8 {
			t.Fatalf("%d ranks, want 8", len(seen))
		}
		meet(t, seen)
		for i, s := range seen {
			if s.Placement.Mode != placement.Rank || s.Placement.LocalRank != i || s.Placement.GPUs != 8 {
				t.Errorf("rank %d: %+v", i, s.Placement)
			}
		}
	})
	t.Run("array", func(t *testing.T) {
		folder := t.TempDir()
		list := filepath.Join(folder, "images.txt")
		if err := os.WriteFile(list, []byte("pictures/red ball.jpg\npictures/star.png\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args := append(slices.Clone(small), "--array=1", filepath.Join(here, "array.sbatch"), list, filepath.Join(folder, "videos"), "--seed", "7")
		read := probing(t)
		sbatch(t, 0, folder, args...)
		seen := read()
		if len(seen) != 1 {
			t.Fatalf("%+v", seen)
		}
		got := strings.Join(seen[0].Args, " ")
		if want := "--image pictures/star.png --output " + folder + "/videos/star.mp4"; !strings.Contains(got, want) || !strings.HasSuffix(got, "--seed 7") {
			t.Errorf("arguments %s, want %s", got, want)
		}
		if !regexp.MustCompile(`^slurm-lab-\d+_1-0-0$`).MatchString(seen[0].Placement.JobID) {
			t.Errorf("job id %q", seen[0].Placement.JobID)
		}
		args = append(slices.Clone(small), "--array=5", filepath.Join(here, "array.sbatch"), list, folder)
		if out := sbatch(t, 65, folder, args...); !strings.Contains(out, "has no line for array task 5") {
			t.Errorf("beyond the list: %s", out)
		}
	})
	t.Run("requeue", func(t *testing.T) {
		// A wanrun that drains once: exit code 75 in the first attempt.
		drains := filepath.Join(t.TempDir(), "wanrun")
		script := fmt.Sprintf("#!/bin/sh\n%s \"$@\"\n[ -n \"$SLURM_RESTART_COUNT\" ] || exit 75\n", os.Args[0])
		if err := os.WriteFile(drains, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("WANRUN", drains)
		done := make(chan struct{})
		defer func() { <-done }()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			defer close(done)
			skipDelay(ctx)
		}()
		// sbatch --wait takes the moment between two attempts for the job's end.
		read := probing(t)
		b := submit(t, small[:1], "requeue.sbatch", "--image", "in.jpg")
		eventually(t, time.Minute, "two attempts", func() bool {
			files, _ := filepath.Glob(os.Getenv(probeFolder) + "/*.json")
			return len(files) == 2
		})
		b.ends(t, "COMPLETED", 0)
		seen := read()
		if len(seen) != 2 || seen[0].Placement.Restarts+seen[1].Placement.Restarts != 1 {
			t.Fatalf("%+v, want two attempts", seen)
		}
		if !slices.Equal(seen[0].Args, seen[1].Args) || !slices.Contains(seen[0].Args, "drain") {
			t.Errorf("arguments %v, then %v: the log folder must be the same", seen[0].Args, seen[1].Args)
		}
	})
	t.Run("exit code", func(t *testing.T) {
		t.Setenv(probeCode, "77")
		if seen := attempt(t, 77, "requeue.sbatch"); len(seen) != 1 {
			t.Errorf("%+v", seen)
		}
	})
}

// skipDelay spares the two minutes for which Slurm holds a requeued job back, until ctx
// is done.
func skipDelay(ctx context.Context) {
	for ctx.Err() == nil {
		out, _ := run(ctx, "squeue", "-h", "-t", "PENDING", "-o", "%i %r")
		for line := range strings.Lines(string(out)) {
			if job, reason, _ := strings.Cut(strings.TrimSpace(line), " "); reason == "BeginTime" {
				_, _ = run(ctx, "scontrol", "update", "JobId="+job, "StartTime=now")
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hostlists compares Expand and Fold to what this Slurm says.
func hostlists(t *testing.T) {
	for _, list := range []string{"gpu-[01-02]", "n[7,1,3]", "n[098-102]", "a1,b[2-3],c", "ip-10-0-[1-2]-[5-6]", "r[1-2]c[1-2]n[1-2]",
		"a[1-2]b[1-2]c[1-2]d[1-2]", "a[1-2][3-4][5-6]", "n[1-0003]", "n[001-3]", "n[01,1]", "n1,n1", "a[1-2],,b"} {
		out, err := output(t, "scontrol", "show", "hostnames", list)
		hosts, expandErr := slurm.Expand(list)
		if want := strings.Fields(out); err != nil || expandErr != nil || !slices.Equal(hosts, want) {
			t.Errorf("Expand(%q) = %v (%v), want %v (%v)", list, hosts, expandErr, want, err)
		}
		folded, err := output(t, "scontrol", "show", "hostlist", strings.Join(hosts, ","))
		if got := slurm.Fold(hosts); err != nil || got != strings.TrimSpace(folded) {
			t.Errorf("Fold(%v) = %q, want %q (%v)", hosts, got, strings.TrimSpace(folded), err)
		}
	}
}
