package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
)

// What the demo model is lent if nothing is given. The worker knows the picture by this name.
const (
	demoImage  = "demo:in.jpg"
	demoPrompt = "the red ball moves right"
)

// generate makes a video.
func generate(w world, args []string) error { return w.start(args, false) }

// start settles and starts a run, or one that goes on from its run folder.
func (w world) start(args []string, resumes bool) error {
	s, err := settings.Resolve(w.inputs(args))
	switch {
	case err != nil:
		return errors.Join(err, reportRefusal(s, err, w.now()))
	case s.Help:
		fmt.Fprint(w.stdout, helpOf(commands()[0]))
		return nil
	case s.Explain:
		fmt.Fprint(w.stdout, s.ExplainText()+explainPlace(s.Launch.Where))
		return nil
	}
	if s.Report != "" {
		if err := launch.CheckReport(s.Report); err != nil {
			return err
		}
	}
	if s, err = w.checkPlan(s, args); err != nil {
		return errors.Join(err, reportRefusal(s, err, w.now()))
	}
	j := &job{w: w, launch: s.Launch, values: s.Values, env: w.workerEnv(s), nproc: s.Nproc, world: s.World, look: w.look(s)}
	if j.path, err = launch.FindWorker(s.Worker, w.exe); err != nil {
		return errors.Join(err, reportRefusal(s, err, w.now()))
	}
	j.args = []string{launch.WorkerName}
	if j.ours, err = launch.Job(s, version.Version); err != nil {
		return err
	}
	if err := j.saveInto(s, resumes); err != nil {
		return errors.Join(err, reportRefusal(s, err, w.now()))
	}
	if err := j.prepare(); err != nil {
		return err
	}
	if s.Launch.DryRun {
		return j.dryRun()
	}
	return j.generate(s)
}

// generate runs this node's part of the job and tells how it ended.
func (j *job) generate(s settings.Settings) error {
	session, err := j.open()
	if err != nil {
		return err
	}
	log := session.show.Log()
	index, _ := j.index()
	if index == 0 {
		for _, line := range s.Notices {
			log.Info(settings.Escape(line))
		}
	}
	if j.launch.ReportBindings {
		for _, line := range j.usedCPUs() {
			log.Info(line)
		}
	}
	if index > 0 {
		if err = j.follow(session); err != nil {
			log.Error(settings.Escape(err.Error()))
			err = &toldError{err}
		}
		return firstError(err, session.close())
	}
	result := j.lead(session)
	session.show.Clear()
	file := launch.NewFile(result, s, version.Version)
	if err = resultError(result); err != nil {
		j.tellFailure(session, result, err)
		if line := j.tellSaved(s); line != "" {
			log.Warn(settings.Escape(line))
		}
	}
	for _, line := range result.Notices() {
		log.Info(settings.Escape(line))
	}
	for _, path := range j.reports(session, s.Report) {
		if reportErr := file.Write(path); reportErr != nil {
			log.Error(settings.Escape(reportErr.Error()))
			err = firstError(err, reportErr)
		}
	}
	if err != nil {
		err = &toldError{err}
	}
	session.console.Print(printReport(file, s))
	return firstError(err, session.close())
}

// reports are where reports go.
func (j *job) reports(s session, asked string) []string {
	var paths []string
	if s.files != nil {
		paths = append(paths, filepath.Join(s.files.Folder(), "report.json"))
	}
	if asked != "" {
		paths = append(paths, asked)
	}
	return paths
}

// tellFailure says why the run ended: in one line what a worker said itself, in a few
// what has to be found out from ranks that died.
func (j *job) tellFailure(s session, result launch.Result, err error) {
	log := s.show.Log()
	var fields []zap.Field
	if j.look.Format == "json" {
		fields = []zap.Field{zap.Int("exit", int(result.Code)), zap.String("class", result.Code.String())}
	}
	if j.look.Format != "json" && result.Died() {
		text := result.Failure("wanrun", j.logs(s))
		s.console.Write(text)
		j.lastWords(text)
		return
	}
	log.Error(settings.Escape(err.Error()), fields...)
	j.lastWords("wanrun: " + err.Error() + "\n")
}

// logs is where the ranks' output is kept, "" for nowhere.
func (j *job) logs(s session) string {
	if s.files == nil {
		return ""
	}
	return filepath.Join(j.launch.LogDir, j.id)
}

func (w world) look(s settings.Settings) launch.Look {
	return w.lookOf(s.LogFormat, s.Verbose, s.Quiet)
}

func (w world) lookOf(format string, verbose, quiet bool) launch.Look {
	look := launch.Look{Format: format, Verbose: verbose, Quiet: quiet, Width: w.width}
	if format == "auto" {
		look.Format = "plain"
		if w.terminal {
			look.Format = "terminal"
		}
	}
	return look
}

// workerEnv is this program's environment; -v makes the worker log more too.
func (w world) workerEnv(s settings.Settings) []string {
	const level = "WANRUN_LOG_LEVEL="
	if !s.Verbose {
		return w.env
	}
	for _, pair := range w.env {
		if strings.HasPrefix(pair, level) {
			return w.env
		}
	}
	return append(w.env[:len(w.env):len(w.env)], level+"debug")
}

// socketDir is where the control socket's folder goes. A socket's path may have no
// more than 107 bytes, of which its folders and name need some 45.
func socketDir(tempDir string) string {
	const longest = 60
	if len(tempDir) > longest {
		return "/tmp"
	}
	return tempDir
}

func resultError(r launch.Result) error {
	if r.Code == ends.Done {
		return nil
	}
	return ends.As(r.Code, errors.New(r.Error))
}

// printReport is the final report for stdout: as text, as JSON in one line, or only the
// output's path.
func printReport(file launch.File, s settings.Settings) string {
	switch {
	case s.LogFormat == "json":
		data, err := json.Marshal(file)
		if err != nil {
			return ""
		}
		return string(data) + "\n"
	case s.Quiet:
		if file.Output != nil {
			return file.Output.Path + "\n"
		}
		return ""
	default:
		return file.Summary()
	}
}

// reportRefusal writes the report of a run that was refused before it started,
// where one was asked for and no file is in the way.
func reportRefusal(s settings.Settings, err error, now time.Time) error {
	if s.Report == "" || (exists(s.Report) && !s.Overwrite) {
		return nil
	}
	r := launch.Result{Code: ends.CodeOf(err), Error: err.Error(), Started: now}
	return launch.NewFile(r, s, version.Version).Write(s.Report)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
