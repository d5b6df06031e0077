package doctor

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func formatCount(n int64) string { return strconv.FormatInt(n, 10) }

// devices looks at graphics cards: without NVML, by what the driver shows in /proc and by
// nvidia-smi.
func (m Machine) devices(ctx context.Context) []Check {
	cards, err := fs.Glob(m.Root, "dev/nvidia[0-9]*")
	version, versionErr := m.read("proc/driver/nvidia/version")
	if len(cards) == 0 && versionErr != nil || err != nil {
		return []Check{check("GPU", Pass, "", "no NVIDIA driver and no device here: runs use the CPU")}
	}
	if len(cards) == 0 {
		return []Check{check("GPU", Warn, "docker run --gpus all, or ask the scheduler for GPUs", "the driver is loaded, but no device is visible here")}
	}
	checks := []Check{}
	if v := driverVersion.FindString(version); v != "" {
		checks = append(checks, check("GPU driver", Pass, "", "%s", v))
	} else {
		checks = append(checks, check("GPU driver", Unknown, "", "/proc/driver/nvidia/version does not say it"))
	}
	if m.CPUOnly {
		checks = append(checks, check("GPU", Warn, "", "%d are there, but this build of wanrun computes on the CPU", len(cards)))
	}
	const fields = "index,name,memory.total,memory.used,ecc.errors.uncorrected.volatile.total"
	out, err := m.ask(ctx, "nvidia-smi", "--query-gpu="+fields, "--format=csv,noheader,nounits")
	if err != nil {
		return append(checks, check("GPU memory", Unknown, "see what nvidia-smi says by itself", "nvidia-smi: %v", err))
	}
	for line := range strings.Lines(out) {
		checks = append(checks, card(strings.Split(strings.TrimSpace(line), ", "))...)
		if len(checks) > 64 {
			break
		}
	}
	return checks
}

var driverVersion = regexp.MustCompile(`\b\d{3}\.\d{1,4}(?:\.\d{1,4})?\b`)

// card reads a row of nvidia-smi's: index, name, MiB in all, MiB used, ECC errors.
func card(f []string) []Check {
	const numFields = 5
	if len(f) != numFields {
		return nil
	}
	name := "GPU " + f[0]
	total, err := strconv.ParseInt(f[2], 10, 32)
	used, usedErr := strconv.ParseInt(f[3], 10, 32)
	if errors.Join(err, usedErr) != nil || total <= 0 {
		return []Check{check(name, Unknown, "", "%s: memory is not known (%s of %s)", f[1], f[3], f[2])}
	}
	if n, err := strconv.ParseInt(f[4], 10, 64); err == nil && n > 0 {
		return []Check{check(name, Fail, "restart the machine or reset the card; if it comes back, take it out of use", "%s: %d uncorrected memory errors", f[1], n)}
	}
	const busy = 1024 // MiB; an idle card's driver takes less
	if used > busy {
		return []Check{check(name, Warn, "nvidia-smi shows which process holds it", "%s: %s of %s are in use by others", f[1], formatBytes(used<<20), formatBytes(total<<20))}
	}
	return []Check{check(name, Pass, "", "%s: %s free of %s", f[1], formatBytes((total-used)<<20), formatBytes(total<<20))}
}

func (m Machine) programs(ctx context.Context) []Check {
	path := m.FFmpeg
	if path == "" {
		var err error
		if path, err = m.LookPath("ffmpeg"); err != nil {
			return []Check{check("ffmpeg", Pass, "", "not in PATH: the built-in encoder makes the videos")}
		}
	}
	out, err := m.ask(ctx, path, "-hide_banner", "-encoders")
	switch {
	case err != nil:
		return []Check{check("ffmpeg", Warn, "--encoder builtin does without it", "%s cannot be run: %v", path, err)}
	case !strings.Contains(out, "libx264"):
		return []Check{check("ffmpeg", Warn, "install one with libx264, or use --encoder builtin", "%s has no libx264", path)}
	}
	return []Check{check("ffmpeg", Pass, "", "%s, with libx264", path)}
}

