package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// StackOptions say how stacks are taken.
type StackOptions struct {
	Root   fs.FS  // os.DirFS("/")
	Folder string // where the files go; it must be there
	// Limit is how long all of it may take; 0 for 2 seconds.
	Limit time.Duration
	// Ask asks a worker of ours to write its goroutines to a file by Goroutines. It returns
	// when the worker was asked, or has written; nil if there is no way to ask.
	Ask func(ctx context.Context, t Target, file string) error
	// Tools are debuggers to use on other programs; nil for none.
	Tools *Tools
}

// Stack is what was written about one rank.
type Stack struct {
	Target
	Files   []string // of the folder; the first has what the kernel says
	Summary string   // of the rank's process: "state T (stopped), wchan do_signal_stop"
	Err     error    // why something is missing, nil if nothing is
}

const (
	stackLimit   = 2 * time.Second
	maxProcesses = 64      // of a rank whose threads are written
	maxThreads   = 1024    // of a process
	maxStack     = 8 << 20 // bytes of a rank's file
)

// Stacks writes for each rank where it is: DIR/rank_003.stacks for each thread of its
// processes what the kernel says and, by a debugger that is installed, what the program
// calls; for a worker of ours its goroutines to DIR/rank_003.goroutines. A rank that does
// not answer, because it is stopped, holds up no other.
//
// It changes nothing in the processes, but a debugger stops one for as long as it reads. One
// that has to be ended before it is through is followed by a SIGCONT to a process that was
// not stopped before.
func Stacks(ctx context.Context, o StackOptions, targets []Target) []Stack {
	if o.Limit <= 0 {
		o.Limit = stackLimit
	}
	ctx, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	// A debugger that is ended needs time to let go of the process.
	tools, cancel := context.WithTimeout(ctx, max(o.Limit-2*letGo, o.Limit/2))
	defer cancel()
	results := make([]Stack, len(targets))
	all, err := readProcesses(o.Root, nil)
	if err != nil {
		for i, t := range targets {
			results[i] = Stack{Target: t, Err: fmt.Errorf("read the processes of rank %d: %w", t.Rank, err)}
		}
		return results
	}
	pids := make([]int, len(targets))
	for i, t := range targets {
		pids[i] = t.Pid
	}
	found := trees(all, pids)
	var group sync.WaitGroup
	for i, t := range targets {
		group.Go(func() { results[i] = o.stack(ctx, tools, t, found[t.Pid]) })
	}
	group.Wait()
	return results
}

// stack writes one rank's files: what the kernel says at once, what takes time after it.
// Debuggers end with the context tools, which ends before ctx.
func (o StackOptions) stack(ctx, tools context.Context, t Target, tree []process) Stack {
	s := Stack{Target: t}
	if len(tree) == 0 {
		s.Err = fmt.Errorf("rank %d (pid %d) has ended", t.Rank, t.Pid)
		return s
	}
	s.Summary = describe(tree[0].state, readWchan(o.Root, procFolder(t.Pid)))
	slices.SortFunc(tree[1:], func(a, b process) int { return a.pid - b.pid })
	name := filepath.Join(o.Folder, fmt.Sprintf("rank_%03d", t.Rank))
	f, err := os.OpenFile(name+".stacks", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		s.Err = fmt.Errorf("write the stacks of rank %d: %w", t.Rank, err)
		return s
	}
	s.Files = append(s.Files, f.Name())
	var out bytes.Buffer
	for _, p := range tree[:min(len(tree), maxProcesses)] {
		writeProcess(&out, o.Root, p)
	}
	if len(tree) > maxProcesses {
		fmt.Fprintf(&out, "\n%d more processes are not written\n", len(tree)-maxProcesses)
	}
	errs := []error{write(f, out.Bytes())}
	switch {
	case t.Ours && o.Ask != nil:
		file := name + ".goroutines"
		if err := o.ask(ctx, t, file); err != nil {
			errs = append(errs, err)
		} else {
			s.Files = append(s.Files, file)
		}
	case !t.Ours && o.Tools != nil:
		out.Reset()
		errs = append(errs, o.Tools.write(tools, &out, tree), write(f, out.Bytes()))
	}
	s.Err = errors.Join(append(errs, f.Close())...)
	return s
}

func write(w io.Writer, data []byte) error {
	_, err := w.Write(data[:min(len(data), maxStack)])
	return err
}

// ask asks a worker, and waits until its file is there.
func (o StackOptions) ask(ctx context.Context, t Target, file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("goroutines of rank %d: %w", t.Rank, err)
	}
	if err := o.Ask(ctx, t, file); err != nil {
		return fmt.Errorf("ask rank %d for its goroutines: %w", t.Rank, err)
	}
	const look = 10 * time.Millisecond
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("rank %d (pid %d) was asked for its goroutines and did not write them: %w", t.Rank, t.Pid, ctx.Err())
		case <-ticker.C:
		}
	}
}

// writeProcess writes what the kernel says of a process and each of its threads.
func writeProcess(w io.Writer, root fs.FS, p process) {
	folder := procFolder(p.pid)
	command, _ := read(root, folder+"/cmdline")
	fmt.Fprintf(w, "process %d, parent %d: %s\n  %s\n", p.pid, p.parent,
		printable(strings.ReplaceAll(command, "\x00", " "), 512), describe(p.state, readWchan(root, folder)))
	memory := readStatus(root, p.pid)
	fmt.Fprintf(w, "  CPU %s, resident %s, at most %s\n", p.own, formatKnown(memory.rss), formatKnown(memory.peak))
	entries, err := fs.ReadDir(root, folder+"/task")
	if err != nil {
		fmt.Fprintf(w, "  threads: %v\n", err)
		return
	}
	for i, entry := range entries {
		if i == maxThreads {
			fmt.Fprintf(w, "  %d more threads are not written\n", len(entries)-maxThreads)
			break
		}
		writeThread(w, root, folder+"/task/"+entry.Name(), entry.Name())
	}
	fmt.Fprintln(w)
}

func writeThread(w io.Writer, root fs.FS, folder, tid string) {
	line, err := read(root, folder+"/stat")
	if err != nil {
		return // it has ended
	}
	t, err := parseStat(line)
	if err != nil {
		fmt.Fprintf(w, "  thread %s: %v\n", tid, err)
		return
	}
	fmt.Fprintf(w, "  thread %s %s: %s, CPU %s", tid, printable(t.name, 32), describe(t.state, readWchan(root, folder)), t.own)
	if call, err := read(root, folder+"/syscall"); err == nil {
		fmt.Fprintf(w, ", system call %s", describeCall(call))
	}
	fmt.Fprintln(w)
	if stack, err := read(root, folder+"/stack"); err == nil { // root's alone
		for frame := range strings.Lines(stack) {
			fmt.Fprintf(w, "    %s\n", printable(strings.TrimPrefix(frame, "[<0>] "), 128))
		}
	}
}

// describeCall shortens "NUMBER ARGUMENTS… SP PC", or "running", or "-1 SP PC".
func describeCall(s string) string {
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return "unknown"
	}
	number, err := strconv.Atoi(fields[0])
	switch {
	case err != nil:
		return printable(fields[0], 32)
	case number < 0:
		return "none"
	}
	const first = 2
	return fmt.Sprintf("%d(%s, …)", number, printable(strings.Join(fields[1:min(len(fields), 1+first)], ", "), 64))
}

func formatKnown(n int64) string {
	if n == Unknown {
		return "unknown"
	}
	return formatBytes(n)
}
