package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/wanrun/wanrun/internal/agents"
	"github.com/wanrun/wanrun/internal/cgroup"
	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/launch"
	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/node/local"
	"github.com/wanrun/wanrun/internal/output"
	"github.com/wanrun/wanrun/internal/placement"
	"github.com/wanrun/wanrun/internal/settings"
	"github.com/wanrun/wanrun/internal/version"
	"github.com/wanrun/wanrun/internal/watch"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// job is what is to be started, the same for workers of ours and for any program.
type job struct {
	w      world
	launch settings.Launch
	values []settings.Value
	look   launch.Look

	ours  *wanrunv1.Job // nil: any program
	path  string
	args  []string // with the program's name
	env   []string
	dir   string
	nproc int
	world int // ranks of all nodes
	id    string

	unable error // why this node cannot run the program; nil: it can

	names    names // of the nodes, as they join
	division placement.Division
	visible  []string // CUDA_VISIBLE_DEVICES by local rank; nil: what the environment says
	redact   *output.Redactor
}

// prepare settles what does not depend on what is started.
func (j *job) prepare() error {
	where := j.launch.Where
	j.id = where.JobID
	if j.id == "" {
		j.id = fmt.Sprintf("wanrun-%s-%d", j.w.now().Format("20060102-150405"), os.Getpid())
	}
	j.redact = output.NewRedactor(j.env)
	var err error
	if j.visible, err = j.visibleGPUs(); err != nil {
		return err
	}
	mask, err := affinity()
	if err != nil {
		return ends.As(ends.CannotStart, err)
	}
	root := os.DirFS("/")
	quota := 0.0
	if groups, err := cgroup.Of(root); err == nil {
		quota, _ = groups.CPU.Quota(root)
	}
	j.division, err = placement.Divide(placement.Request{Topology: placement.ReadTopology(root, mask), NumRanks: j.nproc,
		Policy: placement.Policy(j.launch.Bind), Quota: quota})
	if err != nil {
		return ends.As(ends.Usage, fmt.Errorf("--bind: %w", err))
	}
	return nil
}

// affinity are the CPUs that this process may run on.
func affinity() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("affinity mask: %w", err)
	}
	var cpus []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// index is this agent's number and how many there are.
func (j *job) index() (index, count int) {
	index, count = j.launch.Where.Agent()
	return index, max(count, 1)
}

// console shows what the ranks print.
func (j *job) console(files *output.Files) (*output.Console, error) {
	show, err := output.ParseShow(j.launch.Show, j.world)
	if err != nil {
		return nil, ends.As(ends.Usage, err)
	}
	_, count := j.index()
	template := j.launch.Prefix
	switch {
	case template == "" && count > 1:
		template = output.ManyNodesPrefix
	case template == "":
		template = output.OneNodePrefix
	}
	prefix, err := output.ParsePrefix(template)
	if err != nil {
		return nil, ends.As(ends.Usage, err)
	}
	w := j.w
	look := output.Look{Stdout: output.Screen{W: w.stdout, Terminal: w.outTerminal, Colour: w.outTerminal},
		Stderr: output.Screen{W: w.stderr, Terminal: w.terminal, Colour: w.terminal},
		Size:   j.world, Where: j.whereIs, Show: show, Prefix: prefix, Dedup: j.launch.Dedup, JSON: j.look.Format == "json",
		Now: w.now}
	if j.launch.Redact {
		look.Redact = j.redact
	}
	return output.NewConsole(look), nil
}

// whereIs places a rank: ranks count node by node, as many on each.
func (j *job) whereIs(rank int) output.Where {
	per := max(j.nproc, 1)
	where := output.Where{Node: rank / per, Local: rank % per, Host: fmt.Sprintf("node%d", rank/per)}
	if hosts := j.launch.Where.Hosts; where.Node < len(hosts) && j.launch.Where.Mode == placement.Agent {
		where.Host = hosts[where.Node]
	} else if name := j.names.of(where.Node); name != "" {
		where.Host = name
	}
	return where
}