func (m Machine) folders() []Check {
	var checks []Check
	for _, f := range []struct {
		name, folder, fix string
		least             int64
	}{
		{"output folder", m.Out, "give --output in a folder that you may write to", 1 << 30},
		{"temp folder", m.Temp, "set TMPDIR to a folder that you may write to", 64 << 20},
	} {
		if err := m.Writable(f.folder); err != nil {
			checks = append(checks, check(f.name, Fail, f.fix, "%v", err))
			continue
		}
		_, free, err := m.Statfs(f.folder)
		switch {
		case err != nil:
			checks = append(checks, check(f.name, Unknown, "", "%s can be written to; its free space is not known: %v", f.folder, err))
		case free < f.least:
			checks = append(checks, check(f.name, Warn, "make room, or choose another folder", "%s has %s free", f.folder, formatBytes(free)))
		default:
			checks = append(checks, check(f.name, Pass, "", "%s, %s free", f.folder, formatBytes(free)))
		}
	}
	return checks
}

func (m Machine) network(ctx context.Context) []Check {
	var checks []Check
	if err := m.Listen(); err != nil {
		checks = append(checks, check("loopback", Fail, "bring the interface lo up; a sandbox may forbid sockets", "no port can be opened on this machine: %v", err))
	} else {
		checks = append(checks, check("loopback", Pass, "", "ports can be opened"))
	}
	host, err := m.Hostname()
	if err != nil {
		return append(checks, check("host name", Unknown, "", "%v", err))
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addresses, err := m.Resolve(ctx, host)
	if err != nil {
		checks = append(checks, check("host name", Warn, "a line in /etc/hosts; matters for runs on several machines only: give --rdzv an address then", "%s has no address: %v", host, err))
	} else {
		checks = append(checks, check("host name", Pass, "", "%s, %s", host, strings.Join(addresses[:min(len(addresses), 4)], " ")))
	}
	const firstYear = 2025 // before it this program was not written
	synchronized, err := m.InTime()
	switch {
	case m.Now.Year() < firstYear:
		checks = append(checks, check("clock", Fail, "set the clock, or start chronyd", "it says %s: certificates between machines will not be valid", m.Now.Format(time.DateOnly)))
	case err != nil:
		checks = append(checks, check("clock", Unknown, "", "whether it is synchronized cannot be read: %v", err))
	case !synchronized:
		checks = append(checks, check("clock", Pass, "", "%s; nothing synchronizes it here, which matters for reading logs of several machines", m.Now.Format(time.DateTime)))
	default:
		checks = append(checks, check("clock", Pass, "", "%s, synchronized", m.Now.Format(time.DateTime)))
	}
	return checks
}

// variables are settings of the environment that do harm.
func (m Machine) variables() []Check {
	var checks []Check
	if v, ok := m.Lookup("CUDA_VISIBLE_DEVICES"); ok {
		seen := map[string]bool{}
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part == "" {
				checks = append(checks, check("environment", Warn, "unset CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES is %q, which hides graphics cards", v))
				break
			}
			if seen[part] {
				checks = append(checks, check("environment", Warn, "name each card once", "CUDA_VISIBLE_DEVICES is %q: two ranks would share a card", v))
				break
			}
			seen[part] = true
		}
	}
	if v, ok := m.Lookup("LD_PRELOAD"); ok && v != "" {
		checks = append(checks, check("environment", Warn, "unset LD_PRELOAD unless you know what it is for", "LD_PRELOAD is %q: it changes every program", v))
	}
	for _, name := range []string{"NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SHM_DISABLE", "CUDA_LAUNCH_BLOCKING"} {
		if v, ok := m.Lookup(name); ok && v != "" && v != "0" {
			checks = append(checks, check("environment", Warn, "unset it unless something does not work without it", "%s is %q: it makes runs on several GPUs slower", name, v))
		}
	}
	if len(checks) == 0 {
		checks = append(checks, check("environment", Pass, "", "no variable that does harm"))
	}
	return checks
}
