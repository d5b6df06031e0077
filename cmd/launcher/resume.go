package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/runfolder"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
)

const aboutResume = `Goes on with a run that ended before its video was made, from the last step that was saved,
and makes the video that it would have made, bit for bit. DIR is its run folder, which the run
itself named when it ended: by default .NAME.wanrun beside the output NAME.

The settings are those of the run. Flags may say where and how it goes on, as in

    wanrun resume .out.mp4.wanrun --offload dit=file --log-dir logs

but what the video depends on, the checkpoint and the build must be as they were. --log-dir,
--report, --ffmpeg and how nodes meet are not kept, and have to be given again.
`

const aboutDecode = `Decodes the latent of a run whose steps are all done, with other settings of ranks and memory
if they are given, and to another --output:

    wanrun decode .out.mp4.wanrun --nproc 1 --output again.mp4

The run folder stays.
`

// resume goes on with a saved run.
func resume(w world, args []string) error { return w.goOn("resume", args) }

// decode decodes a saved latent.
func decode(w world, args []string) error { return w.goOn("decode", args) }

func (w world) goOn(name string, args []string) error {
	c := commandNamed(name)
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		fmt.Fprint(w.stdout, helpOf(c))
		return nil
	}
	if len(args) == 0 || args[0] == "" || strings.HasPrefix(args[0], "-") {
		return ends.Errorf(ends.Usage, "usage: wanrun %s %s", c.name, c.args)
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return ends.As(ends.Usage, err)
	}
	h, err := runfolder.ReadHeader(dir)
	switch {
	case err != nil:
		return ends.As(ends.BadInput, err)
	case h.Build != version.Version:
		return ends.Errorf(ends.BadInput, "the run in %q was saved by build %q, and this is %q: go on with that, or begin anew", args[0], h.Build, version.Version)
	case name == "decode" && !h.Complete():
		return ends.Errorf(ends.BadInput, "the run in %q was saved after step %d of %d, and has nothing to decode yet; wanrun resume %s goes on with it",
			args[0], h.Next, h.Steps, args[0])
	}
	if err := settings.CheckAgain(h.Args); err != nil {
		return ends.Errorf(ends.BadInput, "the run in %q: %w", args[0], err)
	}
	all := append(slices.Clone(h.Args), "--run-dir="+dir)
	if name == "decode" {
		all = append(all, "--keep-run-dir")
	}
	return w.start(append(all, args[1:]...), true)
}

// saveInto gives the job what its run folder needs, and sees that no other run's state is
// in the way.
func (j *job) saveInto(s settings.Settings, resumes bool) (err error) {
	if j.ours.RunDir, err = filepath.Abs(s.RunDir); err != nil {
		return ends.As(ends.OutputLost, err)
	}
	if j.ours.ResumeArgs, err = s.Again(filepath.Abs); err != nil {
		return ends.As(ends.OutputLost, err)
	}
	j.ours.Resume = resumes
	if index, _ := j.index(); index > 0 || resumes || s.Launch.DryRun {
		return nil
	}
	h, err := runfolder.ReadHeader(s.RunDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case s.Overwrite:
		return ends.As(ends.OutputLost, runfolder.Remove(s.RunDir))
	case err != nil:
		return ends.Errorf(ends.OutputLost, "%w; --overwrite begins anew", err)
	default:
		return ends.Errorf(ends.OutputLost, "%q has a run that was saved after step %d of %d: %s goes on with it, --overwrite begins anew",
			s.RunDir, h.Next, h.Steps, resumeCommand(s.RunDir))
	}
}

// resumeCommand is the command that goes on with a saved run.
func resumeCommand(dir string) string { return commandLine([]string{"wanrun", "resume", dir}) }

// tellSaved says how to go on with a run that failed, if it was saved.
func (j *job) tellSaved(s settings.Settings) string {
	h, err := runfolder.ReadHeader(j.ours.GetRunDir())
	switch {
	case err != nil:
		return ""
	case h.Complete():
		return fmt.Sprintf("all %d steps are saved: %s makes the video, or %s with other flags for ranks and memory", h.Steps,
			resumeCommand(s.RunDir), commandLine([]string{"wanrun", "decode", s.RunDir}))
	case h.Next == 0:
		return fmt.Sprintf("the settings are saved, and no step yet: %s begins again", resumeCommand(s.RunDir))
	default:
		return fmt.Sprintf("saved after step %d of %d: %s goes on", h.Next, h.Steps, resumeCommand(s.RunDir))
	}
}
