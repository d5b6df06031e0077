package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Tools are debuggers of this machine that print a process's stacks.
type Tools struct {
	// pySpy and native are their files, "" for those that are not there.
	pySpy, native string
	turns         chan struct{} // so many run at once
}

// FindTools looks for py-spy, and for gdb, eu-stack or gstack, by look, which is
// exec.LookPath. At most atOnce of them run at the same time.
func FindTools(look func(name string) (string, error), atOnce int) *Tools {
	t := &Tools{turns: make(chan struct{}, max(atOnce, 1))}
	if file, err := look("py-spy"); err == nil {
		t.pySpy = file
	}
	for _, name := range []string{"gdb", "eu-stack", "gstack"} {
		if file, err := look(name); err == nil {
			t.native = file
			break
		}
	}
	return t
}

const (
	maxDebugged = 4       // processes of a rank that a debugger looks at
	maxPrinted  = 2 << 20 // bytes of a debugger's output
	letGo       = 200 * time.Millisecond
)

// write writes what the debuggers say of the processes of a rank. Having none, or no time
// for one, is no error: it is written down instead.
func (t *Tools) write(ctx context.Context, w io.Writer, tree []process) error {
	if t.pySpy == "" && t.native == "" {
		return write(w, []byte("no debugger is installed (py-spy, gdb, eu-stack, gstack): program stacks are missing\n"))
	}
	for _, p := range tree[:min(len(tree), maxDebugged)] {
		command := t.command(p)
		if command == nil || p.state == "Z" {
			continue
		}
		fmt.Fprintf(w, "%s\n", strings.Join(command, " "))
		if !t.turn(ctx) {
			fmt.Fprintf(w, "not started: %v\n", ctx.Err())
			return nil
		}
		said, err := runTool(ctx, command)
		<-t.turns
		w.Write(said)
		if err != nil {
			fmt.Fprintf(w, "\nnot complete: %v\n", err)
			p.goOn()
		}
		fmt.Fprintln(w)
	}
	return nil
}

// turn waits until a debugger may run, and returns false if ctx has ended before.
func (t *Tools) turn(ctx context.Context) bool {
	select {
	case t.turns <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if ctx.Err() != nil { // both had come
		<-t.turns
		return false
	}
	return true
}

// goOn lets a process go on that a debugger has stopped and could not let go of: what
// attaches stops it by a SIGSTOP, which may still be on its way when the debugger has ended.
// A process that was stopped before stays so.
func (p process) goOn() {
	now, err := readProcess(os.DirFS("/"), p.pid)
	if err != nil || now.start != p.start || p.state == "T" || p.state == "t" {
		return
	}
	// It takes back a SIGSTOP that has not come yet, too. An error: the process has ended.
	_ = syscall.Kill(p.pid, syscall.SIGCONT)
}

// command returns how to look at a process, nil for not at all.
func (t *Tools) command(p process) []string {
	pid := strconv.Itoa(p.pid)
	switch {
	case t.pySpy != "" && strings.HasPrefix(p.name, "python"):
		// Without stopping it: what a hung program calls does not change meanwhile.
		return []string{t.pySpy, "dump", "--nonblocking", "--pid", pid}
	case t.native == "":
		return nil
	case path.Base(t.native) == "gdb":
		// No file of the user's or of the program's own is run, nothing is downloaded.
		return []string{t.native, "-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off",
			"-iex", "set pagination off", "-p", pid, "-ex", "thread apply all backtrace 64"}
	case path.Base(t.native) == "eu-stack":
		return []string{t.native, "-n", "64", "-p", pid}
	}
	return []string{t.native, pid}
}

// runTool runs a debugger. At the end of ctx it is asked to let go of the process first:
// gdb detaches on SIGTERM.
func runTool(ctx context.Context, command []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	out := &bounded{most: maxPrinted}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = letGo
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s took too long: %w", path.Base(command[0]), ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w", path.Base(command[0]), err)
	}
	return out.kept.Bytes(), err
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	kept bytes.Buffer // not embedded: its ReadFrom would go around Write
	most int
}

// Write never fails, so that the writer goes on.
func (b *bounded) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), b.most-b.kept.Len())])
	return len(p), nil
}
