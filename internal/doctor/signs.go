package doctor

import (
	"regexp"
	"strings"
)

// Kind is what a finding is about.
type Kind string

// The kinds of findings.
const (
	HostMemory    Kind = "host_out_of_memory"
	Killed        Kind = "killed" // by SIGKILL, without a word on by whom
	OtherKilled   Kind = "other_program_killed"
	DeviceMemory  Kind = "device_out_of_memory"
	PinnedMemory  Kind = "pinned_memory_refused"
	TimeLimit     Kind = "time_limit"
	Preempted     Kind = "preempted"
	Cancelled     Kind = "cancelled"
	NodeFailed    Kind = "node_failed"
	NoSuchNode    Kind = "cannot_be_scheduled"
	Evicted       Kind = "evicted"
	SharedMemory  Kind = "shared_memory_too_small"
	BusError      Kind = "bus_error"
	Crash         Kind = "crash"
	DeviceLost    Kind = "device_failure"
	DeviceFault   Kind = "device_fault"
	NoDriver      Kind = "no_driver"
	OldDriver     Kind = "driver_too_old"
	TooManyRanks  Kind = "more_ranks_than_gpus"
	NoKernel      Kind = "gpu_not_supported"
	HeadsDivide   Kind = "heads_do_not_divide"
	RankProduct   Kind = "degrees_and_ranks_differ"
	BadSize       Kind = "size_not_supported"
	NeedsGroup    Kind = "flag_needs_several_ranks"
	NoFile        Kind = "file_missing"
	BadCheckpoint Kind = "checkpoint_broken"
	WrongModel    Kind = "wrong_checkpoint"
	NoModule      Kind = "python_module_missing"
	NoAttention   Kind = "flash_attention_missing"
	DiskFull      Kind = "disk_full"
	OutputLost    Kind = "output_lost"
	PortInUse     Kind = "port_in_use"
	NoRendezvous  Kind = "nodes_do_not_meet"
	NetworkSetup  Kind = "network_setup"
	OpenFiles     Kind = "too_many_open_files"
	Threads       Kind = "too_many_processes"
	Timeout       Kind = "collective_timeout"
	PeerLost      Kind = "peer_lost"
	Terminated    Kind = "terminated"
	Interrupted   Kind = "interrupted"
	Hangup        Kind = "terminal_closed"
	RankFailed    Kind = "rank_failed"
	Refused       Kind = "refused_by_plan"
	Usage         Kind = "usage"
	BadInput      Kind = "bad_input"
	Retry         Kind = "retry_later"
	Hang          Kind = "hang"
	CannotStart   Kind = "cannot_start"
	Bug           Kind = "bug"
	PythonError   Kind = "python_error"
	Said          Kind = "said_by_wanrun"
	Stopped       Kind = "stopped_without_a_word"
)

// Weights say what explains what: of several signs the lightest is the cause, of equal
// ones the first.
const (
	root        = 10 // needs no other explanation
	general     = 30 // an error whose text is all there is to know
	byKill      = 40 // a SIGKILL, which something else may explain
	other       = 45
	waiting     = 50 // a rank waited for one that did not come
	peer        = 60 // a rank lost another
	consequence = 70
)

// rule is one row of the table of signs.
type rule struct {
	kind   Kind
	weight int
	any    []string // in the line, in lower case: one of these
	all    []string // and all of these
	not    []string // and none of these
	take   func(*sign)
}

// sign is a line that says something.
type sign struct {
	rule   *rule
	kind   Kind
	weight int
	line   line
	phase  string
	rank   int
	step   int
	steps  int

	pid, signal                  int64
	need, free, total            int64 // bytes
	reserved, allocated, foreign int64 // bytes: of torch's, and of other processes
	limit, used                  int64 // bytes of host memory
	name                         string
	inGroup                      bool // a control group's limit was met
	ours                         bool // wanrun says it
	times                        int
}