// name is what people call this node.
func (j *job) name() string {
	if name := j.launch.Where.NodeName; name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// files opens the log folder, if there is to be one.
func (j *job) files() (*output.Files, error) {
	if j.launch.LogDir == "" {
		return nil, nil
	}
	index, _ := j.index()
	files, err := output.OpenFiles(output.FilesConfig{Dir: j.launch.LogDir, Job: j.id, World: j.world, Node: index, Max: j.launch.LogMax,
		Now: j.w.now, Trouble: func(err error) { fmt.Fprintln(j.w.stderr, "wanrun:", settings.Escape(err.Error())) }})
	return files, ends.As(ends.OutputLost, err)
}

// localOptions are this node's agent.
func (j *job) localOptions(files *output.Files, say func(string)) local.Options {
	index, _ := j.index()
	where := j.launch.Where
	o := local.Options{Node: index, Path: j.path, Args: j.args, Dir: j.dir, Env: j.env, RunID: j.id, Files: files,
		TempDir: socketDir(j.w.tempDir), Visible: j.visible,
		StackDir: filepath.Join(j.w.tempDir, "wanrun-stacks-"+j.id), HangTimeout: j.launch.HangTimeout,
		Exe: "/proc/self/exe", Root: os.DirFS("/"), Now: j.w.now, Say: say, Threads: 1}
	if j.ours != nil {
		o.Build = version.Version
		o.Remedy = "try --dit-fsdp, --offload dit=file, fewer ranks, a smaller size, or give it more memory"
	} else if index == 0 {
		o.Stdin, _ = j.w.stdin.(*os.File)
		if o.Stdin != nil && term.IsTerminal(int(o.Stdin.Fd())) {
			if relayed, err := relay(o.Stdin); err == nil {
				o.Stdin = relayed
			}
		}
	}
	if where.Mode == placement.Rank {
		o.LocalRank, o.LocalWorld = where.LocalRank, where.RanksPerNode
	}
	for _, b := range j.division.Ranks {
		if j.division.Policy != placement.BindNone {
			o.CPUs = append(o.CPUs, b.CPUs)
		}
		if b.Node >= 0 && j.division.Policy != placement.BindNone {
			o.Mem = append(o.Mem, []int{b.Node})
		}
		o.Threads = b.Threads
	}
	if len(o.Mem) != len(o.CPUs) {
		o.Mem = nil
	}
	if groups, err := cgroup.Of(o.Root); err == nil {
		if kill := groups.Memory.Kill(o.Root, uint32(os.Geteuid()), fileOwner); kill.Supported && kill.Delegated && kill.Folder != "" {
			o.Guard.CgroupDir = kill.Folder
		}
	}
	if where.Source == placement.FromSlurm {
		lookup := environ.List(j.w.env)
		o.SlurmJob, _ = lookup("SLURM_JOB_ID")
		o.Slurm = runCommand
	}
	return o
}

// runCommand runs a small program of Slurm's and returns what it prints.
func runCommand(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	return cmd.Output()
}

// meeting is how the nodes of the job meet.
func (j *job) meeting(say func(string)) (agents.Options, error) {
	index, count := j.index()
	where := j.launch.Where
	tls, err := agents.ParseTLS(j.launch.TLS)
	if err != nil {
		return agents.Options{}, ends.As(ends.Usage, err)
	}
	secret, err := j.secret()
	if err != nil {
		return agents.Options{}, err
	}
	o := agents.Options{Node: index, Nodes: count, Ranks: j.nproc, Name: j.name(), JobID: where.JobID, Rendezvous: where.Rendezvous,
		Iface: j.launch.Iface, Secret: secret, TLS: tls, Build: version.Version, Flags: j.flags(), JoinTimeout: j.launch.JoinTimeout,
		Now: j.w.now, Say: say}
	if index == 0 {
		o.JobID = j.id
	}
	if j.launch.MaxRestarts > 0 {
		o.Rejoin = j.launch.JoinTimeout
	}
	if j.unable != nil {
		o.Code, o.Text = int(ends.CodeOf(j.unable)), j.unable.Error()
	} else if o.Program, err = digest(j.path); err != nil {
		return o, ends.As(ends.CannotStart, err)
	}
	if where.Source == placement.FromSlurm {
		o.Resolve = slurmAddress
	}
	// A scheduler's nodes have no secret in common but what lies in the user's home, which
	// they share: without one given, they meet by a file there.
	if secret == nil && where.Source == placement.FromSlurm && o.Rendezvous.File == "" && !o.Rendezvous.Loopback() {
		home, ok := environ.List(j.w.env)("HOME")
		if !ok || home == "" {
			return o, ends.Errorf(ends.Usage, "no secret between the nodes: set WANRUN_SECRET or --secret-file, or HOME to a shared folder")
		}
		folder := filepath.Join(home, ".wanrun")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return o, ends.As(ends.CannotStart, fmt.Errorf("folder for the rendezvous: %w", err))
		}
		o.Rendezvous = placement.Rendezvous{File: filepath.Join(folder, where.JobID+".rdzv")}
	}
	return o, nil
}

