package settings

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/placement"
)

// Launch is how ranks are started, watched and ended.
type Launch struct {
	Place placement.Given     // what flags and the configuration file say; the environment's own answers go beside it
	Where placement.Placement // what follows from both

	Hosts []placement.Host // other nodes are started by SSH; nil: by somebody else
	SSH   []string         // the command

	SecretFile string
	TLS        string
	Iface      string
	AllowSkew  bool

	Bind           string
	ReportBindings bool
	OneGPU         bool // a rank sees its own alone
	Oversubscribe  bool

	Grace, JoinTimeout, HangTimeout, Timeout, StragglerTimeout, StopBefore time.Duration

	MaxRestarts  int
	RetryOn      []group.Reason
	SuccessRank0 bool
	OnUSR1       string // forward, drain or stop

	LogDir  string
	LogMax  int64  // bytes; 0: no limit
	Show    string // "" for the default
	Prefix  string // "" for the default
	Dedup   bool
	Redact  bool
	Metrics string
	Trace   string
	VRAMLog string

	DryRun bool
	JSON   bool // of a dry run
}

// Run are the settings of `wanrun run`.
type Run struct {
	Launch  Launch
	Nproc   int // ranks of a node; 0: one for each GPU
	Program []string
	Env     []string // NAME=VALUE, on top of this program's
	Chdir   string
	Device  string
	Report  string

	LogFormat      string
	Verbose, Quiet bool
	Explain, Help  bool
	Notices        []string
	Values         []Value
}

// maxNodes bounds --nnodes, maxRestarts --max-restarts.
const (
	maxNodes    = 4096
	maxRestarts = 1000
)

// maxEnvFile bounds --env-file.
const maxEnvFile = 1 << 20

// ResolveRun settles `wanrun run`. Errors have the class ends.Usage.
func ResolveRun(in Inputs) (Run, error) {
	r := &resolver{in: in, flags: RunFlags(), given: map[string]Given{}, rest: true}
	r.err = r.collect()
	var run Run
	if run.Help = r.truth("help", false); run.Help {
		return run, r.err
	}
	run.Explain = r.truth("explain", false)
	run.LogFormat = r.choice("log-format", "auto", "default")
	run.Verbose, run.Quiet = r.truth("verbose", false), r.truth("quiet", false)
	r.path("config")
	run.Report = r.path("report")
	r.launch()
	run.Nproc = r.nproc()
	run.Device = r.choice("device", "auto", "default")
	run.Chdir = r.path("chdir")
	run.Env = r.variables()
	if run.Program = r.positional; len(run.Program) == 0 || run.Program[0] == "" {
		r.fail(ends.Usage, errors.New("no program; usage: wanrun run [FLAGS] -- PROGRAM [ARGUMENTS]"))
	}
	run.Launch, run.Notices, run.Values = r.s.Launch, r.s.Notices, r.inTableOrder()
	return run, r.err
}

// nproc settles --nproc of any program: 0 is one for each GPU.
func (r *resolver) nproc() int {
	text := r.text("nproc", "auto", "default", nil)
	if text == "auto" || text == "gpu" {
		return r.in.RanksPerNode
	}
	g := r.given["nproc"]
	n, err := parseInt(text)
	if err != nil {
		err = fmt.Errorf("%q is neither a number nor gpu nor auto", text)
	} else if n < 1 || n > maxRanks {
		err = fmt.Errorf("%d, want 1 to %d; nearest is %d", n, maxRanks, min(max(n, 1), maxRanks))
	}
	if err != nil {
		r.failAt(g, err)
	}
	return n
}

// variables reads --env-file and, over it, --env.
func (r *resolver) variables() []string {
	var list []string
	if path := r.path("env-file"); path != "" {
		data, err := r.in.ReadFile(path, maxEnvFile)
		if err != nil {
			r.failAt(r.given["env-file"], err)
			return nil
		}
		for i, line := range strings.Split(string(data), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := checkVariable(line); err != nil {
				r.failAt(Given{From: fmt.Sprintf("%s:%d", path, i+1)}, err)
			}
			list = append(list, line)
		}
	}
	g := r.given["env"]
	for _, pair := range g.Many {
		if err := checkVariable(pair); err != nil {
			r.failAt(g, err)
		}
		list = append(list, pair)
	}
	return list
}