var rules = []rule{
	// The kernel's log and those who read it.
	{kind: HostMemory, weight: root, any: []string{"out of memory: killed process "}, take: takeKernelKill},
	{kind: HostMemory, weight: root, any: []string{"oom_kill event", "oom-kill event", "some of the step tasks have been oom killed", "some of your processes may have been killed by the cgroup out-of-memory handler"}},
	{kind: HostMemory, weight: root, any: []string{"task"}, all: []string{"srun: error", ": out of memory"}},
	{kind: HostMemory, weight: root, any: []string{"exceeded memory limit", "exceeded job memory limit", "exceeded step memory limit"}, take: takeSlurmLimit},
	{kind: HostMemory, weight: root, any: []string{"oomkilled", "out_of_memory"}, not: []string{"device_out_of_memory", "host_out_of_memory", "cuda", "cudnn", "cublas"}},
	{kind: HostMemory, weight: root, any: []string{"systemd-oomd", "earlyoom"}, all: []string{"kill"}},
	{kind: HostMemory, weight: root, any: []string{"defaultcpuallocator: can't allocate memory", "defaultcpuallocator: not enough memory"}, take: func(s *sign) { s.need = firstSize(s.line.text) }},
	{kind: HostMemory, weight: root, any: []string{"cannot allocate memory", "std::bad_alloc", "memoryerror"}, not: []string{"cuda", "shared memory", "pin"}},
	{kind: Evicted, weight: root, any: []string{"the node was low on resource", "was evicted", "reason: evicted"}},

	// Slurm.
	{kind: TimeLimit, weight: root, any: []string{"due to time limit"}},
	{kind: Preempted, weight: root, any: []string{"due to preemption"}},
	{kind: NodeFailed, weight: root, any: []string{"due to node failure", "node failure on"}},
	{kind: Cancelled, weight: general, any: []string{"cancelled at"}, all: []string{"***"}, not: []string{"due to"}},
	{kind: NoSuchNode, weight: root, any: []string{"requested node configuration is not available", "memory required by task is not available", "more processors requested than permitted", "invalid generic resource"}},

	// Device memory.
	{kind: DeviceMemory, weight: root, any: []string{"cuda out of memory", "cuda error: out of memory", "cuda_error_out_of_memory", "cudaerrormemoryallocation", "hip out of memory", "cublas_status_alloc_failed", "cudnn_status_alloc_failed"}, take: takeTorch},
	{kind: DeviceMemory, weight: root, any: []string{"'out of memory'", "failed to cuda calloc", "ncclcudamalloc"}, all: []string{"nccl"}, take: takeTorch},
	{kind: DeviceMemory, weight: root, any: []string{"cuda driver error: out of memory"}, take: takeTorch},
	{kind: PinnedMemory, weight: general, any: []string{"cudahostalloc", "cuda_host_alloc", "pin_memory", "cudahostregister"}, all: []string{"error"}},

	// The device and its driver.
	{kind: DeviceLost, weight: root, any: []string{"fallen off the bus", "gpu is lost", "uncorrectable ecc", "double bit ecc", "row remapping", "unable to determine the device handle"}, take: takeXid},
	{kind: DeviceLost, weight: root, any: []string{"nvrm: xid"}, not: []string{"): 13,", "): 31,", "): 43,", "): 45,"}, take: takeXid},
	{kind: DeviceFault, weight: root, any: []string{"illegal memory access", "device-side assert", "misaligned address", "unspecified launch failure"}},
	{kind: DeviceFault, weight: consequence, any: []string{"nvrm: xid"}, take: takeXid}, // 13, 31, 43, 45: a program's fault
	{kind: OldDriver, weight: root, any: []string{"driver on your system is too old", "driver version is insufficient", "cuda driver version is insufficient", "forward compatibility was attempted"}},
	{kind: NoDriver, weight: root, any: []string{"found no nvidia driver", "no cuda gpus are available", "torch not compiled with cuda enabled", "libcuda.so.1: cannot open", "couldn't communicate with the nvidia driver", "no cuda-capable device is detected"}},
	{kind: TooManyRanks, weight: root, any: []string{"invalid device ordinal", "duplicate gpu detected"}},
	{kind: NoKernel, weight: root, any: []string{"no kernel image is available for execution", "flashattention only supports ampere"}},

	// What was asked for.
	{kind: HeadsDivide, weight: root, any: []string{"cannot be divided evenly by", "heads must be divisible", "num_heads must be divisible"}},
	{kind: RankProduct, weight: root, any: []string{"should be equal to the world size", "world_size must be equal", "size must be equal to the world size"}},
	{kind: NeedsGroup, weight: root, any: []string{"not supported in non-distributed environments"}},
	{kind: BadSize, weight: root, any: []string{"unsupport size", "argument --size: invalid choice", "unsupport frame_num"}},
	{kind: Usage, weight: root, any: []string{"generate.py: error:", "error: unrecognized arguments", "please specify the checkpoint directory"}},

	// Output, before what a missing file may also be.
	{kind: OutputLost, weight: general, any: []string{"cache_video failed", "cache_image failed", "can't be cast to", "could not find encoder"}},

	// Checkpoints and files.
	{kind: BadCheckpoint, weight: root, any: []string{"safetensorerror", "headertoolarge", "metadataincompletebuffer", "invalidheaderdeserialization", "failed finding central directory", "unexpected pos", "invalid load key", "is it a git-lfs pointer", "git-lfs.github.com"}},
	{kind: WrongModel, weight: root, any: []string{"size mismatch for", "error(s) in loading state_dict", "some weights of the model checkpoint", "some weights of wanmodel were not initialized"}},
	{kind: NoFile, weight: general, any: []string{"filenotfounderror", "no such file or directory", "error no file named", "does not appear to have a file named"}, not: []string{"/dev/shm", "libcuda"}, take: takeFile},
	{kind: NoAttention, weight: root, any: []string{"assert flash_attn", "flash_attn_2_available", "no module named 'flash_attn", "flash_attn_2_cuda"}},
	{kind: NoModule, weight: general, any: []string{"modulenotfounderror", "importerror: cannot import name"}},

	{kind: DiskFull, weight: root, any: []string{"no space left on device", "disk quota exceeded", "errno 28", "errno 122"}, not: []string{"/dev/shm", "shared memory"}},

	// Shared memory, limits, network.
	{kind: SharedMemory, weight: root, any: []string{"insufficient shared memory", "error while creating shared memory segment", "unable to open shared memory object"}},
	{kind: SharedMemory, weight: root, any: []string{"/dev/shm"}, all: []string{"no space left on device"}},
	{kind: BusError, weight: general, any: []string{"bus error", "signal 7 (sigbus)", "sigbus"}},
	{kind: OpenFiles, weight: root, any: []string{"too many open files", "errno 24"}},
	{kind: Threads, weight: general, any: []string{"can't start new thread", "pthread_create failed", "fork: retry", "resource temporarily unavailable"}, not: []string{"socket"}},
	{kind: PortInUse, weight: root, any: []string{"address already in use", "eaddrinuse"}},
	{kind: NoRendezvous, weight: root, any: []string{"rendezvoustimeouterror", "rendezvousconnectionerror", "timed out trying to connect to", "client socket has timed out", "failed to connect to the tcpstore", "nodes, missing node"}},
	{kind: NetworkSetup, weight: root, any: []string{"no route to host", "network is unreachable", "name or service not known", "temporary failure in name resolution", "no socket interface found", "bootstrap : no socket interface", "nodename nor servname"}},

	// Signs that something else explains, if there is anything else.
	{kind: Timeout, weight: waiting, any: []string{"watchdog caught collective operation timeout", "collective operation timeout", "ran for", "heartbeatmonitor", "ncclcommwatchdog"}, all: []string{"timeout"}, take: takeCollective},
	{kind: Timeout, weight: waiting, any: []string{"watchdog got stuck", "heartbeat monitor timed out", "some nccl operations have failed or timed out"}},
	{kind: NetworkSetup, weight: waiting, any: []string{"ncclsystemerror", "unhandled system error"}},
	{kind: DeviceFault, weight: waiting, any: []string{"unhandled cuda error", "ncclunhandledcudaerror"}},
	{kind: PeerLost, weight: peer, any: []string{"connection closed by remote peer", "connection reset by peer", "connection closed by peer", "broken pipe", "ncclremoteerror", "remote process exited", "net/ib : got completion"}},
	{kind: PeerLost, weight: peer, any: []string{"lost contact with rank", "peer lost", "is lost: "}},

	// Ends of processes.
	{kind: Killed, weight: byKill, any: []string{"signal 9 (sigkill)", "exitcode: -9", "exitcode -9", "exit code 137", "exited with code 137", "exit status 137", "died with <signals.sigkill", "signal: killed"}, take: takeExit},
	{kind: Killed, weight: byKill, any: []string{"exitcode"}, all: []string{": -9"}, take: takeExit},
	{kind: Killed, weight: byKill, any: []string{": killed"}, all: []string{"srun: error"}, take: takeExit},
	{kind: Crash, weight: general, any: []string{"segmentation fault", "signal 11 (sigsegv)", "signal 6 (sigabrt)", "segfault at", "core dumped", "fatal python error"}, take: takeExit},
	{kind: Crash, weight: general, any: []string{"exitcode"}, all: []string{": -11"}, take: takeExit},
	{kind: Crash, weight: waiting, any: []string{"exitcode"}, all: []string{": -6"}, take: takeExit}, // NCCL's watchdog aborts so
	{kind: BusError, weight: general, any: []string{"exitcode"}, all: []string{": -7"}, take: takeExit},
	{kind: Hangup, weight: root, any: []string{"got signal: 1", "received 1 death signal", "received sighup", "signal 1 (sighup)"}},
	{kind: Interrupted, weight: general, any: []string{"keyboardinterrupt", "got signal: 2", "received 2 death signal", "^c"}},
	{kind: Terminated, weight: other, any: []string{"got signal: 15", "received 15 death signal", "signal 15 (sigterm)", "signalexception"}},
	{kind: RankFailed, weight: consequence, any: []string{"exitcode"}, all: []string{"rank"}, take: takeExit},
	{kind: RankFailed, weight: consequence, any: []string{"childfailederror", "exited with exit code", "exitcode  :"}, take: takeExit},
}