// secret is what the nodes share; nil: none was given.
func (j *job) secret() ([]byte, error) {
	if j.launch.SecretFile != "" {
		secret, err := agents.ReadSecret(j.launch.SecretFile)
		return secret, ends.As(ends.Usage, err)
	}
	if text, ok := environ.List(j.w.env)("WANRUN_SECRET"); ok && text != "" {
		return bytes.TrimSpace([]byte(text)), nil
	}
	if len(j.launch.Hosts) > 1 {
		return newSecret()
	}
	return nil, nil
}

// flags are those that must be the same on all nodes, as they were given.
func (j *job) flags() map[string]string {
	ofNode := []string{"node-rank", "iface", "secret-file", "metrics", "log-dir", "worker", "config", "trace", "report", "bind", "show", "prefix", "vram-log",
		"hosts", "ssh", "nnodes", "rdzv", "job-id", "placement", "nproc", "report-bindings", "log-format", "verbose", "quiet", "chdir", "env-file", "threads", "seed", "output", "run-dir", "keep-run-dir"}
	flags := map[string]string{}
	for _, v := range j.values {
		if strings.HasPrefix(v.From, "--") && !slices.Contains(ofNode, v.Name) {
			flags["--"+v.Name] = v.Text
		}
	}
	if j.ours == nil {
		flags["arguments"] = strings.Join(j.args, "\x00")
	}
	return flags
}

// digest tells programs apart.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return "", nil // it can be run, but not read
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// rules are what the group does.
func (j *job) rules() group.Config {
	mode := group.Any
	if j.ours != nil {
		mode = group.Ours
	}
	l := j.launch
	c := group.Defaults(mode)
	_, c.Nodes = j.index()
	c.World, c.AllowSkew, c.MaxRestarts = j.world, l.AllowSkew, l.MaxRestarts
	if l.Where.Mode == placement.Agent {
		c.Names = l.Where.Hosts
	}
	c.RetryOn = l.RetryOn
	c.JoinTimeout, c.Timeout, c.StragglerAfter, c.Grace = l.JoinTimeout, l.Timeout, l.StragglerTimeout, l.Grace
	if mode == group.Ours {
		c.HangTimeout = l.HangTimeout
	} else {
		c.FailGrace = l.Grace
	}
	if l.SuccessRank0 {
		c.Success = group.FirstRank
	}
	c.OnUSR1 = group.OnUSR1(l.OnUSR1)
	// Slurm sends SIGTERM some time before SIGKILL: at the time limit, on preemption, for scancel.
	c.DrainOnTERM = mode == group.Ours && l.Where.Source == placement.FromSlurm
	return c
}

// session is what a node has open while the job runs.
type session struct {
	console *output.Console
	files   *output.Files
	show    launch.Renderer
}

func (j *job) open() (s session, err error) {
	if s.files, err = j.files(); err != nil {
		return s, err
	}
	if s.console, err = j.console(s.files); err != nil {
		return s, err
	}
	var log io.Writer
	if s.files != nil {
		log = s.files.Log()
	}
	s.show = launch.NewRenderer(s.console, j.look, log)
	return s, nil
}

// screenPatience is how long a slow reader of our output is waited for at the end.
const screenPatience = 2 * time.Second

func (s session) close() error {
	if s.console != nil {
		s.console.Close(screenPatience)
	}
	if s.files != nil {
		return ends.As(ends.OutputLost, s.files.Close())
	}
	return nil
}

