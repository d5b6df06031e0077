// Command wanrun makes videos with Wan2.1 checkpoints: it settles what is asked for,
// starts the worker, shows its progress and says how the run ended.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/settings"
)

func main() {
	guard.Main() // does not return where this process is to be the guard
	// A reader of our output that goes away must not end the run. Ignoring the signal would
	// make the ranks ignore it, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	exe, err := os.Executable()
	if err != nil {
		exe = os.Args[0]
	}
	w := world{
		args: os.Args[1:], env: os.Environ(), exe: exe, tempDir: os.TempDir(),
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		terminal:    term.IsTerminal(int(os.Stderr.Fd())) && os.Getenv("TERM") != "dumb",
		outTerminal: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb",
		width:       terminalWidth, now: time.Now, random: randomSeed, signals: stopSignals,
		processors: runtime.GOMAXPROCS(0), // those of the affinity mask, or of the control group's quota
	}
	os.Exit(int(w.run()))
}

// world is all that the program gets from outside.
type world struct {
	args, env      []string
	exe, tempDir   string
	terminationLog string // Kubernetes'; "" for the usual
	stdin          io.Reader
	stdout, stderr io.Writer
	terminal       bool // stderr is one that can draw
	outTerminal    bool // stdout is
	width          func() int
	processors     int // for all ranks together
	now            func() time.Time
	random         func() int64
	signals        func() (<-chan os.Signal, func())
}

// run does what the command line says and returns the exit code.
func (w world) run() ends.Code {
	c, args, err := findCommand(w.args)
	if err == nil {
		err = c.run(w, args)
	}
	var told *toldError
	if err != nil && !errors.As(err, &told) {
		fmt.Fprintln(w.stderr, "wanrun:", settings.Escape(err.Error()))
	}
	return ends.CodeOf(err)
}

// toldError is one that the user has been told already.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

// stopSignals subscribes to the signals that stop a run or go to its ranks. Those that the caller of
// this program ignores, as nohup does, stay ignored.
func stopSignals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 4)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	return c, func() { signal.Stop(c) }
}

func terminalWidth() int {
	const usual = 80
	width, _, err := term.GetSize(int(os.Stderr.Fd()))
	if err != nil || width <= 0 {
		return usual
	}
	return width
}

// randomSeed draws from 0 to 2^63-1, as the official code does.
func randomSeed() int64 {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail
	}
	return int64(binary.LittleEndian.Uint64(b[:]) >> 1)
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%q has more than %d bytes", path, limit)
	}
	return data, nil
}