// matches holds a line against a rule.
func (r *rule) matches(lower string) bool {
	found := false
	for _, s := range r.any {
		if strings.Contains(lower, s) {
			found = true
			break
		}
	}
	if !found {
		return false
	}
	for _, s := range r.all {
		if !strings.Contains(lower, s) {
			return false
		}
	}
	for _, s := range r.not {
		if strings.Contains(lower, s) {
			return false
		}
	}
	return true
}

// bareKilled is all that a shell says: "Killed", or "run.sh: line 3: 4123 Killed   python …".
var bareKilled = regexp.MustCompile(`^(?:\S+: line \d+:\s+(\d+) )?Killed(?:\s{2,}.*)?$|^\[\d+\]\+?\s+(?:\d+ )?Killed\s`)

// read returns what a line says, nil if nothing.
func read(l line) *sign {
	s := &sign{line: l, rank: l.rank, pid: unknown, signal: unknown, need: unknown, free: unknown, total: unknown, reserved: unknown,
		allocated: unknown, foreign: unknown, limit: unknown, used: unknown, times: 1}
	if m := bareKilled.FindStringSubmatch(l.text); m != nil {
		s.kind, s.weight = Killed, byKill
		if m[1] != "" {
			s.pid = int64(atoi(m[1]))
		}
		return s
	}
	if s.fromWanrun() {
		return s
	}
	for i := range rules {
		r := &rules[i]
		if !r.matches(l.lower) {
			continue
		}
		s.rule, s.kind, s.weight = r, r.kind, r.weight
		if r.take != nil {
			r.take(s)
		}
		return s
	}
	// The last line of a traceback says what it was, "ValueError: …"; others are not known.
	if pythonError.MatchString(l.text) {
		s.kind, s.weight = PythonError, general
		return s
	}
	return nil
}

