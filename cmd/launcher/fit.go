package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/plan"
	"github.com/wanrun/wanrun/internal/settings"
)

const aboutFit = `Looks for ways to run the job: degrees, sharding, where weights rest, and dtype, for the same
video; if none fits, a smaller size, then fewer frames. What is given stays as it is. It prints those
that no other beats in both time and memory, the best first:

    wanrun fit --task i2v-14B --image in.jpg --gpu 24GiB

--run starts the best, --progressive tries for real which size and how many frames hold.
`

func fitFlags() []settings.Flag { return append(settings.Flags(), settings.FitFlags()...) }

// mostOptions is how many ways are printed.
const mostOptions = 6

// fit prints the best ways to run a job.
func fit(w world, args []string) error {
	s, err := settings.Resolve(w.planInputs(args, settings.FitFlags()))
	switch {
	case s.Help:
		fmt.Fprint(w.stdout, helpOf(commandNamed("fit")))
		return nil
	case err != nil:
		return err
	case (s.More["run"] || s.More["progressive"]) && (s.GPU != "" || s.HostMemory > 0 || s.Official):
		return ends.Errorf(ends.Usage, "--run and --progressive start jobs on this machine: leave --gpu and --host out, and name a checkpoint")
	}
	request, err := w.planRequest(s)
	if err != nil {
		return err
	}
	request.Search, request.Most = "all", mostOptions
	p, err := w.askPlan(s, request)
	if err != nil {
		return err
	}
	if s.Launch.JSON {
		data, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(w.stdout, "%s\n", data)
	} else {
		fmt.Fprint(w.stdout, escapeLines(fitText(p)))
	}
	if len(p.Remedies) == 0 {
		return &toldError{ends.Errorf(ends.Refused, "nothing fits: the plan %s", p.Verdict)}
	}
	best := p.Remedies[0]
	job := append(withoutPlanFlags(args), best.Changes...)
	if s.More["progressive"] {
		held, err := w.climb(job, plan.Search{Fixed: fixedOf(s)}.Ladder(best.Choice), best.Choice)
		if err != nil {
			return err
		}
		job = append(job, held...)
	}
	if !s.Launch.JSON {
		fmt.Fprintf(w.stdout, "wanrun %s\n", commandLine(append([]string{"generate"}, job...)))
	}
	if s.More["run"] {
		return generate(w, job)
	}
	return nil
}

func fixedOf(s settings.Settings) map[string]bool {
	fixed := map[string]bool{}
	for _, name := range s.Fixed {
		fixed[name] = true
	}
	return fixed
}

// fitText is the table of options.
func fitText(p *plan.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d*%d, %d frames, %d steps: as it is, the plan %s\n", p.Task, p.Width, p.Height, p.Frames, p.Steps, p.Verdict)
	if len(p.Remedies) == 0 {
		return b.String() + "nothing was found that fits\n"
	}
	fmt.Fprintf(&b, "  %-12s %6s %5s %9s %10s %10s  %s\n", "size", "frames", "steps", "time", "device", "host", "changes")
	for _, o := range p.Remedies {
		changes := commandLine(o.Changes)
		if len(o.Changes) == 0 {
			changes = "none"
		}
		fmt.Fprintf(&b, "  %-12s %6d %5d %9s %10s %10s  %s\n", fmt.Sprintf("%d*%d", o.Choice.Width, o.Choice.Height), o.Choice.Frames, o.Choice.Steps,
			time.Duration(o.Seconds*float64(time.Second)).Round(100*time.Millisecond), plan.FormatBytes(o.DeviceBytes), plan.FormatBytes(o.HostBytes), changes)
	}
	return b.String()
}

// withoutPlanFlags leaves out what generate does not know.
func withoutPlanFlags(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		k := slices.IndexFunc(settings.FitFlags(), func(f settings.Flag) bool { return f.Name == name })
		switch {
		case !strings.HasPrefix(args[i], "--"), k < 0 && name != "json":
			out = append(out, args[i])
		case k >= 0 && settings.FitFlags()[k].TakesValue() && !hasValue:
			i++
		}
	}
	return out
}

// climb runs a step of each rung, from small to large, until one does not hold, and returns
// the flags of the largest that held. Errors: ends.Refused where not even the first did.
func (w world) climb(job []string, rungs []plan.Choice, base plan.Choice) (held []string, err error) {
	dir, err := os.MkdirTemp(w.tempDir, "wanrun-fit-")
	if err != nil {
		return nil, ends.As(ends.CannotStart, err)
	}
	defer os.RemoveAll(dir)
	for i, rung := range rungs {
		flags := rung.Changes(base)
		try := slices.Concat([]string{"generate"}, job, flags, []string{"--steps", "1", "--output", filepath.Join(dir, strconv.Itoa(i)+".mp4"), "--quiet"})
		cmd := exec.Command(w.exe, try...)
		cmd.Env, cmd.Stderr = w.env, w.stderr
		start := w.now()
		err := cmd.Run()
		outcome := "held"
		if err != nil {
			outcome = "did not hold: " + err.Error()
		}
		fmt.Fprintf(w.stdout, "one step of %d*%d, %d frames: %s, %v\n", rung.Width, rung.Height, rung.Frames, outcome, w.now().Sub(start).Round(100*time.Millisecond))
		if err != nil && i == 0 {
			return nil, ends.Errorf(ends.Refused, "not even the smallest of what was tried held")
		}
		if err != nil {
			break
		}
		held = flags
	}
	return held, nil
}
