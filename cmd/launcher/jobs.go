package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/jobs"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/settings"
)

const (
	aboutPs     = "Lists the jobs of this user on this machine: those whose launcher, of node 0, runs here.\n"
	aboutLogs   = "Prints the last lines of each rank of a running job, and with -f all that follow. JOB may be left out if\nthere is one job, or be the beginning of its name.\n"
	aboutStop   = "Asks a job to end, as one SIGTERM to its launcher does.\n"
	aboutStacks = "Writes where all ranks of a job are, in the kernel and, with a debugger installed, in the program, and prints\nthe folder.\n"
	aboutReport = "Prints the report that a job left in its log folder (--log-dir DIR/JOB), or another report's file.\n"
	aboutClean  = "Lists what this user's dead jobs have left on this machine: processes, temporary folders, sockets. --yes\nremoves it. Jobs that run are left alone.\n"
)

func jobFlags(more ...settings.Flag) func() []settings.Flag {
	return func() []settings.Flag { return append(more[:len(more):len(more)], helpFlags()...) }
}

var (
	jsonFlag   = settings.Flag{Name: "json", Kind: settings.Switch, Help: "as JSON", Local: true}
	followFlag = settings.Flag{Name: "follow", Letter: "f", Kind: settings.Switch, Help: "go on until the job ends", Local: true}
	ranksFlag  = settings.Flag{Name: "rank", Value: "RANKS", Help: "of these ranks alone, as in 0,4-7", Local: true}
	yesFlag    = settings.Flag{Name: "yes", Kind: settings.Switch, Help: "remove it", Local: true}
	codeFlag   = settings.Flag{Name: "exit-code", Kind: settings.Switch, Help: "end with the job's exit code, and print nothing", Local: true}
)

// jobArgs parses a command line that names at most one job.
func (w world) jobArgs(name string, args []string) (parsed settings.Args, job string, done bool, err error) {
	c := commandNamed(name)
	if parsed, err = settings.ParseArgs(c.flags(), args); err != nil {
		return parsed, "", false, err
	}
	if _, ok := parsed.Given["help"]; ok {
		fmt.Fprint(w.stdout, helpOf(c))
		return parsed, "", true, nil
	}
	switch len(parsed.Positional) {
	case 0:
		return parsed, "", false, nil
	case 1:
		return parsed, parsed.Positional[0], false, nil
	default:
		return parsed, "", false, ends.Errorf(ends.Usage, "usage: wanrun %s %s", c.name, c.args)
	}
}