func checkVariable(pair string) error {
	name, _, ok := strings.Cut(pair, "=")
	if !ok || name == "" || strings.ContainsAny(pair, "\x00") {
		return fmt.Errorf("%q: want NAME=VALUE", Shorten(name, 60))
	}
	return nil
}

// launch settles what concerns starting and ending ranks.
func (r *resolver) launch() {
	l := &r.s.Launch
	r.place()
	l.SecretFile = r.path("secret-file")
	l.TLS = r.text("tls", "auto", "default", checkTLS)
	l.Iface = r.text("iface", "", "default: the route to node 0", nil)
	l.AllowSkew = r.truth("allow-skew", false)
	l.Bind = r.text("bind", "auto", "default: node, where there are several and the mask allows it", nil)
	l.ReportBindings = r.truth("report-bindings", false)
	l.OneGPU = r.choice("gpu-visibility", "all", "default") == "one"
	l.Oversubscribe = r.truth("oversubscribe", false)

	l.Grace = r.duration("grace", 10*time.Second, time.Hour)
	l.JoinTimeout = r.duration("join-timeout", 5*time.Minute, 7*24*time.Hour)
	l.HangTimeout = r.duration("hang-timeout", 0, 7*24*time.Hour)
	l.Timeout = r.duration("timeout", 0, 365*24*time.Hour)
	l.StragglerTimeout = r.duration("straggler-timeout", 0, 7*24*time.Hour)
	l.StopBefore = r.duration("stop-before", 0, 24*time.Hour)
	l.MaxRestarts = r.number("max-restarts", 0, "default", func(n int) error {
		if n < 0 || n > maxRestarts {
			return fmt.Errorf("%d, want 0 to %d; nearest is %d", n, maxRestarts, min(max(n, 0), maxRestarts))
		}
		return nil
	})
	reasons := r.text("retry-on", "signal,node", "default", func(s string) error {
		_, err := group.ParseReasons(s)
		return err
	})
	l.RetryOn, _ = group.ParseReasons(reasons) // checked where it was given
	l.SuccessRank0 = r.choice("success", "all", "default") == "rank0"
	onUSR1 := "drain" // our workers can
	if r.rest {
		onUSR1 = "forward"
	}
	l.OnUSR1 = r.choice("on-usr1", onUSR1, "default")

	l.LogDir = r.path("log-dir")
	l.LogMax = r.size64("log-max", "100M")
	l.Show = r.text("show", "", "default: rank 0, and stderr of all", nil)
	l.Prefix = r.text("prefix", "", "default", nil)
	l.Dedup = r.truth("dedup", false)
	l.Redact = r.truth("redact", false)
	l.Metrics = r.text("metrics", "", "not given", nil)
	l.Trace = r.path("trace")
	l.VRAMLog = r.path("vram-log")
	l.DryRun, l.JSON = r.truth("dry-run", false), r.truth("json", false)
}

// place collects what flags and the configuration file say of nodes. The
// variables of the same names are for placement.Find to weigh against a scheduler's.
func (r *resolver) place() {
	said := func(name string) bool { return r.given[name].rank != rankEnv }
	p := &r.s.Launch.Place
	n := r.number("nnodes", 0, "from the environment, or 1", func(n int) error {
		if n < 1 || n > maxNodes {
			return fmt.Errorf("%d, want 1 to %d; nearest is %d", n, maxNodes, min(max(n, 1), maxNodes))
		}
		return nil
	})
	if said("nnodes") {
		p.NumNodes = n
	}
	rank := r.text("node-rank", "auto", "default", checkNodeRank)
	if n, err := strconv.Atoi(rank); err == nil && said("node-rank") {
		p.NodeRank = &n
	}
	if rdzv := r.text("rdzv", "", "from the environment", nil); said("rdzv") {
		p.Rendezvous = rdzv
	}
	if id := r.text("job-id", "", "from the environment, or made", nil); said("job-id") {
		p.JobID = id
	}
	p.Source = placement.Source(r.choice("placement", "auto", "default"))
	if n, err := parseInt(r.given["nproc"].Text); err == nil && said("nproc") {
		p.RanksPerNode = n
	}
	r.hosts()
	if r.in.Place == nil || r.err != nil {
		return
	}
	where, err := r.in.Place(*p)
	if err != nil {
		r.fail(ends.Usage, err)
		return
	}
	_, r.in.Nodes = where.Agent()
	switch {
	case where.Mode == placement.Rank:
		r.in.RanksPerNode = 1 // each is an agent of its own
	case where.RanksPerNode > 0:
		r.in.RanksPerNode = where.RanksPerNode
	}
	r.s.Launch.Where = where
	for _, note := range where.Notes {
		r.notice("%s", note)
	}
}

