package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
)

const aboutRun = `Starts any program as a group of ranks, with torchrun's environment:

    wanrun run --nproc 8 -- python train.py --steps 100
    wanrun run --nnodes 2 --node-rank 1 --nproc 8 --rdzv 10.0.0.1:29400 -- ./program

What follows the program's name is the program's. When one rank fails, the others are ended,
and the exit code is that of the first that failed, or 128 and the signal's number. Without
GPUs, --nproc is 1 unless it is given.
`

// run starts any program.
func run(w world, args []string) error {
	s, err := settings.ResolveRun(settings.Inputs{Args: args, Env: w.env, ReadFile: readFile, Now: w.now(), Place: w.place})
	switch {
	case s.Help:
		fmt.Fprint(w.stdout, helpOf(commandNamed("run")))
		return nil
	case err != nil:
		return err
	case s.Explain:
		fmt.Fprint(w.stdout, settings.ExplainValues(s.Values)+explainPlace(s.Launch.Where))
		return nil
	}
	if s.Report != "" {
		if err := launch.CheckReport(s.Report); err != nil {
			return err
		}
	}
	j := &job{w: w, launch: s.Launch, values: s.Values, args: s.Program, env: append(w.env[:len(w.env):len(w.env)], s.Env...),
		look: w.lookOf(s.LogFormat, s.Verbose, s.Quiet)}
	if j.dir = s.Chdir; j.dir == "" {
		if j.dir, err = os.Getwd(); err != nil {
			return ends.As(ends.CannotStart, err)
		}
	}
	index, count := j.index()
	if j.path, err = findProgram(s.Program[0], j.dir, j.env); err != nil {
		if index == 0 {
			return err
		}
		j.unable = err // node 0 tells it, and starts nothing anywhere
	}
	j.nproc = s.Nproc
	if s.Launch.Where.Mode == placement.Rank {
		j.nproc = 1
	}
	if j.nproc == 0 {
		j.nproc = max(1, j.launch.Where.GPUs)
	}
	j.world = j.nproc * count
	if err := j.checkGPUs(s.Device); err != nil {
		return err
	}
	if err := j.prepare(); err != nil {
		return err
	}
	if s.Launch.DryRun {
		return j.dryRun()
	}
	return j.run(s.Report, func(r launch.Result) launch.File { return launch.NewRunFile(r, s, version.Version) })
}

// run runs this node's part of the job and tells how it ended.
func (j *job) run(report string, file func(launch.Result) launch.File) error {
	session, err := j.open()
	if err != nil {
		return err
	}
	log := session.show.Log()
	if j.launch.ReportBindings {
		for _, line := range j.usedCPUs() {
			log.Info(line)
		}
	}
	if index, _ := j.index(); index > 0 {
		err := j.follow(session)
		if err != nil {
			log.Error(settings.Escape(err.Error()))
			err = &toldError{err}
		}
		return firstError(err, session.close())
	}
	result := j.lead(session)
	session.show.Clear()
	err = resultError(result)
	if err != nil {
		text := result.Failure("wanrun", j.logs(session))
		session.console.Write(text)
		j.lastWords(text)
		err = &toldError{err}
	}
	f := file(result)
	for _, path := range j.reports(session, report) {
		if reportErr := f.Write(path); reportErr != nil {
			log.Error(settings.Escape(reportErr.Error()))
			err = firstError(err, reportErr)
		}
	}
	return firstError(err, session.close())
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// place finds out where this process stands.
func (w world) place(given placement.Given) (placement.Placement, error) {
	return placement.Find(environ.List(w.env), given)
}

// explainPlace lists who said where this process stands.
func explainPlace(p placement.Placement) string {
	text := fmt.Sprintf("\nplacement: %s: %s\n", p.Source, p.Why)
	for _, v := range p.Values {
		text += fmt.Sprintf("%-26s%-30s  %s\n", v.Name, settings.Shorten(v.Value, 60), settings.Escape(v.From))
	}
	if p.NumNodes > 1 && p.Rendezvous.Host != "" {
		if name := interfaceTo(p.Rendezvous.Host); name != "" {
			text += fmt.Sprintf("the route to node 0 is by %s: NCCL_SOCKET_IFNAME=%s makes NCCL use the same\n", name, name)
		}
	}
	return text
}

func number(n int) string { return strconv.Itoa(n) }
