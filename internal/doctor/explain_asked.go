package doctor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
)

// again stands for the command line that was asked for, as wanrun has it.
const again = "again"

// askedWrongly: flags and inputs.
func (a *analysis) askedWrongly(s *sign) told {
	text := settings.Shorten(strings.TrimSpace(s.line.text), maxQuote)
	switch s.kind {
	case HeadsDivide:
		n, heads := a.asked.ranks(), a.asked.heads()
		t := told{what: "The number of ranks that share a sequence does not divide the model's heads.",
			why: "The official program gives each rank the same number of attention heads: the 14B models have 40 (1, 2, 4, 5, 8, 10, 20 or 40 ranks), the 1.3B model has 12 (1, 2, 3, 4, 6 or 12)."}
		changes := a.asked.ranksChange()
		if n > 1 && heads > 0 && heads%n != 0 {
			u := n // the largest part of the ranks that divides the heads and leaves 2 for guidance
			if n%2 == 0 && heads%(n/2) == 0 {
				u = n / 2
				changes["cfg-parallel"] = "2"
				t.do = append(t.do, fmt.Sprintf("run the two branches of guidance on two halves of the ranks, and %d ranks on each sequence (--cfg-parallel 2 --ulysses %d)", u, u))
			}
			changes["ulysses"] = strconv.Itoa(u)
		}
		t.do = append(t.do, "wanrun takes any number of ranks up to the number of heads; `--explain` says what an uneven one costs")
		t.command = a.asked.command(changes)
		return t
	case RankProduct:
		t := told{what: "--ulysses_size times --ring_size is not the number of processes that were started.",
			why: "Every process takes part in the work on one sequence, so both must be the same."}
		n := max(a.asked.nproc, 1)
		t.command = a.asked.command(map[string]string{"ulysses": strconv.Itoa(n), "ring": "", "nproc": strconv.Itoa(n)})
		t.do = []string{fmt.Sprintf("start as many processes as ulysses x ring; wanrun starts them itself: --ulysses %d alone is enough", n)}
		return t
	case NeedsGroup:
		return told{what: "A flag for several GPUs was given, but only one process was started.",
			why:     "--dit_fsdp, --t5_fsdp, --ulysses_size and --ring_size share work or weights among processes; python generate.py starts one.",
			do:      []string{"leave them out on one GPU, or start one process for each GPU: wanrun --nproc N does that itself"},
			command: a.asked.command(map[string]string{"ulysses": "", "ring": "", "dit-fsdp": "", "t5-fsdp": "", "nproc": "1"})}
	case BadSize:
		return told{what: "The size or the number of frames is not one that the official program takes: " + text,
			why: "It has a fixed list for each task. wanrun takes any size whose sides are multiples of 16, and 4n+1 frames.",
			do:  []string{"with wanrun give --size W*H and --frames as you want them"}, command: a.asked.command(a.asked.ranksChange())}
	case Refused:
		command, change := a.asked.lessDevice(s.phase)
		return told{what: "wanrun did not start, for its plan says that the run does not fit: " + settings.Shorten(s.name, maxQuote),
			why: "It needs more memory than there is. Better now than after an hour.",
			do:  []string{change, "`wanrun fit` searches for what fits on this machine"}, command: command}
	case BadInput:
		return told{what: "A picture, a prompt or the checkpoint cannot be used: " + settings.Shorten(s.name, maxQuote),
			why: "The line says which, and what was expected.", do: []string{"`wanrun doctor --ckpt-dir DIR` checks a checkpoint folder"}}
	}
	return told{what: "The command line is wrong: " + text, why: "The program did not start to work.", do: []string{"correct the flag that the line names; --help lists them all"}}
}

