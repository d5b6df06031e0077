package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wanrun/wanrun/internal/control/group"
)

const mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"

// counters is a machine with a job's group, in which a process 10 is a rank.
func counters(version int, kills, machineKills string) fstest.MapFS {
	files := map[string]string{"proc/meminfo": "MemTotal: 33554432 kB\nMemAvailable: 1024 kB\n"}
	if machineKills != "" {
		files["proc/vmstat"] = "nr_free_pages 5\noom_kill " + machineKills + "\n"
	}
	files["proc/10/status"] = "VmHWM:\t194560 kB\nVmRSS:\t1024 kB\n" // 190 MiB
	switch version {
	case 2:
		files["proc/10/cgroup"], files["proc/self/mountinfo"] = "0::/x\n", mounts
		files["sys/fs/cgroup/x/memory.max"], files["sys/fs/cgroup/x/memory.peak"] = "201326592\n", "201326592\n"
		files["sys/fs/cgroup/x/memory.events"] = "max 9\noom 2\noom_kill " + kills + "\n"
	case 1:
		files["proc/10/cgroup"], files["proc/self/mountinfo"] = "5:memory:/x\n", strings.Replace(mounts, "cgroup2 cgroup2 rw", "cgroup cgroup rw,memory", 1)
		files["sys/fs/cgroup/x/memory.limit_in_bytes"] = "201326592\n"
		files["sys/fs/cgroup/x/memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\noom_kill " + kills + "\n"
	}
	return proc(files, "10 1 10 10 S 0")
}

func TestKilled(t *testing.T) {
	const (
		memory  = "out of memory, cgroup /x limit 192 MiB, rank used 190 MiB; "
		general = "give it more memory, or start fewer ranks"
		enough  = "not the kernel's OOM killer (oom_kill unchanged); someone or something sent SIGKILL"
	)
	for _, tc := range []struct {
		name          string
		before, after fstest.MapFS
		remedy        string
		maxRSS        int64
		memory        group.Memory
		text          string
	}{
		{"v2", counters(2, "3", "8"), counters(2, "4", "9"), "", 0, group.OutOfMemory, memory + general},
		{"v1, with a remedy", counters(1, "0", ""), counters(1, "1", ""), "try --offload-dit file, or more memory", 0, group.OutOfMemory, memory + "try --offload-dit file, or more memory"},
		{"wait4 saw more than the samples", counters(2, "0", ""), counters(2, "1", ""), "", 191 << 20, group.OutOfMemory, "rank used 191 MiB"},
		{"v2 unchanged, others died elsewhere", counters(2, "3", "8"), counters(2, "3", "9"), "", 0, group.EnoughMemory, enough + "; its cgroup had used 192 MiB of 192 MiB: it may have been a daemon"},
		{"v1 unchanged", counters(1, "3", ""), counters(1, "3", ""), "", 0, group.EnoughMemory, enough},
		{"no group, the machine's counter", counters(0, "", "1"), counters(0, "", "2"), "", 0, group.OutOfMemory, "most likely out of memory, machine with 32 GiB, rank used 190 MiB"},
		{"no group, unchanged", counters(0, "", "1"), counters(0, "", "1"), "", 0, group.EnoughMemory, enough},
		{"nothing can be read", counters(0, "", ""), counters(0, "", ""), "", 0, group.MemoryUnknown, "whether by the kernel's OOM killer cannot be read here"},
		{"nonsense in the counter", counters(2, "", ""), counters(2, "many", ""), "", 0, group.MemoryUnknown, "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := fstest.MapFS{}
			set := func(files fstest.MapFS) {
				clear(root)
				for name, f := range files {
					root[name] = f
				}
			}
			set(tc.before)
			w := newWatcher(Options{Root: root, Remedy: tc.remedy})
			w.Add(Target{Attempt: 1, Rank: 1, Pid: 10}, w.now)
			w.seconds(10, nil)
			set(tc.after)
			// The latest look comes while the process dies: it must not hide the kill.
			w.seconds(2, nil)
			for name := range root {
				if strings.HasPrefix(name, "proc/10/") {
					delete(root, name)
				}
			}
			d := w.Killed(context.Background(), End{Attempt: 1, Rank: 1, At: w.now, MaxRSS: tc.maxRSS})
			if d.Memory != tc.memory || !strings.Contains(d.Text, tc.text) {
				t.Errorf("%q %q, want %q %q", d.Memory, d.Text, tc.memory, tc.text)
			}
			by := "rank 1 was killed: " + d.Text
			if tc.memory == group.OutOfMemory {
				by = "rank 1 was killed by the kernel: " + d.Text
			}
			if got := d.Sentence(1); got != by {
				t.Errorf("sentence %q, want %q", got, by)
			}
		})
	}
}

