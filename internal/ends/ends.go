// Package ends is the taxonomy of how a run ends: one class, one exit code and
// one word each, the same in every process, report and document.
package ends

import (
	"context"
	"errors"
	"fmt"
)

// Code is an exit code of wanrun and wanworker.
type Code int

// The classes of ends.
const (
	Done          Code = 0
	Usage         Code = 64 // wrong flag or value
	BadInput      Code = 65 // picture, prompt or checkpoint that cannot be used
	Refused       Code = 66 // the plan says that it does not fit
	PeerLost      Code = 69 // a node or rank went away
	Bug           Code = 70 // a broken invariant of ours
	CannotStart   Code = 71 // worker, socket or thread could not be made
	OutputLost    Code = 73 // the output cannot be written
	Retry         Code = 75 // drained, or no rendezvous: start again later
	DeviceMemory  Code = 76
	HostMemory    Code = 77
	DeviceFailure Code = 78
	Hang          Code = 124 // no progress, or the time limit
	NotExecutable Code = 126
	NotFound      Code = 127
	Interrupted   Code = 130 // SIGINT; 128 + n for signal n in general
	Terminated    Code = 143 // SIGTERM
)

var names = map[Code]string{
	Done: "done", Usage: "usage", BadInput: "bad_input", Refused: "refused_by_plan", PeerLost: "peer_lost", Bug: "bug",
	CannotStart: "cannot_start", OutputLost: "output_lost", Retry: "retry_later", DeviceMemory: "device_out_of_memory",
	HostMemory: "host_out_of_memory", DeviceFailure: "device_failure", Hang: "hang_or_time_limit",
	NotExecutable: "not_executable", NotFound: "not_found", Interrupted: "interrupted", Terminated: "terminated",
}

// String returns the class's name in reports.
func (c Code) String() string {
	if name, ok := names[c]; ok {
		return name
	}
	if c > 128 && c < 128+65 {
		return fmt.Sprintf("signal_%d", int(c)-128)
	}
	return fmt.Sprintf("exit_%d", int(c))
}

type classified struct {
	code Code
	err  error
}

func (e *classified) Error() string { return e.err.Error() }
func (e *classified) Unwrap() error { return e.err }

// As gives err the class code; an error that has a class already keeps it. It
// returns nil for nil.
func As(code Code, err error) error {
	var c *classified
	if err == nil || errors.As(err, &c) {
		return err
	}
	return &classified{code, err}
}

// Errorf returns a new error of class code.
func Errorf(code Code, format string, args ...any) error {
	return As(code, fmt.Errorf(format, args...))
}

// CodeOf returns the class of err: Done for nil, Interrupted for a plain
// cancellation, Bug for an error that nobody classified.
func CodeOf(err error) Code {
	var c *classified
	switch {
	case err == nil:
		return Done
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return Hang
	default:
		return Bug
	}
}
