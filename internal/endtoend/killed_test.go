package endtoend

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// phaseOrder is the order in which ranks say that they are in a phase.
var phaseOrder = []string{"", "tokenize", "text_encode", "image_encode", "vae_encode", "denoise", "vae_decode", "write"}

// TestKilledRank kills a rank in each phase: the launcher names it, every other
// rank is gone at once, and nothing is left behind.
//
// The programs have no door for tests, so that the phase has to be met from outside.
// Most phases last long enough for a video of 81 frames: the kill follows their first
// sign. With the demo model text and image encoding are over in milliseconds; there
// another rank is stopped and let go on for a moment at a time, and the victim is
// killed where it waits for that rank. Writing takes as long as ffmpeg takes, and this
// ffmpeg never comes to an end; the first rank alone writes, the others are leaving.
func TestKilledRank(t *testing.T) {
	const size = 4
	long := []string{"--frames", "81", "--steps", "30", "--prompt", "x"}
	words := strings.Repeat("word and tree. ", 150) // more than T5's 512 tokens
	short := []string{"--frames", "5", "--steps", "1", "--t5-fsdp", "--prompt", words, "--negative-prompt", words}
	announced := func(r *ranks, victim int, phase string) bool {
		r.wait(phase, func() bool {
			at, _ := r.position(victim)
			return at.Phase == phase
		})
		return true
	}
	for _, tc := range []struct {
		phase  string
		victim int
		args   []string
		meet   func(r *ranks, victim int, phase string) bool // false: the phase was missed
	}{
		{"start", 1, long, func(*ranks, int, string) bool { return true }},
		{"tokenize", 3, long, announced},
		{"text_encode", 2, short, stepped},
		{"image_encode", 0, short, stepped}, // the rank that encodes the picture
		{"vae_encode", 2, long, announced},
		{"denoise", 3, long, announced},
		{"denoise", 0, long, announced},
		{"vae_decode", 2, []string{"--frames", "81", "--steps", "2", "--prompt", "x"}, announced},
		{"write", 0, []string{"--frames", "5", "--steps", "1", "--prompt", "x", "--encoder", "ffmpeg", "--ffmpeg", endlessFFmpeg(t)}, announced},
	} {
		t.Run(fmt.Sprintf("%s, rank %d", tc.phase, tc.victim), func(t *testing.T) {
			const tries = 5
			for range tries {
				r := startRanks(t, size, append(tc.args, "--dit-fsdp", "--image", repo(t, "examples/in.jpg"), "-o", "out.mp4")...)
				if !tc.meet(r, tc.victim, tc.phase) {
					r.abandon()
					continue
				}
				killAndLook(t, r, tc.victim, tc.phase)
				return
			}
			t.Errorf("%s was missed %d times", tc.phase, tries)
		})
	}
}

// stepped brings the victim into a short phase and leaves it waiting there: rank 3,
// which takes part in every collective, is stopped and let go on for a moment at a
// time, and in between the others run until they wait for it. Where they then are does
// not depend on how fast anything is. It returns false if one moment was enough for
// the whole phase.
func stepped(r *ranks, victim int, phase string) bool {
	const (
		brake = 3
		quiet = 30 * time.Millisecond // without a word: the others wait
	)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		r.signal(brake, syscall.SIGSTOP)
		var at position
		r.wait("a pause", func() bool {
			var silent time.Duration
			at, silent = r.position(victim)
			return silent > quiet
		})
		switch {
		// A rank that has announced all parts of T5 may be in the next phase already.
		case at.Phase == phase && (phase != "text_encode" || at.Done < at.Total):
			r.t.Logf("rank %d waits in %s (%d of %d)", victim, at.Phase, at.Done, at.Total)
			return true
		case slices.Index(phaseOrder, at.Phase) > slices.Index(phaseOrder, phase):
			return false
		}
		moment := 300 * time.Microsecond
		if own, _ := r.position(brake); own.Phase != "text_encode" && own.Done == 0 {
			moment = 5 * time.Millisecond // it is still planning, which takes much longer
		}
		r.signal(brake, syscall.SIGCONT)
		time.Sleep(moment)
	}
	r.t.Fatalf("%s was not reached within a minute:\n%s", phase, r.said())
	return false
}

// killAndLook kills a rank and looks at what becomes of the run.
func killAndLook(t *testing.T, r *ranks, victim int, phase string) {
	t.Helper()
	const bar = 300 * time.Millisecond
	r.signal(victim, syscall.SIGKILL)
	killed := time.Now()
	for rank := range r.pids { // a stopped rank would have to be killed; let it see what happened
		if rank != victim {
			_ = syscall.Kill(r.pids[rank], syscall.SIGCONT) // may be gone by now
		}
	}
	for left := r.processes(); len(left) > 0; left = r.processes() {
		if time.Since(killed) > 10*time.Second {
			t.Fatalf("processes that never ended (by id, with ranks): %v\n%s", left, r.said())
		}
		time.Sleep(time.Millisecond)
	}
	d := time.Since(killed)
	t.Logf("others gone after %v", d)
	if d > bar {
		t.Errorf("other processes lived for %v, at most %v are allowed", d, bar)
	}
	<-r.ended
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 128+9 {
		t.Errorf("ended with %v, want exit code 137", err)
	}
	want := fmt.Sprintf("rank %d was killed by SIGKILL", victim)
	if phase != "start" { // a rank has not said where it is then
		want += " in " + phase
	}
	if !strings.Contains(r.said(), want) {
		t.Errorf("no line says %q:\n%s", want, r.said())
	}
	// The steps that were done are kept.
	saved := func(name string) bool { return name == ".out.mp4.wanrun" }
	if left := slices.DeleteFunc(files(t, r.dir), saved); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	shm, err := os.ReadDir("/dev/shm")
	if err == nil && slices.ContainsFunc(shm, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "wanrun") }) {
		t.Errorf("left in /dev/shm: %v", shm)
	}
}

// endlessFFmpeg returns a program that is started like ffmpeg, takes all frames and
// then does not end; the trial run that comes first does.
func endlessFFmpeg(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ffmpeg")
	script := "#!/bin/sh\ncat > /dev/null\ncase \"$*\" in *'-f null -') exit 0;; esac\nexec sleep 60\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
