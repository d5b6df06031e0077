package doctor

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
)

// told is a finding in words.
type told struct {
	what, why string
	do        []string
	command   string
}

const planFirst = "`wanrun plan` with the same flags says before the start how much memory each rank and phase needs, and what fits"

// explain puts a sign into words.
func (a *analysis) explain(s *sign) told {
	switch s.kind {
	case HostMemory:
		return a.hostMemory(s)
	case Killed:
		return a.killed(s)
	case Stopped:
		return a.stopped(s)
	case OtherKilled:
		return told{what: fmt.Sprintf("The kernel killed another program (%s) because the machine had no memory left.", quote(s.name)),
			why: "Memory was short for everybody on this machine. The kernel chooses whom to kill: next time it may be the run.",
			do:  []string{"end what else uses memory on the machine, or give the job a machine of its own"}}
	case DeviceMemory:
		return a.deviceMemory(s)
	case Timeout, PeerLost, Hang, RankFailed:
		return a.waited(s)
	case Said:
		return told{what: "wanrun stopped: " + settings.Shorten(s.name, maxQuote), why: "The line says what it was.",
			do: []string{"do as the line says; with --log-dir DIR there is more to read for the doctor: wanrun doctor DIR"}}
	case HeadsDivide, RankProduct, NeedsGroup, BadSize, Usage, BadInput, Refused:
		return a.askedWrongly(s)
	}
	if t, ok := fixed[s.kind]; ok {
		if t.command == again {
			t.command = a.asked.command(a.asked.ranksChange())
		}
		t.do = append([]string{}, t.do...)
		if s.kind == NoFile && s.name != "" {
			t.what = fmt.Sprintf("A file is not there: %s.", quote(s.name))
		}
		if s.kind == DeviceLost && s.signal > 0 {
			t.what = fmt.Sprintf("The graphics card failed: its driver wrote Xid %d.", s.signal)
		}
		return t
	}
	return told{what: "The program stopped with an error of its own: " + settings.Shorten(strings.TrimSpace(s.line.text), maxQuote),
		why: "The doctor does not know this one. The lines above it in the log say where in the program it happened.",
		do:  []string{"read the lines before it: the first error counts, later ones mostly follow from it"}}
}

// quote makes a name of a log's safe and short.
func quote(name string) string { return fmt.Sprintf("%q", settings.Shorten(name, 120)) }

// hostMemory: the machine's memory, not the graphics card's.
func (a *analysis) hostMemory(s *sign) told {
	t := told{what: "The machine ran out of main memory (RAM), and the kernel killed the program. This is not the graphics card's memory."}
	refused := s.pid == unknown && (s.need != unknown || strings.Contains(s.line.lower, "cannot allocate memory") || strings.Contains(s.line.lower, "memoryerror"))
	switch {
	case refused:
		t.what = "The machine had not enough main memory (RAM) left to give. This is not the graphics card's memory."
	case s.inGroup:
		t.what = "The program used more main memory (RAM) than its job or container is allowed, and the kernel killed it. This is not the graphics card's memory."
	}
	switch {
	case s.used != unknown && s.limit != unknown:
		t.what += fmt.Sprintf(" It used %s of the %s allowed.", formatBytes(s.used), formatBytes(s.limit))
	case s.used != unknown:
		t.what += fmt.Sprintf(" It used %s.", formatBytes(s.used))
	case s.need != unknown:
		t.what += fmt.Sprintf(" It asked for %s more.", formatBytes(s.need))
	}
	t.why = a.whyHost(s)
	command, change := a.asked.lessHost()
	t.command = command
	t.do = append(t.do, change)
	t.do = append(t.do, a.howMuch(s)...)
	t.do = append(t.do, planFirst)
	return t
}

