package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/watch"
)

// dump writes where every rank is.
func (a *Agent) dump(at *attempt) {
	folder := a.StackDir
	if a.Files != nil {
		folder = filepath.Join(a.Files.Folder(), fmt.Sprintf("attempt_%d", at.start.Attempt))
	}
	e := group.Event{At: a.Now(), Kind: group.Dumped, Node: a.Node, Attempt: at.start.Attempt}
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs // who asks may be elsewhere
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		e.Text = err.Error()
		a.sink.Event(e)
		return
	}
	var targets []watch.Target
	for _, r := range at.ranks {
		r.mu.Lock()
		if r.process != nil && !r.ended {
			targets = append(targets, watch.Target{Attempt: at.start.Attempt, Rank: r.Rank, Pid: r.process.Pid(), Ours: a.Build != ""})
		}
		r.mu.Unlock()
	}
	o := watch.StackOptions{Root: a.Root, Folder: folder, Tools: watch.FindTools(exec.LookPath, runtime.NumCPU())}
	if at.server != nil {
		o.Ask = func(ctx context.Context, t watch.Target, file string) error {
			return at.server.Dump(t.Rank, file)
		}
	}
	stacks := watch.Stacks(context.Background(), o, targets)
	for _, s := range stacks {
		if s.Err != nil {
			a.Say(fmt.Sprintf("stacks of rank %d: %v", s.Rank, s.Err))
		}
	}
	e.At, e.Text = a.Now(), folder
	a.sink.Event(e)
}
