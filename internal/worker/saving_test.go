package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/golden"
	"github.com/wanrun/wanrun/internal/runfolder"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// savedJob is a demo job of some steps that is saved.
func savedJob(dir string) *wanrunv1.Job {
	job := demoJob(dir)
	job.Steps, job.SaveEvery, job.RunDir = 4, 1, runfolder.Beside(job.GetOutput())
	job.Dump, job.ResumeArgs = filepath.Join(dir, "dump.safetensors"), []string{"--seed=1"}
	return job
}

// sameVideo compares the bits of two dumps' ends.
func sameVideo(t *testing.T, got, want string) {
	t.Helper()
	g, w := golden.Load(t, got), golden.Load(t, want)
	if !slices.Equal(g["final_latent"].F32, w["final_latent"].F32) || len(w["final_latent"].F32) == 0 {
		t.Error("the latent has other bits than the whole run's")
	}
	if string(g["video_uint8_FHWC"].U8) != string(w["video_uint8_FHWC"].U8) || len(w["video_uint8_FHWC"].U8) == 0 {
		t.Error("the frames are others than the whole run's")
	}
}

// TestDrain drains a run in each phase that lasts long enough to be met, and goes on from
// what was saved.
func TestDrain(t *testing.T) {
	whole := savedJob(t.TempDir())
	if _, err := run(t, whole, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(whole.GetRunDir()); !os.IsNotExist(err) {
		t.Errorf("the run folder is there after a good end (%v)", err)
	}
	for _, phase := range []string{"vae_encode", "denoise", "vae_decode"} {
		t.Run(phase, func(t *testing.T) {
			job := savedJob(t.TempDir())
			job.RunDir = filepath.Join(t.TempDir(), "given")
			l, err := run(t, job, func(s *control.Server, p *wanrunv1.Progress) {
				if p.GetPhase() == phase {
					go s.Abort(ends.Retry, "drained: SIGUSR1")
				}
			})
			if ends.CodeOf(err) != ends.Retry || l.report.GetError() != "drained: SIGUSR1" {
				t.Fatalf("ended with %v, reported %v", err, l.report)
			}
			h, err := runfolder.ReadHeader(job.GetRunDir())
			if err != nil || h.Args[0] != "--seed=1" || h.Steps != 4 {
				t.Fatalf("saved %+v (%v)", h, err)
			}
			switch phase {
			case "denoise":
				if h.Next > 4 {
					t.Errorf("saved before step %d", h.Next)
				}
			case "vae_decode":
				if !h.Complete() {
					t.Errorf("saved before step %d when decoding", h.Next)
				}
			default:
				if h.Next != 0 {
					t.Errorf("saved before step %d in %s", h.Next, phase)
				}
			}
			job.Resume, job.KeepRunDir = true, true
			if l, err = run(t, job, nil); err != nil {
				t.Fatal(err)
			}
			if l.report.GetUsedBytes() != l.report.GetPredictedBytes() {
				t.Errorf("used %d bytes, predicted %d", l.report.GetUsedBytes(), l.report.GetPredictedBytes())
			}
			if notices := strings.Join(l.report.GetNotices(), ";"); (h.Next > 0) != strings.Contains(notices, fmt.Sprintf("after step %d of 4", h.Next)) {
				t.Errorf("saved before step %d, notices %q", h.Next, notices)
			}
			sameVideo(t, job.GetDump(), whole.GetDump())
			if _, err := runfolder.Read(job.GetRunDir()); err != nil {
				t.Errorf("the folder that is to be kept: %v", err)
			}
		})
	}
}

// TestResumeRefuses: what was saved by another build, of another run or is damaged does
// not go on, and says why in one line.
func TestResumeRefuses(t *testing.T) {
	job := savedJob(t.TempDir())
	job.KeepRunDir = true
	if _, err := run(t, job, nil); err != nil {
		t.Fatal(err)
	}
	good, err := runfolder.Read(job.GetRunDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*runfolder.State, *wanrunv1.Job)
		words  string
	}{
		{"build", func(s *runfolder.State, _ *wanrunv1.Job) { s.Build = "older" }, `the build is "test" and was "older"`},
		{"seed", func(_ *runfolder.State, j *wanrunv1.Job) { j.Seed = 9 }, `seed is "9" and was "1"`},
		{"checkpoint", func(s *runfolder.State, _ *wanrunv1.Job) { s.Facts["DiT weights"] = "0" }, "DiT weights"},
		{"nothing there", func(_ *runfolder.State, j *wanrunv1.Job) { j.RunDir += "x" }, "no saved run"},
		{"shift", func(s *runfolder.State, _ *wanrunv1.Job) { s.Shift = "x" }, "shift"},
		{"history", func(s *runfolder.State, _ *wanrunv1.Job) { s.Arrays, s.Data = s.Arrays[:1], s.Data[:1] }, "cannot go on"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			again := savedJob(t.TempDir())
			again.RunDir, again.Resume = filepath.Join(t.TempDir(), "run"), true
			state := good
			state.Facts = map[string]string{}
			for k, v := range good.Facts {
				state.Facts[k] = v
			}
			tc.change(&state, again)
			f, err := runfolder.Create(strings.TrimSuffix(again.GetRunDir(), "x"))
			if err == nil {
				err = f.Write(state)
			}
			if err == nil {
				err = f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			l, err := run(t, again, nil)
			if text := l.report.GetError(); ends.CodeOf(err) != ends.BadInput || !strings.Contains(text, tc.words) || strings.Contains(text, "\n") {
				t.Errorf("%v, want one line with %q", err, tc.words)
			}
			// A group that was started again begins anew instead.
			if tc.name == "seed" || tc.name == "nothing there" {
				again.Resume, again.World = false, &wanrunv1.World{Attempt: 1}
				if _, err := run(t, again, nil); err != nil {
					t.Errorf("another attempt: %v", err)
				}
			}
		})
	}
}

// TestDrainRanks drains ranks that talk as processes do: all say that they were drained,
// and the next attempt of the group goes on.
func TestDrainRanks(t *testing.T) {
	one := savedJob(t.TempDir())
	if _, err := run(t, one, nil); err != nil {
		t.Fatal(err)
	}
	job := savedJob(t.TempDir())
	job.Ulysses, job.DitFsdp = 2, true
	l, errs := runRanksWith(t, job, 2, func(s *control.Server, rank int, p *wanrunv1.Progress) {
		if rank == 1 && p.GetPhase() == "denoise" && p.GetDone() == 1 && p.GetTotal() == 4 {
			go s.Abort(ends.Retry, "drained: the time is over")
		}
	})
	for rank, err := range errs {
		if ends.CodeOf(err) != ends.Retry {
			t.Fatalf("rank %d: %v (%v)", rank, err, l.reports[rank])
		}
	}
	h, err := runfolder.ReadHeader(job.GetRunDir())
	if err != nil || h.Next < 1 {
		t.Fatalf("saved %+v (%v)", h, err)
	}
	job.World = nil
	l, errs = runRanksAttempt(t, job, 2, 1, nil)
	for rank, err := range errs {
		if err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
	if notices := strings.Join(l.reports[0].GetNotices(), ";"); !strings.Contains(notices, "went on after step") {
		t.Errorf("notices %q", notices)
	}
	sameVideo(t, job.GetDump(), one.GetDump())
}
