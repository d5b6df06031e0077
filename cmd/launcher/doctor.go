package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/doctor"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
	"github.com/wanrun/wanrun/internal/watch"
)

const aboutDoctor = `Without a LOG it looks at this machine, and with --ckpt-dir at a checkpoint: each line says what was
found, and below it what to do if it is not well. The exit code is 71 if a run will not work here,
65 if it is the checkpoint's fault.

With LOGs it says why a run failed: in which phase, what the cause was and what only followed from
it, what to change, and the command line of wanrun that avoids it. A LOG is a file, the folder of a
job under --log-dir, or - for standard input; give all that belongs to one run together:

    wanrun doctor run.log
    dmesg -T | wanrun doctor - slurm-4711.out logs/JOB

It knows logs of wanrun, of the official program under python or torchrun, of Slurm, Kubernetes and
the kernel. What it quotes of them is safe to print; nothing is sent anywhere.
`

func doctorFlags() []settings.Flag {
	return append([]settings.Flag{
		{Name: "ckpt-dir", Kind: settings.Folder, Local: true, Help: "a checkpoint to look at"},
		{Name: "task", Value: "TASK", Local: true, Help: "the task that the checkpoint is meant for, such as i2v-14B"},
		{Name: "nproc", Kind: settings.Number, Local: true, Help: "ranks that shall run on this machine"},
		{Name: "output", Letter: "o", Kind: settings.File, Local: true, Help: "where the video shall be written"},
		{Name: "worker", Kind: settings.File, Local: true, Help: "the wanworker program"},
		{Name: "ffmpeg", Kind: settings.File, Local: true, Help: "the ffmpeg program"},
		{Name: "json", Kind: settings.Switch, Local: true, Help: "print JSON"},
	}, helpFlags()...)
}

// cpuOnly says that workers of this build compute on the CPU alone; settings refuse --device cuda.
const cpuOnly = true

// maxDoctorRanks bounds --nproc, which is only compared with what there is.
const maxDoctorRanks = 1 << 16

// examine is `wanrun doctor`.
func examine(w world, args []string) error {
	parsed, err := settings.ParseArgs(doctorFlags(), args)
	if err != nil {
		return err
	}
	if _, ok := parsed.Given["help"]; ok {
		fmt.Fprint(w.stdout, helpOf(commandNamed("doctor")))
		return nil
	}
	asJSON, err := parsed.Switch("json")
	if err != nil {
		return err
	}
	if len(parsed.Positional) > 0 {
		return w.readLogs(parsed.Positional, asJSON)
	}
	return w.checkAll(parsed, asJSON)
}

// readLogs says what logs mean.
func (w world) readLogs(names []string, asJSON bool) (err error) {
	var sources []doctor.Source
	var closers []func() error
	defer func() {
		for _, c := range closers {
			err = errors.Join(err, c())
		}
	}()
	for _, name := range names {
		if name == "-" {
			sources = append(sources, doctor.Source{Name: "standard input", Read: w.stdin, Rank: -1})
			continue
		}
		some, closer, err := openLogs(name)
		if err != nil {
			return ends.As(ends.BadInput, err)
		}
		sources, closers = append(sources, some...), append(closers, closer)
	}
	d := doctor.Analyze(sources)
	if cpuOnly && d.Program == "torch" && len(d.Findings) > 0 && d.Findings[0].Command != "" {
		d.Notes = append(d.Notes, "this build of wanrun computes on the CPU: its command line is right, but takes far longer than one on graphics cards")
	}
	if asJSON {
		return w.printJSON(d)
	}
	return d.WriteText(w.stdout)
}

// openLogs opens a file, or the logs of a folder.
func openLogs(name string) ([]doctor.Source, func() error, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, nil, fmt.Errorf("log folder: %w", err)
		}
		sources, closer, err := doctor.Folder(name, root.FS())
		if err != nil {
			return nil, nil, errors.Join(err, root.Close())
		}
		return sources, func() error { return errors.Join(closer(), root.Close()) }, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	s, err := doctor.Open(name, f)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return []doctor.Source{s}, f.Close, nil
}

// checkAll looks at the machine, and at a checkpoint if one is given.
func (w world) checkAll(parsed settings.Args, asJSON bool) error {
	text := func(name string) string { return parsed.Given[name].Text }
	ranks := 0
	if t := text("nproc"); t != "" {
		if _, err := fmt.Sscanf(t, "%d", &ranks); err != nil || ranks < 1 || ranks > maxDoctorRanks {
			return ends.Errorf(ends.Usage, "--nproc is %q, want 1 to %d", t, maxDoctorRanks)
		}
	}
	folder := "."
	if t := text("output"); t != "" {
		folder = filepath.Dir(t)
	}
	worker, workerErr := launch.FindWorker(text("worker"), w.exe)
	machine := doctor.CheckMachine(context.Background(), doctor.Machine{
		Root: os.DirFS("/"), Lookup: environ.List(w.env), Processors: w.processors, Ranks: ranks, Build: version.Version, CPUOnly: cpuOnly,
		Statfs: watch.Statfs, LookPath: exec.LookPath, Run: runCommand, Writable: writable, Hostname: os.Hostname,
		Resolve: net.DefaultResolver.LookupHost, Listen: listenOnce, InTime: inTime, Now: w.now(),
		Worker: worker, WorkerErr: workerErr, FFmpeg: text("ffmpeg"), Temp: w.tempDir, Out: folder})
	var checkpoint []doctor.Check
	if dir := text("ckpt-dir"); dir != "" {
		checkpoint = doctor.CheckCheckpoint(dir, os.DirFS(dir), text("task"))
	}
	all := append(machine, checkpoint...)
	var err error
	if asJSON {
		err = w.printJSON(struct {
			Checks []doctor.Check `json:"checks"`
		}{all})
	} else {
		err = doctor.WriteChecks(w.stdout, all)
	}
	switch {
	case err != nil:
		return err
	case doctor.Failed(machine):
		return &toldError{ends.Errorf(ends.CannotStart, "this machine is not ready")}
	case doctor.Failed(checkpoint):
		return &toldError{ends.Errorf(ends.BadInput, "the checkpoint is not whole")}
	}
	return nil
}

// writable makes and removes a file.
func writable(folder string) error {
	f, err := os.CreateTemp(folder, ".wanrun-doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// listenOnce opens a port of the loopback interface and closes it.
func listenOnce() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return l.Close()
}

// inTime says whether something keeps the clock right.
func inTime() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t) // it only reads: no mode is set
	return err == nil && state != unix.TIME_ERROR, err
}