// fixed are the findings whose words do not depend on the log.
var fixed = map[Kind]told{
	PinnedMemory: {what: "Main memory could not be locked for fast copies to the graphics card.", why: "A process may lock only so much memory; in containers and on shared machines that is often little.",
		do: []string{"raise it: ulimit -l unlimited, docker run --ulimit memlock=-1, or LimitMEMLOCK=infinity for slurmd"}},
	TimeLimit: {what: "Slurm ended the job at its time limit.", why: "The job asked for less time than it took; nothing is wrong with the run itself.",
		do: []string{"ask for more: #SBATCH --time=HH:MM:SS", "let wanrun stop in time and save: --stop-before 2m with --max-restarts, or the scripts in deploy/slurm", "fewer --steps take less time"}, command: again},
	Preempted: {what: "Slurm took the machine away for a job with more priority (preemption).", why: "Nothing is wrong with the run; such jobs can be ended at any time.",
		do: []string{"submit with --requeue and let wanrun save when it is asked to end: the scripts in deploy/slurm", "use a partition or quality of service that is not preempted"}, command: again},
	Cancelled: {what: "The job was cancelled.", why: "Somebody used scancel or pressed Ctrl-C, or Slurm did so because another task of the step had failed.",
		do: []string{"if it was not you, look at the logs of the other tasks: the one that failed first counts"}},
	NodeFailed: {what: "Slurm lost a machine of the job.", why: "The machine crashed, was restarted, or lost its network. Nothing is wrong with the run.",
		do: []string{"submit it again; sbatch --requeue does so by itself", "tell the administrator which node it was"}, command: again},
	NoSuchNode: {what: "Slurm has no machine like the one that was asked for.", why: "The request for memory, CPUs or GPUs is more than any node has, or names a GPU type that is not there.",
		do: []string{"sinfo -o '%P %G %m %c %l' shows what there is", "ask for what one node has: #SBATCH --gpus-per-node, --mem, --cpus-per-task"}},
	Evicted: {what: "Kubernetes ended the pod because its machine ran out of memory or disk space.", why: "A pod that uses more than it requested is ended first.",
		do: []string{"set resources.requests.memory to what the run needs; `wanrun plan` says how much that is", "for disk: an emptyDir or volume that is large enough, and ephemeral-storage requests"}, command: again},
	SharedMemory: {what: "The shared memory folder /dev/shm is too small.", why: "Containers give it 64 MiB unless told otherwise, and torch's NCCL passes data between the processes through it.",
		do: []string{"docker run --shm-size=8g (or --ipc=host)", "in Kubernetes: an emptyDir with medium: Memory, mounted at /dev/shm", "wanrun's ranks pass data through memory of their own and do not need /dev/shm on a machine without GPUs"}, command: again},
	BusError: {what: "A process touched memory that is not there (bus error).", why: "Either /dev/shm was full (containers give it 64 MiB), or a file that was mapped became shorter, as when a checkpoint is replaced during the run, or its disk failed.",
		do: []string{"docker run --shm-size=8g", "do not write to the checkpoint folder while it is used; `wanrun doctor --ckpt-dir DIR` checks it", "dmesg shows errors of disks"}, command: again},
	Crash: {what: "A process crashed.", why: "That is a fault in a program or a library, or of the hardware: not of your settings.",
		do: []string{"note the versions of driver, CUDA and torch: mixtures that do not fit together are the usual reason", "dmesg shows which library it was in", "run it once more: if it crashes elsewhere each time, test the machine's memory"}},
	DeviceLost: {what: "The graphics card failed.", why: "The card or its connection is broken, too hot or without enough power; no setting of the run changes that.",
		do: []string{"restart the machine, or let the administrator reset the card", "nvidia-smi -q -d ECC,ROW_REMAPPER,TEMPERATURE shows its state", "if it comes back, take the card out of use: CUDA_VISIBLE_DEVICES without it"}},
	DeviceFault: {what: "A computation on the graphics card made an error and the card stopped the program.", why: "A fault in the program or in a library's kernel; what is reported after it says nothing, for the device is unusable by then.",
		do: []string{"CUDA_LAUNCH_BLOCKING=1 shows the operation that did it", "check that torch, flash-attn and the driver belong together"}},
	OldDriver: {what: "The graphics driver is too old for this CUDA.", why: "The program was built for a newer CUDA than the driver on this machine knows.",
		do: []string{"install a newer driver, or a torch for an older CUDA", "nvidia-smi shows in its head line which CUDA the driver knows"}},
	NoDriver: {what: "No graphics card can be used here.", why: "There is no NVIDIA driver, the container was started without its GPUs, or CUDA_VISIBLE_DEVICES is empty.",
		do: []string{"nvidia-smi must list the card", "in a container: docker run --gpus all; in Slurm: --gpus=1", "wanrun runs without a card, too: --device cpu"}},
	TooManyRanks: {what: "More processes were started than there are graphics cards.", why: "Each process takes the card of its own number; there is none of that number, or two have the same.",
		do: []string{"start as many processes as nvidia-smi -L lists: --nproc_per_node, --nproc", "see what CUDA_VISIBLE_DEVICES hides"}},
	NoKernel: {what: "The program's libraries do not support this graphics card.", why: "Their kernels were compiled for other generations of cards; flash-attention needs Ampere (RTX 30, A100) or newer.",
		do: []string{"install builds of torch and flash-attn for this card"}},
	BadCheckpoint: {what: "A file of the checkpoint is broken or not complete.", why: "Mostly a download that stopped early, or Git LFS pointers (small text files) in the place of the weights.",
		do: []string{"`wanrun doctor --ckpt-dir DIR` says which file it is", "download it again: huggingface-cli download Wan-AI/NAME --local-dir DIR goes on where it stopped; with git: git lfs pull"}},
	WrongModel: {what: "The weights are not those of the model that was asked for.", why: "Task and checkpoint do not belong together: t2v weights for an i2v task, 1.3B for 14B, or a checkpoint of another layout.",
		do: []string{"`wanrun doctor --ckpt-dir DIR` says what a folder holds", "leave --task out: wanrun takes it from the checkpoint"}},
	NoFile: {what: "A file is not there.", why: "The path is wrong as seen from this machine or container, or the checkpoint is not complete.",
		do: []string{"check the path; relative ones start at the folder in which the program was started", "`wanrun doctor --ckpt-dir DIR` says which files of a checkpoint are missing"}},
	NoModule: {what: "A python package is missing or of another version.", why: "The python environment is not the one that the official program asks for.",
		do: []string{"pip install -r requirements.txt in the same environment", "wanrun needs no python at all"}, command: again},
	NoAttention: {what: "flash-attn, a python package, is missing.", why: "The official program cannot compute attention without it; it must be compiled for the torch and CUDA that are installed.",
		do: []string{"pip install flash-attn --no-build-isolation, or a wheel for your torch and CUDA", "wanrun has its own attention and needs no python at all"}, command: again},
	DiskFull: {what: "The disk is full, or your quota is used up.", why: "A file could not be written any more: the output, a log, a download or a temporary file.",
		do: []string{"df -h and quota -s show where", "give --output on a disk with room, and TMPDIR for temporary files", "wanrun makes its output file before it computes anything"}, command: again},
	OutputLost: {what: "The video was computed, but could not be written: it is lost.", why: "The official program logs the error, says \"Finished\" and ends with exit code 0. Mostly the file name is not possible, as names made from prompts are, or ffmpeg lacks the encoder.",
		do: []string{"give a plain short name: --save_file out.mp4", "wanrun makes its output file before it computes anything, and ends with 73 if there is no file in the end"}, command: again},
	PortInUse: {what: "The network port on which the processes meet is taken.", why: "Another run on this machine uses it, or one that was not ended properly: torchrun's default is 29500 for everybody.",
		do: []string{"torchrun --rdzv-endpoint=localhost:0, or --master_port with a free number", "look for left-over processes: ss -ltnp | grep 29500", "wanrun uses no fixed port on one machine"}, command: again},
	NoRendezvous: {what: "The machines of the job did not meet in time.", why: "One was not started, started later, cannot reach the address, or a firewall is in between.",
		do: []string{"the line says who is missing, if anybody knows: look at the log of that machine", "the address must be node 0's as the others see it, and its port open: try nc -vz HOST PORT from another node", "--iface chooses the network, --join-timeout how long to wait"}},
	NetworkSetup: {what: "The network between the ranks could not be set up.", why: "An address or interface is wrong: a host name that cannot be looked up, or an interface that NCCL chose and that does not lead to the other machines.",
		do: []string{"NCCL_DEBUG=INFO shows which interface it takes, NCCL_SOCKET_IFNAME sets it", "with wanrun: --iface NAME or --iface 10.0.0.0/8", "in a container look at /dev/shm, too: df -h /dev/shm"}},
	OpenFiles: {what: "The process may not open more files.", why: "The limit for open files and connections is too low.",
		do: []string{"ulimit -n 65536 before the start, docker run --ulimit nofile=65536"}, command: again},
	Threads: {what: "No more processes or threads may be started.", why: "A limit of the user, the container (pids) or the machine is met.",
		do: []string{"ulimit -u, docker run --pids-limit=-1, or TasksMax= of systemd", "fewer threads for each rank: OMP_NUM_THREADS=4, or --threads 4 with wanrun"}, command: again},
	Terminated: {what: "The run was asked to end (SIGTERM).", why: "A batch system, a container's stop, or a person did that.",
		do: []string{"in Slurm: sacct -j JOB -o State,Elapsed,Timelimit says whether it was the time limit", "in Kubernetes: kubectl describe pod"}},
	Interrupted: {what: "The run was stopped with Ctrl-C.", why: "That is what Ctrl-C does.", do: []string{"nothing is wrong; start it again"}},
	Hangup: {what: "The terminal was closed (or the SSH connection broke), which ended the run.", why: "Programs that belong to a terminal get SIGHUP when it goes.",
		do: []string{"start it in tmux or screen, or with nohup: nohup … > run.log 2>&1 &"}, command: again},
	Retry: {what: "wanrun ended before it was done, as it was asked to, and can go on later.", why: "It was drained, or the nodes did not meet.",
		do: []string{"the last lines of the run name the command that goes on"}},
	CannotStart: {what: "wanrun's worker could not be started.", why: "The program is missing, not executable, or of another build than the launcher.",
		do: []string{"`wanrun doctor` without a log checks that", "build both together: make build"}},
	Bug: {what: "wanrun has a fault.", why: "Something happened that its own rules exclude.",
		do: []string{"please report it, with the report.json and the log folder"}},
}
