package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/jobs"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/timeline"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// watched lets others see the job while it runs: over its socket, by metrics, and as a
// trace. It is the launch.Watcher, and the jobs.Job.
type watched struct {
	board    *jobs.Board
	trace    *jobs.Trace        // nil: none is wanted
	socket   *jobs.Registration // nil: there is none
	metrics  *jobs.MetricsServer
	requests chan launch.Request
	now      func() time.Time
	over     chan struct{}
	names    *names // of the nodes
	memory   *timeline.Recorder
	ours     bool // the ranks say themselves what they take
}

// jobsFolder is where this user's jobs register.
func (w world) jobsFolder() string {
	runtime, _ := environ.List(w.env)("XDG_RUNTIME_DIR")
	return jobs.Folder(runtime, w.tempDir, os.Getuid())
}

// watch makes the job visible. Without a socket it runs all the same, but say hears why.
func (j *job) watch(say func(string)) (*watched, error) {
	_, count := j.index()
	names := make([]string, count)
	if j.launch.Where.Mode == placement.Agent {
		copy(names, j.launch.Where.Hosts)
	}
	command := append([]string{"wanrun"}, j.w.args...)
	for i := range command {
		command[i] = j.redact.Redact(command[i])
	}
	logs := ""
	if j.launch.LogDir != "" {
		if dir, err := filepath.Abs(filepath.Join(j.launch.LogDir, j.id)); err == nil {
			logs = dir
		}
	}
	v := &watched{now: j.w.now, requests: make(chan launch.Request), over: make(chan struct{}), names: &j.names, ours: j.ours != nil,
		board: jobs.NewBoard(jobs.Info{ID: j.id, Pid: os.Getpid(), Started: j.w.now(), MaxRestarts: j.launch.MaxRestarts, Nodes: names,
			Command: command, LogDir: logs, Ours: j.ours != nil, Now: j.w.now})}
	var err error
	if v.memory, err = j.recorder(say); err != nil {
		return nil, err
	}
	if j.launch.Trace != "" {
		v.trace = jobs.NewTrace(j.w.now())
	}
	if j.launch.Metrics != "" {
		if v.metrics, err = jobs.ServeMetrics(j.launch.Metrics, jobs.Metrics(v.board.Status)); err != nil {
			return nil, ends.As(ends.CannotStart, err)
		}
	}
	if v.socket, err = jobs.Register(j.w.jobsFolder(), j.id, v); err != nil {
		if errors.Is(err, jobs.ErrRunning) {
			v.close()
			return nil, ends.Errorf(ends.Usage, "job %s: %w; choose another --job-id", j.id, err)
		}
		say(fmt.Sprintf("wanrun ps and stop will not find this job: %v", err))
	}
	return v, nil
}

// close hides the job, and writes the trace.
func (v *watched) close() error {
	close(v.over)
	if v.metrics != nil {
		v.metrics.Close()
	}
	if v.socket != nil {
		return v.socket.Close()
	}
	return nil
}

// writeTrace writes the trace of the launch to a file.
func (v *watched) writeTrace(path string) error {
	if v.trace == nil {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return ends.As(ends.OutputLost, err)
	}
	_, err = v.trace.WriteTo(f)
	return ends.As(ends.OutputLost, errors.Join(err, f.Close()))
}

// Event takes what happened.
func (v *watched) Event(e group.Event) {
	if e.Kind == group.Join {
		v.names.set(e.Node, e.Name)
	}
	v.board.Event(e)
	if v.trace != nil {
		v.trace.Event(e)
	}
}

// Action takes what was decided.
func (v *watched) Action(at time.Time, a group.Action) {
	v.board.Action(at, a)
	if v.trace != nil {
		v.trace.Action(at, a)
	}
}

// Progress takes how far a worker of ours is.
func (v *watched) Progress(at time.Time, attempt, rank int, p *wanrunv1.Progress) {
	v.board.Progress(at, attempt, rank, p)
	v.memory.Progress(at, attempt, rank, p)
	if v.trace != nil {
		v.trace.Progress(at, attempt, rank, p)
	}
}

// Line takes what a rank printed.
func (v *watched) Line(l node.Line) {
	v.board.Line(l)
	if v.socket != nil {
		v.socket.Log(l)
	}
}

// Sample takes what was seen of a rank.
func (v *watched) Sample(s node.Sample) {
	v.board.Sample(s)
	if !v.ours {
		v.memory.Sample(s)
	}
}

// Status is what is known now.
func (v *watched) Status() jobs.Status { return v.board.Status() }

// Stop ends the job as a first SIGTERM does.
func (v *watched) Stop(by string) {
	select {
	case v.requests <- launch.Request{Stop: by}:
	case <-v.over:
	}
}

// Drain lets the ranks save what they have and end.
func (v *watched) Drain(why string) {
	select {
	case v.requests <- launch.Request{Drain: why}:
	case <-v.over:
	}
}

// Stacks writes the stacks of all ranks.
func (v *watched) Stacks(ctx context.Context) (string, error) {
	answer := make(chan group.Event, 1)
	select {
	case v.requests <- launch.Request{Stacks: answer}:
	case <-v.over:
		return "", errors.New("the job has ended")
	case <-ctx.Done():
		return "", ctx.Err()
	}
	select {
	case e, ok := <-answer:
		if !ok {
			return "", errors.New("the job has ended")
		}
		return e.Text, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