func ps(w world, args []string) error {
	parsed, _, done, err := w.jobArgs("ps", args)
	if err != nil || done {
		return err
	}
	entries, err := jobs.List(context.Background(), w.jobsFolder())
	if err != nil {
		return ends.As(ends.CannotStart, err)
	}
	if asJSON, _ := parsed.Switch("json"); asJSON {
		return w.printJSON(entries)
	}
	t := tabwriter.NewWriter(w.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JOB\tSTATE\tRANKS\tNODES\tATTEMPT\tAGE\tPID\tCOMMAND")
	for _, e := range entries {
		s := e.Status
		if s == nil {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\t\t\n", settings.Escape(e.ID), settings.Shorten(fmt.Sprint(e.Err), 60))
			continue
		}
		up, _ := s.Up()
		joined := 0
		for _, n := range s.Nodes {
			if n.Joined {
				joined++
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%d/%d\t%d/%d\t%d\t%s\t%d\t%s\n", settings.Escape(e.ID), s.State, up, s.World, joined, len(s.Nodes), s.Attempt,
			s.Now.Sub(s.Started).Round(time.Second), s.Pid, settings.Shorten(strings.Join(s.Command, " "), 60))
	}
	return t.Flush()
}

func (w world) printJSON(v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(w.stdout, "%s\n", data)
	return nil
}

// withJob calls do with a client of the job.
func (w world) withJob(id string, do func(context.Context, *jobs.Client) error) error {
	c, err := jobs.Open(w.jobsFolder(), id)
	if err != nil {
		return ends.As(ends.Usage, err)
	}
	defer c.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return ends.As(ends.PeerLost, do(ctx, c))
}

func logs(w world, args []string) error {
	parsed, id, done, err := w.jobArgs("logs", args)
	if err != nil || done {
		return err
	}
	follow, _ := parsed.Switch("follow")
	show, err := output.ParseShow("all", 0)
	if g, ok := parsed.Given["rank"]; ok {
		show, err = output.ParseShow(g.Text, 0)
	}
	if err != nil {
		return ends.As(ends.Usage, err)
	}
	return w.withJob(id, func(ctx context.Context, c *jobs.Client) error {
		dropped, err := c.Log(ctx, follow, func(l node.Line) error {
			if !show.Shows(l.Rank, l.Stream) {
				return nil
			}
			_, err := fmt.Fprintf(w.stdout, "[r%d] %s\n", l.Rank, settings.Escape(l.Text))
			return err
		})
		if dropped > 0 {
			fmt.Fprintf(w.stderr, "wanrun: %d lines came too fast to be shown\n", dropped)
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, syscall.EPIPE) {
			return nil
		}
		return err
	})
}

func stop(w world, args []string) error {
	_, id, done, err := w.jobArgs("stop", args)
	if err != nil || done {
		return err
	}
	return w.withJob(id, func(ctx context.Context, c *jobs.Client) error {
		if err := c.Stop(ctx, fmt.Sprintf("wanrun stop, process %d", os.Getpid())); err != nil {
			return err
		}
		fmt.Fprintf(w.stdout, "job %s was asked to end\n", settings.Escape(c.ID))
		return nil
	})
}

func stacks(w world, args []string) error {
	_, id, done, err := w.jobArgs("stacks", args)
	if err != nil || done {
		return err
	}
	return w.withJob(id, func(ctx context.Context, c *jobs.Client) error {
		folder, err := c.Stacks(ctx)
		if err == nil {
			fmt.Fprintln(w.stdout, settings.Escape(folder))
		}
		return err
	})
}

// report prints what a job left.
func report(w world, args []string) error {
	parsed, path, done, err := w.jobArgs("report", args)
	if err != nil || done {
		return err
	}
	if path == "" {
		return ends.Errorf(ends.Usage, "usage: wanrun report %s", commandNamed("report").args)
	}
	file, err := launch.ReadReport(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ends.Errorf(ends.BadInput, "%q is neither a report nor a job's log folder", path)
	}
	if err != nil {
		return ends.As(ends.BadInput, err)
	}
	if only, _ := parsed.Switch("exit-code"); only {
		return &toldError{ends.Errorf(ends.Code(file.Exit.Code), "%s", file.Exit.Error)}
	}
	if asJSON, _ := parsed.Switch("json"); asJSON {
		return w.printJSON(file)
	}
	fmt.Fprint(w.stdout, file.Text())
	return nil
}

func cleanUp(w world, args []string) error {
	parsed, _, done, err := w.jobArgs("clean", args)
	if err != nil || done {
		return err
	}
	found, kept, err := jobs.Find(w.jobsFolder(), w.tempDir)
	if err != nil {
		return ends.As(ends.CannotStart, err)
	}
	remove, _ := parsed.Switch("yes")
	if asJSON, _ := parsed.Switch("json"); asJSON && !remove {
		return w.printJSON(found)
	}
	for _, k := range kept {
		fmt.Fprintf(w.stdout, "stays: %s: %s\n", settings.Escape(k.Path), settings.Escape(k.Why))
	}
	if len(found) == 0 {
		fmt.Fprintln(w.stdout, "nothing is left of dead jobs")
		return nil
	}
	for _, l := range found {
		if !remove {
			fmt.Fprintln(w.stdout, settings.Escape(l.Text))
			continue
		}
		if removeErr := l.Remove(context.Background()); removeErr != nil {
			err = errors.Join(err, removeErr)
			fmt.Fprintf(w.stderr, "wanrun: %s\n", settings.Escape(removeErr.Error()))
			continue
		}
		fmt.Fprintf(w.stdout, "removed: %s\n", settings.Escape(l.Text))
	}
	if !remove {
		fmt.Fprintln(w.stdout, "wanrun clean --yes removes it")
	}
	if err != nil {
		return &toldError{ends.As(ends.CannotStart, err)}
	}
	return nil
}
