package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wanrun/wanrun/internal/agents"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/settings"
)

// remotes are the other nodes' launchers, which --hosts starts.
type remotes struct {
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// startRemotes starts this very command on the other hosts. Each gets the secret on its
// standard input, where no list of processes shows it.
func (j *job) startRemotes(secret []byte, say func(string)) (*remotes, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, ends.As(ends.CannotStart, err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, ends.As(ends.CannotStart, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &remotes{cancel: cancel}
	for i, host := range j.launch.Hosts[1:] {
		number := i + 1
		env := []string{"WANRUN_NNODES=" + fmt.Sprint(len(j.launch.Hosts)), "WANRUN_NODE_RANK=" + fmt.Sprint(number),
			"WANRUN_RDZV=" + j.launch.Where.Rendezvous.String(), "WANRUN_JOB_ID=" + j.id}
		if slots := j.launch.Hosts[0].Slots; slots > 0 {
			env = append(env, "WANRUN_NPROC="+fmt.Sprint(slots))
		}
		script := "IFS= read -r WANRUN_SECRET; export WANRUN_SECRET; cd " + quote(dir) + " && exec env " + quoteAll(env) + " " +
			quote(exe) + " " + quoteAll(withoutHosts(j.w.args))
		args := append(slices.Clone(j.launch.SSH[1:]), host.Name, script)
		cmd := exec.CommandContext(ctx, j.launch.SSH[0], args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 5 * time.Second
		cmd.Stdin = strings.NewReader(string(secret) + "\n")
		output, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			r.close()
			return nil, ends.Errorf(ends.CannotStart, "start node %d by %s: %w", number, j.launch.SSH[0], err)
		}
		r.all.Go(func() {
			lines := bufio.NewScanner(output)
			for lines.Scan() {
				say(fmt.Sprintf("node %d (%s): %s", number, host.Name, settings.Shorten(lines.Text(), 1000)))
			}
			_, _ = io.Copy(io.Discard, output) // a line that is too long
			_ = cmd.Wait()                     // how the node ended is known from its agent
		})
	}
	return r, nil
}

// leavingTime is how long the other nodes' launchers have to leave by themselves.
const leavingTime = 5 * time.Second

func (r *remotes) close() {
	timer := time.AfterFunc(leavingTime, r.cancel)
	r.all.Wait()
	timer.Stop()
	r.cancel()
}

// withoutHosts is a command line without the flags that start other nodes.
func withoutHosts(args []string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			return append(kept, args[i:]...)
		}
		name, _, joined := strings.Cut(args[i], "=")
		if name == "--hosts" || name == "--ssh" {
			if !joined {
				i++
			}
			continue
		}
		kept = append(kept, args[i])
	}
	return kept
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func quoteAll(list []string) string {
	var quoted []string
	for _, s := range list {
		quoted = append(quoted, quote(s))
	}
	return strings.Join(quoted, " ")
}

// newSecret is the job's when nobody gave one.
func newSecret() ([]byte, error) {
	secret, err := agents.NewSecret()
	return secret, ends.As(ends.CannotStart, err)
}

// terminationLog is where Kubernetes looks for a pod's last words.
const terminationLog = "/dev/termination-log"

// lastWords tells Kubernetes why the job failed.
func (j *job) lastWords(text string) {
	if !slices.ContainsFunc(j.w.env, func(pair string) bool { return strings.HasPrefix(pair, "KUBERNETES_SERVICE_HOST=") }) {
		return
	}
	const most = 4096 // bytes that Kubernetes keeps
	path := j.w.terminationLog
	if path == "" {
		path = terminationLog
	}
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return // this pod has none
	}
	defer f.Close()
	_, _ = f.WriteString(text[:min(len(text), most)]) // the report has it, too
}

// relay lets a rank read a terminal: being in a process group of its own it would be
// stopped, so that this process reads for it.
func relay(terminal *os.File) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() { // ends with the input, or with this process
		_, _ = io.Copy(w, terminal)
		w.Close()
	}()
	return r, nil
}