// TestKilledLater: a child that the kernel killed long ago is no reason for a SIGKILL now.
func TestKilledLater(t *testing.T) {
	root := counters(2, "0", "")
	w := newWatcher(Options{Root: root})
	w.Add(Target{Attempt: 1, Pid: 10}, w.now)
	w.seconds(20, nil)
	root["sys/fs/cgroup/x/memory.events"] = counters(2, "1", "")["sys/fs/cgroup/x/memory.events"]
	w.seconds(20, nil)
	if d := w.Killed(context.Background(), End{Attempt: 1, At: w.now}); d.Memory != group.EnoughMemory || d.Kills != 0 {
		t.Errorf("%+v", d)
	}
	if d := w.Killed(context.Background(), End{Attempt: 2, At: w.now}); d.Memory != group.MemoryUnknown || d.Text == "" {
		t.Errorf("not watched: %+v", d)
	}
}

// TestKilledLog weighs the kernel's log against the counters.
func TestKilledLog(t *testing.T) {
	base := verdict{used: 190 << 20, kills: 1, machineKills: 1, logged: true, machineTotal: 32 << 30}
	base.memory.Limit, base.memory.LimitedBy, base.memory.Peak = 192<<20, "/sys/fs/cgroup/x", Unknown
	line := oomKill{pid: 10, inGroup: true, group: "/x", rss: 191 << 20, text: "Memory cgroup out of memory: Killed process 10 (x)"}
	whole := line
	whole.inGroup = false
	for _, tc := range []struct {
		name   string
		change func(v *verdict)
		memory group.Memory
		text   string
	}{
		{"it names the rank", func(v *verdict) { v.line = &line }, group.OutOfMemory, "out of memory, cgroup /sys/fs/cgroup/x limit 192 MiB, rank used 191 MiB"},
		{"it names the rank, no counter", func(v *verdict) { v.line, v.kills, v.machineKills = &line, Unknown, Unknown }, group.OutOfMemory, "out of memory"},
		{"it names the rank and a group whose limit cannot be read", func(v *verdict) { v.line, v.memory.Limit = &line, Unknown }, group.OutOfMemory, "out of memory, cgroup /x, rank"},
		{"the machine had no more", func(v *verdict) { v.line = &whole }, group.OutOfMemory, "out of memory, machine with 32 GiB, rank"},
		{"it names another", func(v *verdict) { v.others = 1 }, group.EnoughMemory, "oom_kill +1, but by its log of other processes"},
		{"it names fewer than were counted", func(v *verdict) { v.others, v.kills = 1, 2 }, group.OutOfMemory, "out of memory"},
		{"no group's counter, it names another", func(v *verdict) { v.others, v.kills = 1, Unknown }, group.EnoughMemory, "oom_kill +1, but"},
		{"it cannot be read", func(v *verdict) { v.logged = false }, group.OutOfMemory, "out of memory"},
	} {
		v := base
		if tc.change(&v); v.death().Memory != tc.memory || !strings.Contains(v.death().Text, tc.text) {
			t.Errorf("%s: %+v, want %q %q", tc.name, v.death(), tc.memory, tc.text)
		}
	}
}

func TestKernelLogRecords(t *testing.T) {
	var l KernelLog
	for _, record := range []string{
		"6,339,5140900850,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=user.slice,mems_allowed=0,oom_memcg=/system.slice/job,task_memcg=/system.slice/job/a,task=x,oom_memcg=/no,pid=30,uid=0\n",
		"3,340,5140900900,-;Memory cgroup out of memory: Killed process 30 (Killed process 31 (x) total-vm:205812kB, anon-rss:100kB, file-rss:20kB, shmem-rss:4kB, UID:0 pgtables:440kB oom_score_adj:0\n SUBSYSTEM=x\n",
		"6,341,5140900950,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=y,pid=32,uid=0\n",
		"3,342,5140901000,-;Out of memory: Killed process 32 (y) total-vm:1kB, anon-rss:0kB, file-rss:0kB, shmem-rss:0kB\n",
		"3,343,1,-;Memory cgroup out of memory: Killed process 33, UID 0, (z) total-vm:1kB\n",
		// What a user wrote into the log is not the kernel's.
		"11,344,1,-;Out of memory: Killed process 34 (w)\n",
		"3,345,1,-;usb: Out of memory: Killed process x\n",
		"3,345,1,-;Killed process 35 (w)\n",
		"x", "", "3;", ",;Out of memory: Killed process 36 (w)",
	} {
		l.record(record)
	}
	want := []oomKill{
		{pid: 30, inGroup: true, group: "/system.slice/job", rss: 124 << 10},
		{pid: 32, rss: Unknown},
		{pid: 33, inGroup: true, rss: Unknown},
	}
	if len(l.kills) != len(want) {
		t.Fatalf("%d kills, want %d: %+v", len(l.kills), len(want), l.kills)
	}
	for i, k := range l.kills {
		if k.text == "" {
			t.Errorf("kill %d has no text", i)
		}
		if k.text = ""; k != want[i] {
			t.Errorf("%+v, want %+v", k, want[i])
		}
	}
	for range 1000 {
		l.record("3,342,5140901000,-;Out of memory: Killed process 32 (y) total-vm:1kB\n")
	}
	if len(l.kills) > 256 {
		t.Errorf("%d kills are kept", len(l.kills))
	}
}