var pythonError = regexp.MustCompile(`^(?:[a-z_][\w.]{0,60}\.)?[A-Z]\w{0,40}(?:Error|Exception): .`)

// takeTorch reads torch's account of device memory, in either of its wordings:
//
//	CUDA out of memory. Tried to allocate 3.96 GiB. GPU 0 has a total capacity of 23.65 GiB of which 1.20 GiB is free. Process 77 has 20.00 GiB
//	memory in use. … Of the allocated memory 17.90 GiB is allocated by PyTorch, and 3.96 GiB is reserved by PyTorch but unallocated. …
//	CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 23.69 GiB total capacity; 21.20 GiB already allocated; 512.00 MiB free; 21.90 GiB reserved in total by PyTorch) …
func takeTorch(s *sign) {
	text := s.line.text
	s.need = sizeAfter(text, "Tried to allocate ")
	if s.total = sizeAfter(text, "total capacity of "); s.total == unknown {
		s.total = sizeBefore(text, " total capacity")
	}
	if s.free = sizeBefore(text, " is free"); s.free == unknown {
		s.free = sizeBefore(text, " free")
	}
	if s.allocated = sizeBefore(text, " is allocated by PyTorch"); s.allocated == unknown {
		s.allocated = sizeBefore(text, " already allocated")
	}
	if s.reserved = sizeBefore(text, " is reserved by PyTorch but unallocated"); s.reserved == unknown {
		if all := sizeBefore(text, " reserved in total by PyTorch"); all != unknown && s.allocated != unknown && all >= s.allocated {
			s.reserved = all - s.allocated
		}
	}
	// The line lists each process that uses the device; one of them is this one.
	own, all := sizeAfter(text, "this process has "), int64(0)
	for _, m := range otherProcess.FindAllStringSubmatch(text, 16) {
		n := firstSize(m[2])
		if n == unknown || all+n < all {
			continue
		}
		all += n
		if own == unknown && s.allocated != unknown && n >= s.allocated {
			own, all = n, all-n // older releases do not say which is this one
			continue
		}
		s.pid = int64(atoi(m[1]))
	}
	if all > 0 {
		s.foreign = all
	}
}

