package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/examples"
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
func generate(w world, args []string) error {
	s, err := settings.Resolve(settings.Inputs{
		Args: args, Env: w.env, ReadFile: readFile, Exists: exists, Now: w.now(), Random: w.random, Processors: w.processors,
		Demo: settings.Demo{Config: examples.DemoConfig(), Spec: examples.DemoSpec(), Image: demoImage, Prompt: demoPrompt},
	})
	switch {
	case err != nil:
		return errors.Join(err, reportRefusal(s, err, w.now()))
	case s.Help:
		fmt.Fprint(w.stdout, helpOf(commands()[0]))
		return nil
	case s.Explain:
		fmt.Fprint(w.stdout, s.ExplainText())
		return nil
	}
	if s.Report != "" {
		if err := launch.CheckReport(s.Report); err != nil {
			return err
		}
	}
	// Writing waits for no reader: a stopped terminal does not stop the run.
	const patience = 2 * time.Second
	stderr := launch.NewSpool(w.stderr)
	file, err := w.launch(s, stderr)
	stderr.Close(patience) // before the report: both may be one terminal
	stdout := launch.NewSpool(w.stdout)
	printReport(file, s, stdout)
	stdout.Close(patience)
	return err
}

// launch runs what was settled, shows it, and tells how it ended. An error has
// been told when it returns.
func (w world) launch(s settings.Settings, stderr io.Writer) (launch.File, error) {
	show := launch.NewRenderer(stderr, w.look(s))
	log := show.Log()
	for _, line := range s.Notices {
		log.Info(settings.Escape(line))
	}
	result := w.start(s, show)
	show.Clear()
	file := launch.NewFile(result, s, version.Version)
	err := resultError(result)
	if err != nil {
		var fields []zap.Field
		if s.LogFormat == "json" {
			fields = []zap.Field{zap.Int("exit", int(result.Code)), zap.String("class", result.Code.String())}
		}
		log.Error(settings.Escape(err.Error()), fields...)
	}
	for _, line := range result.Notices() {
		log.Info(settings.Escape(line))
	}
	if s.Report != "" {
		if reportErr := file.Write(s.Report); reportErr != nil {
			log.Error(settings.Escape(reportErr.Error()))
			err = errors.Join(err, reportErr)
		}
	}
	if err != nil {
		err = &toldError{err}
	}
	return file, err
}

// start finds the worker and runs the job. What goes wrong before the worker
// runs is a result too.
func (w world) start(s settings.Settings, show launch.Renderer) launch.Result {
	began := w.now()
	failed := func(err error) launch.Result {
		return launch.Result{Code: ends.CodeOf(err), Error: err.Error(), Started: began}
	}
	worker, err := launch.FindWorker(s.Worker, w.exe)
	if err != nil {
		return failed(err)
	}
	job, err := launch.Job(s, version.Version)
	if err != nil {
		return failed(err)
	}
	signals, stop := w.signals()
	defer stop()
	return launch.Run(launch.Options{
		Job: job, Ranks: s.Nproc, Worker: worker, Build: version.Version, TempDir: socketDir(w.tempDir), Env: w.workerEnv(s),
		Grace: s.Grace, Signals: signals, Now: w.now, Root: os.DirFS("/"), Show: show, Log: show.Log(),
	})
}

func (w world) look(s settings.Settings) launch.Look {
	look := launch.Look{Format: s.LogFormat, Verbose: s.Verbose, Quiet: s.Quiet, Width: w.width}
	if s.LogFormat == "auto" {
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
// more than 107 bytes, of which its folder and name need some 35.
func socketDir(tempDir string) string {
	const longest = 70
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

// printReport writes the final report to stdout: as text, as JSON in one line, or only the
// output's path.
func printReport(file launch.File, s settings.Settings, stdout io.Writer) {
	switch {
	case s.LogFormat == "json":
		data, err := json.Marshal(file)
		if err == nil {
			fmt.Fprintf(stdout, "%s\n", data)
		}
	case s.Quiet:
		if file.Output != nil {
			fmt.Fprintln(stdout, file.Output.Path)
		}
	default:
		fmt.Fprint(stdout, file.Summary())
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
