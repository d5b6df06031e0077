package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
)

// command is one row of the command table.
type command struct {
	name  string
	args  string // what follows the name
	help  string // one line
	about string // more, for `wanrun help NAME`
	flags func() []settings.Flag
	run   func(w world, args []string) error
}

func commands() []command {
	return []command{
		{"generate", "[FLAGS]", "make a video; what wanrun does without a command", aboutGenerate, settings.Flags, generate},
		{"run", "[FLAGS] -- PROGRAM [ARGUMENTS]", "start any program as a group of ranks", aboutRun, settings.RunFlags, run},
		{"plan", "[FLAGS OF generate] [--gpu DEVICES] [--host SIZE] [--json]", "print what a job would take, and whether it fits", aboutPlan, planFlags, planCommand},
		{"fit", "[FLAGS OF generate] [--gpu DEVICES] [--host SIZE] [--run] [--progressive]", "find the best ways to run a job here, or on given devices", aboutFit, fitFlags, fit},
		{"resume", "DIR [FLAGS OF generate]", "go on with a run that was killed or drained", aboutResume, settings.Flags, resume},
		{"decode", "DIR [FLAGS OF generate]", "decode the latent of a run whose steps are done", aboutDecode, settings.Flags, decode},
		{"inspect", "FILE [--json]", "print the settings that are stored in a video or picture", aboutInspect, inspectFlags, inspect},
		{"tokens", "--json [--ckpt-dir DIR] < PROMPTS.json", "print what the text encoder is given for prompts", aboutTokens, tokensFlags, tokens},
		{"ps", "[--json]", "list the jobs that run", aboutPs, jobFlags(jsonFlag), ps},
		{"top", "[JOB] [--once] [--interval DURATION]", "show what a job's ranks do and take", aboutTop, jobFlags(onceFlag, intervalFlag), showTop},
		{"logs", "[JOB] [-f] [--rank RANKS]", "print what a job's ranks say", aboutLogs, jobFlags(followFlag, ranksFlag), logs},
		{"stop", "[JOB]", "end a job", aboutStop, jobFlags(), stop},
		{"stacks", "[JOB]", "write where a job's ranks are", aboutStacks, jobFlags(), stacks},
		{"report", "DIR|FILE [--json | --exit-code]", "print how a job went", aboutReport, jobFlags(jsonFlag, codeFlag), report},
		{"clean", "[--yes]", "find what dead jobs have left", aboutClean, jobFlags(yesFlag, jsonFlag), cleanUp},
		{"doctor", "[FLAGS] [LOG...]", "say why a run failed, or whether this machine is ready for one", aboutDoctor, doctorFlags, examine},
		{"version", "", "print the build", "", helpFlags, printVersion},
		{"help", "[COMMAND|exit-codes]", "explain a command, or the exit codes", "", helpFlags, help},
		{"completion", "bash|zsh|fish", "print a completion script for the shell", aboutCompletion, helpFlags, completion},
	}
}

func helpFlags() []settings.Flag {
	return []settings.Flag{{Name: "help", Letter: "h", Kind: settings.Switch, Help: "print this", Local: true}}
}

const aboutGenerate = `Without --ckpt-dir the built-in demo model runs, which knows coloured shapes and what they do:

    wanrun --image in.jpg --prompt "the red ball moves right"

Flags may be written with dashes or underscores. Each can also come from the environment, as
WANRUN_STEPS for --steps, or from a YAML file that --config names; a flag goes before the
environment, that before the file, that before the checkpoint's model_spec.json, and that before
the task's official default. --explain prints what was settled and why.

Progress and log lines go to standard error, the report to standard output.
`

func commandNamed(name string) command {
	for _, c := range commands() {
		if c.name == name {
			return c
		}
	}
	panic("no command " + name)
}

// findCommand splits the command line. Without a command it is generate.
func findCommand(args []string) (command, []string, error) {
	all := commands()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		if len(args) == 1 && args[0] == "--version" {
			args = []string{"version"}
		} else {
			return all[0], args, nil
		}
	}
	var names []string
	for _, c := range all {
		if c.name == args[0] {
			return c, args[1:], nil
		}
		names = append(names, c.name)
	}
	hint := settings.Suggest("%s", args[0], names)
	if hint == "" {
		hint = "; one of " + strings.Join(names, ", ")
	}
	return command{}, nil, ends.Errorf(ends.Usage, "unknown command %q%s", args[0], hint)
}

// parse reads the flags of a small command, which has the number of positional arguments
// given. wantsHelp means that help was printed, and nothing else is to be done.
func (w world) parse(name string, args []string, positional int) (parsed settings.Args, wantsHelp bool, err error) {
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		if parsed, err = settings.ParseArgs(c.flags(), args); err != nil {
			return parsed, false, err
		}
		if _, ok := parsed.Given["help"]; ok {
			fmt.Fprint(w.stdout, helpOf(c))
			return parsed, true, nil
		}
		if len(parsed.Positional) > positional || (len(parsed.Positional) < positional && name != "help") {
			return parsed, false, ends.Errorf(ends.Usage, "usage: wanrun %s %s", c.name, c.args)
		}
		return parsed, false, nil
	}
	panic("no command " + name)
}

func help(w world, args []string) error {
	parsed, done, err := w.parse("help", args, 1)
	if err != nil || done {
		return err
	}
	if len(parsed.Positional) == 0 {
		fmt.Fprint(w.stdout, overview()+"\n"+helpOf(commands()[0]))
		return nil
	}
	if parsed.Positional[0] == "exit-codes" {
		fmt.Fprint(w.stdout, exitCodes())
		return nil
	}
	c, _, err := findCommand(parsed.Positional)
	if err == nil {
		fmt.Fprint(w.stdout, helpOf(c))
	}
	return err
}

func overview() string {
	var b strings.Builder
	b.WriteString("wanrun makes videos with Wan2.1 checkpoints.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  wanrun %-46s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	return b.String()
}

func helpOf(c command) string {
	text := fmt.Sprintf("usage: wanrun %s\n\n%s.\n", strings.TrimSpace(c.name+" "+c.args), strings.ToUpper(c.help[:1])+c.help[1:])
	if c.about != "" {
		text += "\n" + c.about
	}
	return text + settings.HelpText(c.flags())
}

func printVersion(w world, args []string) error {
	_, done, err := w.parse("version", args, 0)
	if err == nil && !done {
		fmt.Fprintf(w.stdout, "wanrun %s (%s, %s/%s)\n", version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	}
	return err
}