// maxHostfile bounds --hosts.
const maxHostfile = 1 << 20

// sshPort is where node 0 is met when --hosts does not say it: torchrun's.
const sshPort = 29400

// hosts reads the hostfile: this node is the first, and the others meet it there.
func (r *resolver) hosts() {
	l := &r.s.Launch
	l.SSH = strings.Fields(r.text("ssh", "ssh -o BatchMode=yes", "default", func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("an empty command")
		}
		return nil
	}))
	path := r.path("hosts")
	if path == "" || r.err != nil {
		return
	}
	g := r.given["hosts"]
	data, err := r.in.ReadFile(path, maxHostfile)
	if err == nil {
		l.Hosts, err = placement.ParseHosts(string(data))
	}
	p := &l.Place
	if err == nil && (p.NumNodes != 0 && p.NumNodes != len(l.Hosts) || p.NodeRank != nil && *p.NodeRank != 0) {
		err = fmt.Errorf("it has %d hosts, of which this is the first; leave --nnodes and --node-rank out", len(l.Hosts))
	}
	if err != nil {
		r.failAt(g, err)
		return
	}
	zero := 0
	p.NumNodes, p.NodeRank = len(l.Hosts), &zero
	if p.RanksPerNode == 0 {
		p.RanksPerNode = l.Hosts[0].Slots
	}
	if p.Rendezvous == "" && len(l.Hosts) > 1 {
		_, host, ok := strings.Cut(l.Hosts[0].Name, "@")
		if !ok {
			host = l.Hosts[0].Name
		}
		p.Rendezvous = net.JoinHostPort(host, strconv.Itoa(sshPort))
	}
}

func checkNodeRank(s string) error {
	if s == "auto" {
		return nil
	}
	n, err := parseInt(s)
	if err == nil && (n < 0 || n >= maxNodes) {
		err = fmt.Errorf("%d, want 0 to %d", n, maxNodes-1)
	}
	return err
}

func checkTLS(s string) error {
	if s == "auto" || s == "off" || strings.Count(s, ",") == 2 {
		return nil
	}
	return fmt.Errorf("%q: want auto, off, or the three files CERT,KEY,CA", s)
}

// duration settles a time from 0 to most.
func (r *resolver) duration(name string, def, most time.Duration) time.Duration {
	text := r.text(name, def.String(), "default", func(s string) error {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return fmt.Errorf("%q is not a duration, as in 10s or 2m", s)
		case d < 0 || d > most:
			return fmt.Errorf("%v, want 0s to %v; nearest is %v", d, most, min(max(d, 0), most))
		}
		return nil
	})
	d, _ := time.ParseDuration(text) // checked where it was given
	return d
}

// size64 settles a number of bytes with the letter K, M, G or T for powers of 1024.
func (r *resolver) size64(name, def string) int64 {
	text := r.text(name, def, "default", func(s string) error {
		_, err := parseBytes(s)
		return err
	})
	n, _ := parseBytes(text) // checked where it was given
	return n
}

func parseBytes(s string) (int64, error) {
	number, shift := strings.TrimSpace(s), 0
	for i, unit := range []string{"K", "M", "G", "T"} {
		for _, ending := range []string{unit + "iB", unit + "B", unit} {
			if cut, ok := strings.CutSuffix(number, ending); ok && shift == 0 {
				number, shift = strings.TrimSpace(cut), 10*(i+1)
			}
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > 1<<60>>shift {
		return 0, fmt.Errorf("%q is not a size, as in 100M or 2GiB", s)
	}
	return n << shift, nil
}
