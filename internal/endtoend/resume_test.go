package endtoend

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wanrun/wanrun/internal/golden"
)

// resumeArgs make a small video in some steps.
func resumeArgs(t *testing.T, out string) []string {
	return []string{"--image", repo(t, "examples/in.jpg"), "--prompt", "the red ball moves right", "--seed", "7", "--frames", "5", "--steps", "5",
		"--encoder", "builtin", "-o", out + ".mp4", "--dump", out + ".safetensors"}
}

// endOf returns the video of a run.
func endOf(t *testing.T, dir, out string) []byte {
	t.Helper()
	video, err := os.ReadFile(filepath.Join(dir, out+".mp4"))
	if err != nil {
		t.Fatal(err)
	}
	return video
}

// framesOf returns the frames and the latent before them of a run: its file also says how
// many ranks made it.
func framesOf(t *testing.T, dir, out string) []byte {
	t.Helper()
	dump := golden.Load(t, filepath.Join(dir, out+".safetensors"))
	frames := bytes.Clone(dump["video_uint8_FHWC"].U8)
	for _, v := range dump["final_latent"].F32 {
		frames = binary.LittleEndian.AppendUint32(frames, math.Float32bits(v))
	}
	if len(frames) < 5*64*64*3+4*16 {
		t.Fatalf("a dump of %d bytes", len(frames))
	}
	return frames
}

// TestKilledAndResumed kills a rank after each step of a run with SIGKILL, and resumes: the
// video has the same bytes as that of a run without a break.
func TestKilledAndResumed(t *testing.T) {
	for _, size := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d ranks", size), func(t *testing.T) {
			nproc := []string{"--nproc", fmt.Sprint(size)}
			whole := t.TempDir()
			if e := wanrun(t, whole, append(resumeArgs(t, "out"), nproc...)...); e.code != 0 {
				t.Fatalf("%+v", e)
			}
			want := endOf(t, whole, "out")
			for step := 1; step <= 4; step++ {
				r := startRanks(t, size, resumeArgs(t, "out")...)
				folder := filepath.Join(r.dir, ".out.mp4.wanrun")
				r.wait(fmt.Sprintf("step %d", step), func() bool {
					at, _ := r.position(0)
					return at.Phase == "denoise" && at.Total == 5 && at.Done >= step || at.Phase == "vae_decode"
				})
				_ = syscall.Kill(r.pids[size-1], syscall.SIGKILL) // it may have ended
				<-r.ended
				if err := r.cmd.Wait(); err == nil {
					continue // it was faster
				}
				if !strings.Contains(r.said(), "wanrun resume .out.mp4.wanrun") {
					t.Errorf("no word of how to go on:\n%s", r.said())
				}
				if e := wanrun(t, r.dir, resumeArgs(t, "out")...); e.code != 73 || !strings.Contains(e.stderr, "wanrun resume") {
					t.Errorf("a run over an unfinished one: %+v", e)
				}
				e := wanrun(t, r.dir, "resume", folder)
				if e.code != 0 {
					t.Fatalf("resume: %+v", e)
				}
				if !bytes.Equal(endOf(t, r.dir, "out"), want) {
					t.Errorf("killed after step %d: another video", step)
				}
				if _, err := os.Stat(folder); !os.IsNotExist(err) {
					t.Errorf("the run folder is still there (%v)", err)
				}
			}
		})
	}
}

// TestDrainedAndResumed sends SIGUSR1 to the launcher, which ends with 75 after the step
// and is resumed; then the latent that was kept is decoded again on other ranks.
func TestDrainedAndResumed(t *testing.T) {
	whole := t.TempDir()
	if e := wanrun(t, whole, resumeArgs(t, "out")...); e.code != 0 {
		t.Fatalf("%+v", e)
	}
	want := framesOf(t, whole, "out")
	for _, size := range []int{1, 2} {
		r := startRanks(t, size, append(resumeArgs(t, "out"), "--keep-run-dir")...)
		r.wait("the first step", func() bool {
			at, _ := r.position(0)
			return at.Phase == "denoise" && at.Total == 5
		})
		if err := r.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		<-r.ended
		_ = r.cmd.Wait() // its code is looked at
		if code := r.cmd.ProcessState.ExitCode(); code != 75 || !strings.Contains(r.said(), "wanrun resume .out.mp4.wanrun") {
			t.Fatalf("%d ranks: drained with %d:\n%s", size, code, r.said())
		}
		if e := wanrun(t, r.dir, "decode", ".out.mp4.wanrun"); e.code != 65 || !strings.Contains(e.stderr, "nothing to decode yet") {
			t.Errorf("decode of an unfinished run: %+v", e)
		}
		if e := wanrun(t, r.dir, "resume", ".out.mp4.wanrun", "--report", "r.json"); e.code != 0 {
			t.Fatalf("resume: %+v", e)
		}
		if !bytes.Equal(framesOf(t, r.dir, "out"), want) {
			t.Errorf("%d ranks: another video", size)
		}
		if e := wanrun(t, r.dir, "decode", ".out.mp4.wanrun", "--nproc", "3", "-o", "again.mp4", "--dump", "again.safetensors"); e.code != 0 {
			t.Fatalf("decode: %+v", e)
		}
		if !bytes.Equal(framesOf(t, r.dir, "again"), want) {
			t.Errorf("%d ranks: the latent gives another video", size)
		}
		state := filepath.Join(r.dir, ".out.mp4.wanrun", "state.wanrun")
		data, err := os.ReadFile(state)
		if err == nil {
			data[len(data)/2] ^= 1
			err = os.WriteFile(state, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		e := wanrun(t, r.dir, "resume", ".out.mp4.wanrun", "-o", "third.mp4", "--dump", "third.safetensors")
		if e.code != 65 || !strings.Contains(e.stderr, "checksum") {
			t.Errorf("a damaged folder: %+v", e)
		}
	}
}

// TestRestartGoesOn: a group that is started again goes on where it was.
func TestRestartGoesOn(t *testing.T) {
	r := startRanks(t, 2, append(resumeArgs(t, "out"), "--max-restarts", "1")...)
	r.wait("the second step", func() bool {
		at, _ := r.position(0)
		return at.Phase == "denoise" && at.Total == 5 && at.Done >= 2
	})
	r.signal(1, syscall.SIGKILL)
	<-r.ended
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, r.said())
	}
	if !strings.Contains(r.said(), "the run went on after step") {
		t.Errorf("it began anew:\n%s", r.said())
	}
	whole := t.TempDir()
	if e := wanrun(t, whole, append(resumeArgs(t, "out"), "--nproc", "2")...); e.code != 0 {
		t.Fatalf("%+v", e)
	}
	if !bytes.Equal(endOf(t, r.dir, "out"), endOf(t, whole, "out")) {
		t.Error("another video")
	}
}