var otherProcess = regexp.MustCompile(`Process (\d{1,9}) has (\d{1,15}(?:\.\d{1,6})? [KMGT]iB) memory in use`)

// killedLine is the kernel's: "Memory cgroup out of memory: Killed process 30 (python3) total-vm:…kB, anon-rss:…kB, file-rss:…kB, …".
var killedLine = regexp.MustCompile(`Killed process (\d{1,9}),? \(([^)]{0,64})\)`)

func takeKernelKill(s *sign) {
	m := killedLine.FindStringSubmatch(s.line.text)
	if m == nil {
		return
	}
	s.pid, s.name = int64(atoi(m[1])), m[2]
	s.inGroup = strings.Contains(s.line.lower, "memory cgroup out of memory")
	for _, what := range []string{"anon-rss:", "file-rss:", "shmem-rss:"} {
		if n := numberAfter(s.line.text, what); n != unknown && n < 1<<40 {
			s.used = max(s.used, 0) + n<<10
		}
	}
	for _, name := range []string{"python", "pt_main", "wan", "torchrun", "pt_elastic", "generate"} {
		if strings.HasPrefix(strings.ToLower(s.name), name) {
			return
		}
	}
	s.kind, s.weight = OtherKilled, other
}

// takeSlurmLimit reads "Step 12.0 exceeded memory limit (67412992 > 67108864), being killed", in KiB.
func takeSlurmLimit(s *sign) {
	if n := numberAfter(s.line.text, "("); n != unknown && n < 1<<40 {
		s.used = n << 10
	}
	if n := numberAfter(s.line.text, "> "); n != unknown && n < 1<<40 {
		s.limit = n << 10
	}
	s.inGroup = true
}

func takeXid(s *sign) {
	if n := numberAfter(s.line.text, "): "); n != unknown {
		s.signal = n // the Xid
	}
}

func takeFile(s *sign) {
	if i := strings.LastIndex(s.line.text, ": '"); i >= 0 {
		s.name = strings.Trim(s.line.text[i+2:], "' ")
	}
}

var collective = regexp.MustCompile(`OpType=(\w{1,40})`)

func takeCollective(s *sign) {
	if m := collective.FindStringSubmatch(s.line.text); m != nil {
		s.name = m[1]
	}
	if n := numberAfter(s.line.text, "[Rank "); n != unknown && n < 1<<16 {
		s.rank = int(n)
	}
}

// takeExit reads torchrun's "failed (exitcode: -9) local_rank: 3 (pid: 4123)" and srun's "node1: task 3: Killed".
func takeExit(s *sign) {
	lower := s.line.lower
	for _, name := range []string{"local_rank: ", "task "} {
		if n := numberAfter(lower, name); n != unknown && n < 1<<16 {
			s.rank = int(n)
			break
		}
	}
	for _, name := range []string{"pid: ", "received by pid "} {
		if n := numberAfter(lower, name); n != unknown && n < 1<<31 {
			s.pid = n
			break
		}
	}
}
