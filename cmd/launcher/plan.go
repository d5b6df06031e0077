package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/wanrun/wanrun/examples"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/plan"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
	"github.com/wanrun/wanrun/internal/watch"
)

const aboutPlan = `Takes the flags of generate, and neither weights nor devices:

    wanrun plan --task i2v-14B --size '1280*720' --gpu h100x8 --ulysses 8 --dit-fsdp --t5-fsdp

Without --ckpt-dir the sizes are those of the official checkpoint of --task; with it, those of its
files, or of its config.json if that is all there is. The worker runs its own code without numbers,
so that the device bytes are exact; seconds are estimates. If the plan does not fit, the exit
code is 66, and the cheapest change that fits is printed.
`

// planTimeout bounds the worker's planning.
const planTimeout = 5 * time.Minute

func planFlags() []settings.Flag { return append(settings.Flags(), settings.PlanFlags()...) }

// planInputs are those of a job that is not to run.
func (w world) planInputs(args []string, more []settings.Flag) settings.Inputs {
	in := w.inputs(args)
	in.Planning, in.More = true, more
	return in
}

func (w world) inputs(args []string) settings.Inputs {
	return settings.Inputs{
		Args: args, Env: w.env, ReadFile: readFile, Exists: exists, Now: w.now(), Random: w.random, Processors: w.processors, Place: w.place,
		Demo: settings.Demo{Config: examples.DemoConfig(), Spec: examples.DemoSpec(), Image: demoImage, Prompt: demoPrompt},
	}
}

// planCommand prints what a job would take.
func planCommand(w world, args []string) error {
	s, err := settings.Resolve(w.planInputs(args, settings.PlanFlags()))
	switch {
	case s.Help:
		fmt.Fprint(w.stdout, helpOf(commandNamed("plan")))
		return nil
	case err != nil:
		return err
	case s.Explain:
		fmt.Fprint(w.stdout, s.ExplainText())
		return nil
	}
	request, err := w.planRequest(s)
	if err != nil {
		return err
	}
	request.Search = "first"
	p, err := w.askPlan(s, request)
	if err != nil {
		return err
	}
	if err := w.printPlan(p, s.Launch.JSON, append([]string{"plan"}, args...)); err != nil {
		return err
	}
	if !p.Fits {
		return &toldError{ends.Errorf(ends.Refused, "%s", p.Verdict)}
	}
	return nil
}

func (w world) printPlan(p *plan.Plan, asJSON bool, args []string) error {
	if asJSON {
		data, err := json.MarshalIndent(p, "", "  ")
		if err == nil {
			fmt.Fprintf(w.stdout, "%s\n", data)
		}
		return err
	}
	fmt.Fprint(w.stdout, escapeLines(p.Text()))
	if !p.Fits {
		fmt.Fprint(w.stdout, remedyText(p, args))
	}
	return nil
}

func escapeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = settings.Escape(line)
	}
	return strings.Join(lines, "\n")
}

// remedyText is the cheapest change that fits, as a command line.
func remedyText(p *plan.Plan, args []string) string {
	if len(p.Remedies) == 0 {
		return "no change of ranks, sharding, places of weights, dtype, size and frames was found that fits\n"
	}
	o := p.Remedies[0]
	return fmt.Sprintf("this would fit, with %s on the device that takes the most:\n  wanrun %s\n", plan.FormatBytes(o.DeviceBytes), commandLine(append(args, o.Changes...)))
}

// commandLine writes arguments for a shell.
func commandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = shellQuote(a)
	}
	return strings.Join(quoted, " ")
}

func shellQuote(s string) string {
	plain := s != ""
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,+@%", r) {
			plain = false
		}
	}
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(settings.Escape(s), "'", `'\''`) + "'"
}

// planRequest is what the worker is asked.
func (w world) planRequest(s settings.Settings) (plan.Request, error) {
	job, err := launch.Job(s, version.Version)
	if err != nil {
		return plan.Request{}, err
	}
	job.SettingsJson = ""
	if job.GetDtype() == "" {
		job.Dtype = s.DType
	}
	data, err := protojson.Marshal(job)
	if err != nil {
		return plan.Request{}, fmt.Errorf("job for the plan: %w", err)
	}
	r := plan.Request{Job: data, Threads: s.Threads, PerNode: max(s.Nproc, 1), Fixed: s.Fixed, MaxRanks: max(s.World, 1), Limits: plan.Limits{ArenaBytes: s.MemLimit}}
	switch {
	case s.Official:
		r.Official = string(s.Task)
	case s.CkptDir == "":
		r.Demo = true
	}
	if s.GPU != "" {
		if r.Devices, err = plan.ParseDevices(s.GPU); err != nil {
			return r, ends.As(ends.Usage, err)
		}
		r.MaxRanks = len(r.Devices)
		if s.World > len(r.Devices) {
			return r, ends.Errorf(ends.Usage, "%d ranks on the %d devices of --gpu; name as many", s.World, len(r.Devices))
		}
	}
	r.Limits.HostBytes, r.Limits.HostBy = s.HostMemory, "--host"
	if s.HostMemory == 0 && s.GPU == "" {
		w.limits(&r.Limits)
	}
	return r, nil
}

// limits are those of this machine.
func (w world) limits(l *plan.Limits) {
	f := watch.ReadFacts(os.DirFS("/"), watch.Statfs)
	if n := f.Memory(); n != watch.Unknown {
		l.HostBytes, l.HostBy = n, "the machine's available memory"
		if n == f.MemLimit {
			l.HostBy = "cgroup " + f.MemLimitedBy
		}
	}
}

// askPlan has the worker plan.
func (w world) askPlan(s settings.Settings, r plan.Request) (*plan.Plan, error) {
	path, err := launch.FindWorker(s.Worker, w.exe)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("request for a plan: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), planTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "plan")
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(data), time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{w: &out, left: maxPlan}, &limited{w: &said, left: 4 << 10}
	runErr := cmd.Run()
	var answer plan.Answer
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		if runErr == nil {
			runErr = err
		}
		return nil, ends.Errorf(ends.CannotStart, "the worker does not plan (%v): %s", runErr, settings.Shorten(strings.TrimSpace(said.String()), 300))
	}
	if answer.Error != "" {
		return nil, ends.As(ends.Code(answer.Code), errors.New(answer.Error))
	}
	if answer.Plan == nil {
		return nil, ends.Errorf(ends.Bug, "the worker's answer has no plan")
	}
	return answer.Plan, nil
}

// maxPlan bounds a plan's JSON.
const maxPlan = 64 << 20

// limited drops what comes behind its limit.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
