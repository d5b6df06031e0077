package watch

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/wanrun/wanrun/internal/cgroup"
	"github.com/wanrun/wanrun/internal/control/group"
)

// End is the end of a rank by a SIGKILL that was not the launcher's.
type End struct {
	Attempt, Rank int
	At            time.Time
	MaxRSS        int64 // bytes, as wait4 says; 0 or less if unknown
}

// Death is what is known of a SIGKILL.
type Death struct {
	Memory group.Memory
	// Text is one line that does not name the rank: "out of memory, cgroup /x limit 192 MiB,
	// rank used 190 MiB; …" or "not the kernel's OOM killer (oom_kill unchanged); …".
	Text string
	// Used, Limit and Peak are bytes: most that the rank had resident, the limit of its
	// control group (LimitedBy sets it), most that the group had; Unknown if they are.
	Used, Limit, Peak int64
	LimitedBy         string
	// Kills is how far the group's counter of kills, or else the machine's, went up;
	// Unknown if neither can be read.
	Kills int64
	// Log is the kernel's own line, "" if there is none that can be read.
	Log string
}

// Killed explains a rank's end by SIGKILL. Call it before Remove. It may ask Slurm, for as
// long as ctx allows; nothing else in it waits longer than some milliseconds.
func (s *Sampler) Killed(ctx context.Context, e End) Death {
	s.mu.Lock()
	w := s.ranks[key{e.Attempt, e.Rank}]
	if w == nil {
		s.mu.Unlock()
		return Death{Used: Unknown, Limit: Unknown, Peak: Unknown, Kills: Unknown,
			Text: "it was not watched, so by whom is not known"}
	}
	before, beforeAll := s.shared[groupName(w.group)].before(e.At), s.shared[machine].before(e.At)
	memory := w.group.Memory(s.Root)
	all := machineKills(s.Root)
	pid, used := w.Pid, max(w.peak, e.MaxRSS)
	s.mu.Unlock()
	if used <= 0 {
		used = Unknown
	}
	v := verdict{remedy: s.Remedy, used: used, memory: memory,
		kills: rise(before, memory.OOMKills), machineKills: rise(beforeAll, all), machineTotal: readMemInfo(s.Root)["MemTotal"]}
	if s.Kernel != nil {
		v.line, v.others, v.logged = s.Kernel.killsOf(pid, v.kills > 0 || v.machineKills > 0)
	}
	d := v.death()
	if d.Memory != group.OutOfMemory && s.Slurm != nil && s.SlurmJob != "" {
		if reason := slurmReason(ctx, s.Slurm, s.SlurmJob); reason != "" {
			d.Text += "; " + reason
		}
	}
	return d
}

// rise returns how far a counter went up; Unknown if it is.
func rise(before, after int64) int64 {
	if before == Unknown || after == Unknown || after < before {
		return Unknown
	}
	return after - before
}

// verdict weighs what is known of a SIGKILL.
type verdict struct {
	remedy       string
	used         int64
	memory       cgroup.Memory
	kills        int64 // of the group
	machineKills int64
	machineTotal int64
	logged       bool     // the kernel's log can be read, and its pids are ours
	line         *oomKill // the log's, of this process
	others       int      // kills of other processes that the log has
}

func (v verdict) death() Death {
	d := Death{Used: v.used, Limit: v.memory.Limit, Peak: v.memory.Peak, LimitedBy: v.memory.LimitedBy, Kills: v.kills}
	if d.Kills == Unknown {
		d.Kills = v.machineKills
	}
	if v.line != nil {
		d.Log = v.line.text
	}
	const someone = "someone or something sent SIGKILL"
	switch {
	case v.line != nil, v.kills > 0 && !v.allOthers(v.kills):
		d.Memory, d.Text = group.OutOfMemory, v.outOfMemory()
	case v.kills > 0, v.kills == Unknown && v.machineKills > 0 && v.allOthers(v.machineKills):
		d.Memory = group.EnoughMemory
		d.Text = fmt.Sprintf("not the kernel's OOM killer (oom_kill +%d, but by its log of other processes); %s", d.Kills, someone)
	case v.kills == 0, v.machineKills == 0:
		d.Memory = group.EnoughMemory
		d.Text = "not the kernel's OOM killer (oom_kill unchanged); " + someone + v.hint()
	case v.machineKills > 0:
		// The group's counter cannot be read, but something on this machine was killed for
		// memory just when this rank got SIGKILL.
		d.Memory, d.Text = group.OutOfMemory, "most likely "+v.outOfMemory()
	default:
		d.Text = "whether by the kernel's OOM killer cannot be read here"
	}
	return d
}

// Sentence says it of a rank: "rank 1 was killed by the kernel: out of memory, cgroup /x
// limit 192 MiB, rank used 190 MiB; …".
func (d Death) Sentence(rank int) string {
	by := ""
	if d.Memory == group.OutOfMemory {
		by = " by the kernel"
	}
	return fmt.Sprintf("rank %d was killed%s: %s", rank, by, d.Text)
}

// allOthers returns whether the log accounts for all kills that were counted, and none is
// this rank's.
func (v verdict) allOthers(kills int64) bool {
	return v.logged && v.line == nil && int64(v.others) >= kills
}

func (v verdict) outOfMemory() string {
	text := "out of memory, "
	switch {
	case v.memory.Limit != Unknown && (v.line == nil || v.line.inGroup):
		name := v.memory.LimitedBy
		if name == "/"+v.memory.Group.Folder {
			name = v.memory.Group.Path
		}
		text += fmt.Sprintf("cgroup %s limit %s", name, formatBytes(v.memory.Limit))
	case v.line != nil && v.line.inGroup:
		text += "cgroup " + v.line.group
	case v.machineTotal > 0:
		text += fmt.Sprintf("machine with %s", formatBytes(v.machineTotal))
	default:
		text += "machine"
	}
	used := v.used
	if v.line != nil && v.line.rss > used {
		used = v.line.rss
	}
	if used != Unknown {
		text += fmt.Sprintf(", rank used %s", formatBytes(used))
	}
	remedy := v.remedy
	if remedy == "" {
		remedy = "give it more memory, or start fewer ranks"
	}
	return text + "; " + remedy
}

// hint says what else kills for memory: daemons such as systemd-oomd and earlyoom leave
// no trace in the counters.
func (v verdict) hint() string {
	const nearly = 0.95
	if v.memory.Limit > 0 && v.memory.Peak >= int64(nearly*float64(v.memory.Limit)) {
		return fmt.Sprintf("; its cgroup had used %s of %s: it may have been a daemon such as systemd-oomd or earlyoom",
			formatBytes(v.memory.Peak), formatBytes(v.memory.Limit))
	}
	return ""
}

// formatBytes writes a size with three digits, in powers of 1024.
func formatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	x, names := float64(n), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := -1
	for x >= unit && i < len(names)-1 {
		x /= unit
		i++
	}
	digits := 0
	switch {
	case x == math.Trunc(x), x >= 99.5:
	case x >= 9.95:
		digits = 1
	default:
		digits = 2
	}
	return fmt.Sprintf("%.*f %s", digits, x, names[i])
}