func FuzzKernelLog(f *testing.F) {
	f.Add("6,339,5140900850,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/a,task_memcg=/b,task=x,pid=30,uid=0\n")
	f.Add("3,340,51,-;Memory cgroup out of memory: Killed process 30 (x) total-vm:2kB, anon-rss:9223372036854775807kB, file-rss:20kB\n")
	f.Fuzz(func(t *testing.T, record string) {
		l := KernelLog{group: record}
		l.record(record)
		l.record("3,1,1,-;Memory cgroup out of memory: Killed process 3 (x) anon-rss:1kB")
		for _, k := range l.kills {
			if k.pid <= 0 || k.rss < Unknown || strings.ContainsAny(k.text+k.group, "\n\x1b") {
				t.Errorf("%+v", k)
			}
		}
	})
}

func TestSlurmReason(t *testing.T) {
	const job = "JobId=7 JobName=wan UserId=a(1) JobState=%S Reason=%R Dependency=(null) PreemptTime=%P EndTime=2026-01-01T00:00:00"
	for _, tc := range []struct{ state, reason, preempt, want string }{
		{"RUNNING", "None", "None", ""},
		{"COMPLETING", "TimeLimit", "None", "Slurm ended job 7 at its time limit (scontrol: JobState=COMPLETING Reason=TimeLimit); ask for more with --time"},
		{"TIMEOUT", "TimeLimit", "None", "at its time limit"},
		{"CANCELLED", "None", "None", "job 7 was cancelled, by scancel or by Slurm itself"},
		{"COMPLETING", "None", "2026-01-01T00:00:00", "Slurm preempted job 7"},
		{"PREEMPTED", "None", "None", "Slurm preempted job 7"},
		{"OUT_OF_MEMORY", "OutOfMemory", "None", "Slurm ended job 7 for memory"},
		{"COMPLETING", "NodeDown", "None", "Slurm lost a node of job 7"},
		{"COMPLETING", "None", "None", "Slurm is ending or has stopped job 7"},
	} {
		out := strings.NewReplacer("%S", tc.state, "%R", tc.reason, "%P", tc.preempt).Replace(job)
		run := func(context.Context, string, ...string) ([]byte, error) { return []byte(out), nil }
		if got := slurmReason(context.Background(), run, "7"); !strings.HasPrefix(got, strings.TrimSuffix(tc.want, "…")) && !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%+v: %q", tc, got)
		}
	}
	fails := func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("no slurmctld") }
	if got := slurmReason(context.Background(), fails, "7"); got != "" {
		t.Errorf("scontrol fails: %q", got)
	}
	if got := slurmReason(context.Background(), fails, "-M x"); got != "" {
		t.Errorf("no job id: %q", got)
	}
	// It ends the explanation of a SIGKILL that was not for memory.
	root := counters(2, "3", "8")
	run := func(context.Context, string, ...string) ([]byte, error) {
		return []byte("JobId=7 JobState=COMPLETING Reason=TimeLimit"), nil
	}
	w := newWatcher(Options{Root: root, SlurmJob: "7", Slurm: run})
	w.Add(Target{Attempt: 1, Pid: 10}, w.now)
	w.seconds(1, nil)
	if d := w.Killed(context.Background(), End{Attempt: 1, At: w.now}); !strings.Contains(d.Text, "; Slurm ended job 7 at its time limit") {
		t.Errorf("%q", d.Text)
	}
}