// whyHost says what needs host memory in a phase. Measured on the official program, and
// counted from its models' sizes.
func (a *analysis) whyHost(s *sign) string {
	ranks := max(a.asked.ranks(), 1)
	if s.ours {
		return "wanrun's own account is in the line quoted below and in the report."
	}
	const t5GB, keptGB, ditGB = 24.826, 11.4, 65.6
	switch s.phase {
	case start, loadT5:
		return fmt.Sprintf("The official program first fills T5, the text encoder, with random 32-bit numbers in main memory, on every rank: "+
			"about %.1f GB each, %.0f GB for %s, also with --t5_cpu and also for the 1.3B model. --t5_fsdp does not help at this moment.",
			t5GB, t5GB*float64(ranks), count(ranks, "rank"))
	case loadVAE, loadCLIP, loadDiT:
		kept := ""
		if a.asked.on("t5-cpu") {
			kept = fmt.Sprintf(" With --t5_cpu each rank also keeps T5 in main memory, %.1f GB, %.0f GB for %s.", keptGB, keptGB*float64(ranks), count(ranks, "rank"))
		}
		return "Weights were being read while others were already in main memory, once for each rank." + kept
	case afterSteps, vaeDecode:
		return fmt.Sprintf("The bar shows 100 %%, but then the official program with --offload_model True (the default on one GPU) copies the whole model back to main "+
			"memory before it decodes: up to %.1f GB for a 14B model, which was not there before.", ditGB)
	case prepare, textEncode, imgEncode, vaeEncode, denoise:
		if a.asked.on("t5-cpu") {
			return fmt.Sprintf("With --t5_cpu each rank keeps T5 in main memory: %.1f GB, %.0f GB for %s.", keptGB, keptGB*float64(ranks), count(ranks, "rank"))
		}
		return "Models that are not on the graphics card are kept in main memory, once for each rank."
	}
	return "The official program needs most main memory when it builds T5 (24.8 GB on each rank) and when it copies the model back after the last step (up to 65.6 GB)."
}

func (a *analysis) howMuch(s *sign) []string {
	switch {
	case a.sawSlurm():
		return []string{"or ask Slurm for more memory: #SBATCH --mem=0 gives all of the node's"}
	case s.inGroup:
		return []string{"or raise the limit of the container: docker run --memory, or resources.limits.memory in Kubernetes"}
	}
	return []string{"or use a machine with more memory (WSL gives Linux half of it unless .wslconfig says more)"}
}

func (a *analysis) sawSlurm() bool {
	for _, s := range a.signs {
		if strings.Contains(s.line.lower, "srun:") || strings.Contains(s.line.lower, "slurmstepd") || strings.Contains(s.line.lower, "slurm") {
			return true
		}
	}
	return false
}

// killed: SIGKILL, and nobody says why.
func (a *analysis) killed(s *sign) told {
	t := told{what: "The program was killed from outside (SIGKILL): it could not say anything any more."}
	if s.ours {
		t.why = "wanrun found no sign that the kernel killed it for memory. Somebody or something sent the signal: a person, a batch system, or a daemon such as earlyoom."
		t.do = []string{"ask the batch system: sacct -j JOB -o State,ExitCode,MaxRSS", "start it again; with --max-restarts 1 wanrun does so itself"}
		return t
	}
	if s.weight == consequence {
		t.why = "That is the kernel's doing, see above."
		return t
	}
	t.why = "Nearly always that is the kernel, because main memory (RAM) ran out; the program's own log cannot show it. " + a.whyHost(s)
	t.do = append(t.do, "make sure: dmesg -T | grep -i 'killed process', or journalctl -k, or sacct -j JOB -o State,MaxRSS; give the doctor that output, too")
	command, change := a.asked.lessHost()
	t.command = command
	t.do = append(t.do, change)
	t.do = append(t.do, a.howMuch(s)...)
	t.do = append(t.do, planFirst)
	return t
}

// stopped: the log ends in the middle.
func (a *analysis) stopped(s *sign) told {
	t := told{what: "The log stops without an error and without saying that it finished."}
	if a.asked.ours {
		t.why = "The run still goes on, or the launcher itself was killed."
		t.do = []string{"`wanrun ps` shows runs that go on"}
		return t
	}
	t.why = "If the program does not run any more, it was most likely killed by the kernel, because main memory (RAM) ran out: the word \"Killed\" goes to the terminal, not to the log. " + a.whyHost(s)
	command, change := a.asked.lessHost()
	t.command = command
	t.do = []string{"make sure: dmesg -T | grep -i 'killed process', or sacct -j JOB -o State,MaxRSS; give the doctor that output, too", change, planFirst}
	return t
}

// deviceMemory: the graphics card's memory.
func (a *analysis) deviceMemory(s *sign) told {
	t := told{what: "The graphics card ran out of memory."}
	switch {
	case s.need != unknown && s.free != unknown && s.total != unknown:
		t.what += fmt.Sprintf(" It was asked for %s more; %s of its %s were free.", formatBytes(s.need), formatBytes(s.free), formatBytes(s.total))
	case s.need != unknown:
		t.what += fmt.Sprintf(" It was asked for %s more.", formatBytes(s.need))
	}
	const much = 1 << 30
	switch {
	case s.foreign != unknown && s.foreign >= much:
		t.why = fmt.Sprintf("Other programs hold %s of this card's memory", formatBytes(s.foreign))
		if s.pid > 0 {
			t.why += fmt.Sprintf(" (one is process %d)", s.pid)
		}
		t.why += "; without them it may fit. "
		t.do = append(t.do, "see who uses the card with nvidia-smi, and end it if it is yours: often a run that was stopped before")
	case s.need != unknown && s.reserved != unknown && s.reserved >= s.need:
		t.why = fmt.Sprintf("torch itself held %s that it did not use, but in pieces: the memory is fragmented. ", formatBytes(s.reserved))
		t.do = append(t.do, "for the python program: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True; wanrun reserves its memory in one piece and has no fragmentation")
	}
	t.why += a.whyDevice(s)
	command, change := a.asked.lessDevice(s.phase)
	t.command = command
	t.do = append(t.do, change, planFirst)
	if s.ours && (s.phase == vaeDecode || s.phase == write) {
		t.do = append([]string{"the latent of the last step is kept: do not start again from the beginning, see the line that the run ended with"}, t.do...)
	}
	return t
}