// lead runs the job from node 0.
func (j *job) lead(s session) launch.Result {
	failed := func(err error) launch.Result {
		return launch.Result{Code: ends.CodeOf(err), Error: err.Error(), Started: j.w.now()}
	}
	log := s.show.Log()
	say := func(line string) { log.Warn(settings.Escape(line)) }
	_, count := j.index()
	o := launch.Options{Rules: j.rules(), Job: j.ours, Ranks: j.nproc, Name: j.name(), Now: j.w.now, Show: s.show, Console: s.console,
		Stderr: j.ours != nil, Files: s.files, Log: log}
	o.Node = func(sink node.Sink) (launch.Node, error) {
		agent, err := local.New(j.localOptions(s.files, say), sink)
		stayOff(j.division)
		return agent, err
	}
	if count > 1 {
		options, err := j.meeting(say)
		if err != nil {
			return failed(err)
		}
		o.Listen = func(h agents.Handler) (*agents.Listener, error) {
			return agents.Listen(context.Background(), options, h)
		}
		if len(j.launch.Hosts) > 1 {
			others, err := j.startRemotes(options.Secret, say)
			if err != nil {
				return failed(err)
			}
			defer others.close()
		}
	}
	need := watch.Need{Ranks: j.nproc}
	if j.ours != nil {
		need.OpenFiles = 1024 // checkpoints in many files, and a connection to every other rank
	}
	for _, warning := range watch.ReadFacts(os.DirFS("/"), watch.Statfs).Warnings(need) {
		say(warning)
	}
	seen, err := j.watch(say)
	if err != nil {
		return failed(err)
	}
	o.Watch, o.Requests = seen, seen.requests
	signals, stop := j.w.signals()
	defer stop()
	o.Signals = signals
	defer j.endWithStep(func(why string) {
		say(why)
		_ = unix.Kill(os.Getpid(), unix.SIGTERM) // to this process, which is there
	})()
	go j.drainInTime(seen.over, say, seen.Drain)
	result := launch.Run(o)
	if err := errors.Join(seen.close(), seen.writeTrace(j.launch.Trace), j.writeMemory(seen.memory, s.files)); err != nil {
		log.Warn(settings.Escape(err.Error()))
	}
	result.Warnings = seen.memory.Warnings()
	return result
}

// follow runs this node's part of the job, as node 0 says.
func (j *job) follow(s session) error {
	log := s.show.Log()
	say := func(line string) { log.Warn(settings.Escape(line)) }
	options, err := j.meeting(say)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals, stop := j.w.signals()
	defer stop()
	f := &follower{j: j, s: s, cancel: cancel}
	go f.pass(signals)
	defer j.endWithStep(func(why string) { f.leave(syscall.SIGTERM, why) })()
	err = agents.Dial(ctx, options, func(sink node.Sink) node.Agent { return f.start(sink, say) })
	return f.end(err)
}

// checkGPUs sees that there are as many GPUs as ranks, where there are any.
func (j *job) checkGPUs(device string) error {
	visible := j.launch.Where.GPUs
	if visible < 0 {
		visible = installedGPUs()
	}
	if device == "cpu" || (visible == 0 && device != "cuda") || j.launch.Oversubscribe || j.nproc <= visible {
		return nil
	}
	from := ""
	if text, ok := environ.List(j.w.env)("CUDA_VISIBLE_DEVICES"); ok {
		from = fmt.Sprintf(" (CUDA_VISIBLE_DEVICES=%s)", settings.Shorten(text, 100))
	}
	return ends.Errorf(ends.Usage, "%d ranks wanted, %d GPUs visible%s; --oversubscribe allows it", j.nproc, visible, from)
}

// installedGPUs counts those that the driver knows.
func installedGPUs() int {
	entries, err := os.ReadDir("/proc/driver/nvidia/gpus")
	if err != nil {
		return 0 // no driver, no GPU
	}
	return len(entries)
}

// findProgram looks a program up as a shell does.
func findProgram(name, dir string, env []string) (string, error) {
	if !strings.Contains(name, "/") {
		path, _ := environ.List(env)("PATH")
		for _, folder := range filepath.SplitList(path) {
			file := filepath.Join(folder, name)
			if checkExecutable(file) == nil {
				return filepath.Abs(file)
			}
		}
		return "", ends.Errorf(ends.NotFound, "program %q is not in PATH", name)
	}
	file := name
	if !filepath.IsAbs(name) && dir != "" {
		file = filepath.Join(dir, name)
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return "", ends.As(ends.NotFound, err)
	}
	return file, checkExecutable(file)
}

func checkExecutable(file string) error {
	st, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return ends.Errorf(ends.NotFound, "program %q does not exist", file)
	case err != nil:
		return ends.As(ends.NotExecutable, err)
	case st.IsDir():
		return ends.Errorf(ends.NotExecutable, "program %q is a folder", file)
	case unix.Access(file, unix.X_OK) != nil:
		return ends.Errorf(ends.NotExecutable, "program %q is not executable", file)
	}
	return nil
}

// usedCPUs describes the bindings, a line for each rank.
func (j *job) usedCPUs() []string {
	var lines []string
	for i, b := range j.division.Ranks {
		lines = append(lines, fmt.Sprintf("local rank %d: CPUs %s (%s), %d threads", i, placement.FormatCPUList(b.CPUs), j.division.Policy, b.Threads))
	}
	return lines
}

// fileOwner returns the user that a file belongs to.
func fileOwner(info os.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}