// TestRealKill kills a real process, with this machine's own counters.
func TestRealKill(t *testing.T) {
	r := start(t, role(t, "sleep"))
	w := newWatcher(Options{Root: os.DirFS("/")})
	w.Add(Target{Attempt: 1, Rank: 1, Pid: r.Process.Pid}, time.Now())
	w.Step(time.Now())
	r.signal(t, syscall.SIGKILL)
	r.Wait()
	usage := r.ProcessState.SysUsage().(*syscall.Rusage)
	d := w.Killed(context.Background(), End{Attempt: 1, Rank: 1, At: time.Now(), MaxRSS: usage.Maxrss << 10})
	t.Log(d.Sentence(1))
	if d.Kills == Unknown {
		t.Skip("this machine's counters of kills cannot be read")
	}
	if d.Memory != group.EnoughMemory || !strings.HasPrefix(d.Text, "not the kernel's OOM killer (oom_kill ") || d.Used < 1<<20 {
		t.Errorf("%+v", d)
	}
}

// TestRealOutOfMemory lets a real process meet the limit of a control group of its own, as
// far as this machine allows to make one, with the kernel's log and without.
func TestRealOutOfMemory(t *testing.T) {
	const limit = 96 << 20
	folder, procs := makeGroup(t, limit)
	for _, logged := range []bool{false, true} {
		var kernel *KernelLog
		if logged {
			var err error
			if kernel, err = OpenKernelLog("/dev/kmsg"); err != nil {
				t.Skip(err)
			}
			defer kernel.Close()
		}
		command := role(t, "fill")
		gate, open, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer gate.Close()
		command.ExtraFiles = []*os.File{gate}
		r := start(t, command)
		if err := os.WriteFile(procs, []byte(strconv.Itoa(r.Process.Pid)), 0); err != nil {
			t.Skipf("a process cannot be moved into a control group here: %v", err)
		}
		// What it had before is counted where it was.
		had := readStatus(os.DirFS("/"), r.Process.Pid).rss
		w := newWatcher(Options{Root: os.DirFS("/"), Kernel: kernel, Remedy: "try --offload-dit file, or more memory"})
		w.Add(Target{Attempt: 1, Rank: 1, Pid: r.Process.Pid}, time.Now())
		open.Close()
		for range 2000 {
			w.Step(time.Now())
			if p, err := readProcess(w.Root, r.Process.Pid); err != nil || p.state == "Z" {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		r.Wait()
		usage := r.ProcessState.SysUsage().(*syscall.Rusage)
		if status := r.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
			t.Fatalf("ended by %v, want SIGKILL at %d MiB", status, limit>>20)
		}
		d := w.Killed(context.Background(), End{Attempt: 1, Rank: 1, At: time.Now(), MaxRSS: usage.Maxrss << 10})
		t.Log(d.Sentence(1))
		t.Logf("log %q", d.Log)
		if d.Memory != group.OutOfMemory || d.Limit != limit || d.Used < limit*8/10 || d.Used > limit+had || d.Kills != 1 {
			t.Errorf("%+v, want 1 kill at %d and %d from before", d, limit, had)
		}
		if !strings.Contains(d.Text, "cgroup /"+folder) || !strings.Contains(d.Text, " limit 96 MiB, rank used ") {
			t.Errorf("%q does not say which group, and its limit", d.Text)
		}
		if logged && kernel.ours && !strings.Contains(d.Log, "out of memory: Killed process "+strconv.Itoa(r.Process.Pid)) {
			t.Errorf("the kernel's log says %q", d.Log)
		}
	}
}

// makeGroup makes a control group with a limit of memory, and returns its name and the file
// that takes processes.
func makeGroup(t *testing.T, limit int) (name, procs string) {
	t.Helper()
	name = "wanrun-watch-test-" + strconv.Itoa(os.Getpid())
	for _, kind := range []struct{ mount, limit, swap string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max"},
	} {
		folder := filepath.Join(kind.mount, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			for range 100 { // the kernel needs a moment after the last process
				if os.Remove(folder) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("control group %s is left", folder)
		})
		if err := os.WriteFile(filepath.Join(folder, kind.limit), []byte(strconv.Itoa(limit)), 0); err != nil {
			continue
		}
		swap := strconv.Itoa(limit)
		if kind.limit == "memory.max" {
			swap = "0"
		}
		os.WriteFile(filepath.Join(folder, kind.swap), []byte(swap), 0) // may be missing
		return name, filepath.Join(folder, "cgroup.procs")
	}
	t.Skip("this user cannot make a control group with a limit of memory here")
	return "", ""
}