// whyDevice says what needs device memory in a phase.
func (a *analysis) whyDevice(s *sign) string {
	if s.ours {
		return "The report has the bytes of each phase by purpose, planned and used."
	}
	ranks := a.asked.ranks()
	switch s.phase {
	case vaeDecode:
		text := "All steps were done. The VAE decodes the whole picture size at once: about 7 GiB at 832x480 and 16.3 GiB at 1280x720, nearly the same for few frames as for many."
		if ranks > 1 {
			text += " Only rank 0 does it, so more cards do not help."
		}
		return text
	case vaeEncode:
		return "Before the first step the VAE encodes a video of the full length and size, on every rank: about 5.6 GiB at 832x480 and 13 GiB at 1280x720, beside all weights."
	case loadDiT, loadCLIP, loadVAE, loadT5:
		if a.asked.on("dit-fsdp") {
			return "Weights were being put on the card beside others that stay there."
		}
		return "The weights alone do not fit: the official program loads a 14B model with 32 bits a number, 53 to 61 GiB on each card, unless --dit_fsdp shares it out."
	case denoise:
		if ranks > 1 && !a.asked.on("dit-fsdp") {
			return "Each card holds the whole model (53 to 61 GiB for 14B); --ulysses_size shares out the work, not the weights."
		}
		return "The working memory of a step (about 7 GiB at 832x480 and 16 GiB at 1280x720 on one card) comes on top of the weights."
	case textEncode:
		return "T5 takes 10.6 GiB on the card, unless it is shared out (--t5_fsdp)."
	case write:
		return "The finished video is copied three times on the card before it is written."
	}
	return "The log does not show in which phase."
}

// waited: ranks that others let down.
func (a *analysis) waited(s *sign) told {
	switch {
	case s.kind == Hang:
		return told{what: "A rank made no progress for too long, and wanrun ended the run.",
			why: "It waits for something that does not come: a file system that does not answer, a device that hangs, or another rank. The stacks in the log folder show where each rank was.",
			do:  []string{"look at attempt_0/stacks in the log folder", "if it was only slow, raise --hang-timeout"}}
	case s.kind == RankFailed:
		return told{what: "A rank ended with an error, and torchrun ended the others.",
			why: "torchrun only says which one; the error itself stands further up, or in that rank's own log.",
			do:  []string{"look for the first Traceback of " + cmpRank(s.rank), "start torchrun with --redirects 3 --log-dir LOGS to have each rank's output apart, and give the doctor that folder"}}
	case s.kind == PeerLost:
		return told{what: "A rank lost its connection to another.",
			why: "The other one ended: its error is the cause, this only followed from it. If no rank has an error of its own, the network between the machines broke.",
			do:  []string{"give the doctor the logs of all ranks and machines", "dmesg on each machine says whether a program was killed or a device failed"}}
	}
	t := told{what: "Ranks waited for another one until a time limit, then gave up."}
	if s.name != "" {
		t.what = fmt.Sprintf("Ranks waited for another one in %s until a time limit, then gave up.", settings.Shorten(s.name, 40))
	}
	if s.weight > root && s.phase == afterSteps || s.phase == vaeDecode {
		t.why = "The steps were done: rank 0 decodes and writes the video alone, while the others wait for it, 10 minutes at most. A slow or failed decode on rank 0 looks like this."
		t.command = a.asked.command(a.asked.ranksChange())
		t.do = []string{"look at rank 0's log: an error there is the cause", "wanrun decodes on all ranks, and waits as long as there is progress"}
		return t
	}
	t.why = "The rank that did not come is the cause: it was killed, has an error of its own, or hangs. The ones that say \"timeout\" are the victims."
	t.do = []string{"find the rank without a timeout line: give the doctor the logs of all ranks", "dmesg on each machine says whether a program was killed or a device failed"}
	return t
}

func cmpRank(rank int) string {
	if rank < 0 {
		return "the rank that it names"
	}
	return fmt.Sprintf("rank %d", rank)
}

func count(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
