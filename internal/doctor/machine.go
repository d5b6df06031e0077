package doctor

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/environ"
	"github.com/wanrun/wanrun/internal/watch"
)

// Machine is what CheckMachine looks at, and how.
type Machine struct {
	Root       fs.FS // of the file system, os.DirFS("/")
	Lookup     environ.Lookup
	Processors int // that this process may use
	Ranks      int // that a run will have here; 0: not known
	Build      string
	CPUOnly    bool // this build computes on the CPU alone

	Statfs   func(name string) (total, free int64, err error)
	LookPath func(name string) (string, error)
	Run      func(ctx context.Context, name string, args ...string) ([]byte, error)
	Writable func(folder string) error // makes and removes a file there
	Hostname func() (string, error)
	Resolve  func(ctx context.Context, host string) ([]string, error)
	Listen   func() error // at any port of the loopback interface
	InTime   func() (bool, error)
	Now      time.Time

	Worker    string // the worker program's path
	WorkerErr error  // why there is none
	FFmpeg    string // its path; "" looks in PATH
	Temp, Out string // folders of sockets and of the output
}

// patience is how long a program or a name server is waited for.
const patience = 10 * time.Second

// CheckMachine looks at the machine.
func CheckMachine(ctx context.Context, m Machine) []Check {
	facts := watch.ReadFacts(m.Root, m.Statfs)
	return slices.Concat(m.worker(ctx), m.processors(), m.memory(facts), m.limits(facts), m.devices(ctx), m.programs(ctx), m.folders(), m.network(ctx),
		m.variables())
}

func (m Machine) ranks() int64 { return int64(max(m.Ranks, 1)) }

func (m Machine) ask(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := m.Run(ctx, name, args...)
	return string(bytes.TrimSpace(out[:min(len(out), 1<<20)])), err
}

func (m Machine) worker(ctx context.Context) []Check {
	if m.WorkerErr != nil {
		return []Check{check("worker", Fail, "build it with `make build`, put it beside wanrun, or name it with --worker", "%v", m.WorkerErr)}
	}
	said, err := m.ask(ctx, m.Worker, "version")
	if err != nil {
		return []Check{check("worker", Fail, "it cannot be run here: build it on this machine, or look for missing libraries with ldd", "%q: %v", m.Worker, err)}
	}
	if build := strings.TrimPrefix(said, "wanworker "); build != m.Build {
		return []Check{check("worker", Fail, "build both together: make build", "%q is of build %.60q, this launcher of %.60q", m.Worker, build, m.Build)}
	}
	return []Check{check("worker", Pass, "", "%s, the same build as the launcher", m.Worker)}
}

func (m Machine) processors() []Check {
	text, err := m.read("proc/cpuinfo")
	c := check("processors", Pass, "", "%d may be used", m.Processors)
	if int64(m.Processors) < m.ranks() {
		c = check("processors", Warn, "start fewer ranks on this machine, or ask the scheduler for more CPUs (--cpus-per-task)", "%d may be used by %d ranks", m.Processors, m.Ranks)
	}
	checks := []Check{c}
	if err != nil {
		return append(checks, check("instructions", Unknown, "", "%v", err))
	}
	flags := " "
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "flags" || strings.TrimSpace(name) == "Features" {
			flags = " " + strings.TrimSpace(value) + " "
			break
		}
	}
	var has []string
	for _, f := range []string{"avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd"} {
		if strings.Contains(flags, " "+f+" ") {
			has = append(has, f)
		}
	}
	if len(has) == 0 {
		return append(checks, check("instructions", Warn, "it works, but many times slower: use a machine or a CPU type of the virtual machine with AVX2", "no vector instructions that wanrun uses"))
	}
	return append(checks, check("instructions", Pass, "", "%s", strings.Join(has, " ")))
}

func (m Machine) memory(f watch.Facts) []Check {
	var checks []Check
	switch {
	case f.Memory() == watch.Unknown:
		checks = append(checks, check("memory", Unknown, "", "neither /proc/meminfo nor a control group says how much there is"))
	default:
		const perRank = 4 << 30
		state, fix := Pass, ""
		if f.Memory() < perRank*m.ranks() {
			state, fix = Warn, "enough for the demo model; a 14B model wants more: `wanrun plan` says how much"
		}
		text := formatBytes(f.Memory()) + " can be used"
		if f.MemLimit != watch.Unknown && f.Memory() == f.MemLimit {
			text += ": control group " + f.MemLimitedBy + " allows no more"
			if f.MemUsed != watch.Unknown {
				text += ", and uses " + formatBytes(f.MemUsed)
			}
		} else if f.MemTotal != watch.Unknown {
			text += " of the machine's " + formatBytes(f.MemTotal)
		}
		checks = append(checks, check("memory", state, fix, "%s", text))
	}
	if text, err := m.read("proc/sys/vm/overcommit_memory"); err == nil && strings.TrimSpace(text) == "2" {
		checks = append(checks, check("overcommit", Warn, "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio", "the kernel gives no more memory than there is (vm.overcommit_memory is 2): reserving may fail early"))
	}
	return checks
}

func (m Machine) limits(f watch.Facts) []Check {
	var checks []Check
	const files, shm = 4096, 1 << 30
	switch {
	case f.OpenFiles == watch.Unknown:
		checks = append(checks, check("open files", Unknown, "", "/proc/self/limits cannot be read"))
	case f.OpenFiles < files:
		checks = append(checks, check("open files", Warn, "ulimit -n 65536", "a process may open %d", f.OpenFiles))
	default:
		checks = append(checks, check("open files", Pass, "", "a process may open %s", number(f.OpenFiles)))
	}
	switch {
	case f.LockedMemory == watch.Unknown:
	case f.LockedMemory < 1<<30 && !m.CPUOnly:
		checks = append(checks, check("locked memory", Warn, "ulimit -l unlimited, docker run --ulimit memlock=-1", "a process may lock %s: copies to the device are slower", formatBytes(f.LockedMemory)))
	case f.LockedMemory == watch.Unlimited:
		checks = append(checks, check("locked memory", Pass, "", "without limit"))
	default:
		checks = append(checks, check("locked memory", Pass, "", "%s a process", formatBytes(f.LockedMemory)))
	}
	switch {
	case f.Shm == watch.Unknown:
		checks = append(checks, check("/dev/shm", Unknown, "", "it is not there"))
	case f.ShmFree < shm:
		checks = append(checks, check("/dev/shm", Warn, "docker run --shm-size=8g, an emptyDir of medium Memory in Kubernetes; wanrun's CPU ranks do not need it, torch and NCCL do",
			"%s free of %s", formatBytes(f.ShmFree), formatBytes(f.Shm)))
	default:
		checks = append(checks, check("/dev/shm", Pass, "", "%s free", formatBytes(f.ShmFree)))
	}
	return checks
}

func number(n int64) string {
	if n == watch.Unlimited {
		return "any number"
	}
	return formatCount(n)
}

// read returns the beginning of a small file of the kernel's.
func (m Machine) read(name string) (string, error) {
	f, err := m.Root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 256<<10))
	return string(data), err
}
