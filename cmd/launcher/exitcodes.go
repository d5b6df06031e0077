package main

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
)

// exits is the table of exit codes, for the help and the documents.
var exits = []struct {
	code    ends.Code
	meaning string
}{
	{ends.Done, "the output is there"},
	{ends.Usage, "a flag or a value is wrong; the line names the nearest that is right"},
	{ends.BadInput, "a picture, a prompt or a checkpoint cannot be used"},
	{ends.Refused, "the plan says that it does not fit"},
	{ends.PeerLost, "a worker's connection broke, or a rank lost another"},
	{ends.Bug, "a fault of ours: please report it"},
	{ends.CannotStart, "a worker or its socket could not be made, or they are of different builds"},
	{ends.OutputLost, "an output cannot be written, or exists"},
	{ends.Retry, "start again later"},
	{ends.DeviceMemory, "the device has too little memory"},
	{ends.HostMemory, "the host has too little memory; also if the kernel killed a worker for it"},
	{ends.DeviceFailure, "the device failed"},
	{ends.Hang, "a worker did not end when it should"},
	{ends.NotExecutable, "the worker's program cannot be run"},
	{ends.NotFound, "the worker's program is not there"},
	{ends.Interrupted, "stopped by Ctrl-C; in general 128 + n for signal n, the user's or the one that ended the first worker that failed"},
	{ends.Terminated, "stopped by SIGTERM"},
}

// exitCodes is `wanrun help exit-codes`.
func exitCodes() string {
	var b strings.Builder
	b.WriteString("Exit codes. Any program's are its own: that of the first rank that failed.\n\n")
	for _, e := range exits {
		fmt.Fprintf(&b, "%5d  %-22s %s\n", int(e.code), e.code, e.meaning)
	}
	return b.String()
}
