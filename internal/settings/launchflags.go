package settings

import (
	"slices"

	"github.com/wanrun/wanrun/internal/placement"
)

// Groups of the flags that say how ranks are started and ended.
const (
	groupNodes = "Nodes"
	groupEnds  = "Ends, restarts and hangs"
	groupLogs  = "Output of the ranks"
)

// launchFlags are those that any program's ranks can have.
func launchFlags() []Flag {
	return slices.Concat(nodeFlags(), endFlags(), logFlags())
}

func nodeFlags() []Flag {
	return []Flag{
		{Name: "nnodes", Kind: Number, Group: groupNodes, Help: "nodes; by default what Slurm, Kubernetes or torchrun's variables say, else 1"},
		{Name: "node-rank", Value: "N|auto", Group: groupNodes, Help: "this node's number, from 0"},
		{Name: "rdzv", Other: []string{"rdzv-endpoint"}, Value: "HOST:PORT", Group: groupNodes,
			Help: "where node 0 is to be met, or file:/shared/path; by default from the scheduler"},
		{Name: "hosts", Kind: File, Group: groupNodes, Local: true,
			Help: "a hostfile (HOST slots=N), the first being this node: start wanrun on the others by --ssh"},
		{Name: "ssh", Value: "COMMAND", Group: groupNodes, Help: "how --hosts starts a command on a host; by default ssh -o BatchMode=yes"},
		{Name: "job-id", Other: []string{"rdzv-id"}, Value: "NAME", Group: groupNodes, Help: "the job's name, the same on all nodes"},
		{Name: "placement", Kind: Choice, Value: "SOURCE", Choices: placements(), Group: groupNodes,
			Help: "whom to ask for the number of nodes and this one's; auto asks one after the other"},
		{Name: "secret-file", Kind: File, Group: groupNodes, Help: "a file of mode 0600 with the job's secret, which nodes prove to each other; or WANRUN_SECRET"},
		{Name: "tls", Value: "auto|off|FILES", Group: groupNodes,
			Help: "between nodes: certificates made for the job, none, or CERT,KEY,CA"},
		{Name: "iface", Value: "NAME|CIDR", Group: groupNodes, Help: "the network interface between the nodes; by default that of the route to node 0"},
		{Name: "allow-skew", Kind: Switch, Group: groupNodes, Help: "let nodes take part whose build, flags or program differ from node 0's"},
		{Name: "join-timeout", Value: "DURATION", Group: groupNodes, Help: "how long nodes are waited for"},
		{Name: "bind", Value: "POLICY", Group: groupNodes,
			Help: "CPUs of each rank: none, node, socket, exclusive, core-complex, or a list as in 0-3;4-7"},
		{Name: "report-bindings", Kind: Switch, Group: groupNodes, Help: "say which CPUs each rank has"},
		{Name: "gpu-visibility", Kind: Choice, Choices: []string{"all", "one"}, Group: groupNodes,
			Help: "one lets each rank see its own GPU alone, as number 0"},
		{Name: "oversubscribe", Kind: Switch, Group: groupNodes, Help: "allow more ranks than GPUs"},
	}
}

func placements() []string {
	names := []string{"auto"}
	for _, s := range []placement.Source{placement.FromTorchrun, placement.FromTorchrunFlags, placement.FromMPI, placement.FromSlurm, placement.FromLWS,
		placement.FromJobSet, placement.FromPyTorchJob, placement.FromIndex, placement.Alone} {
		names = append(names, string(s))
	}
	return names
}

func endFlags() []Flag {
	return []Flag{
		{Name: "grace", Value: "DURATION", Group: groupEnds, Help: "how long stopped ranks may take to end by themselves, as in 10s"},
		{Name: "max-restarts", Kind: Number, Group: groupEnds, Help: "how often all ranks are started again after a failure, on all nodes together"},
		{Name: "retry-on", Value: "LIST", Group: groupEnds,
			Help: "which failures are worth a restart: signal, oom, node, hang, code=N, any; by default signal,node"},
		{Name: "hang-timeout", Value: "DURATION", Group: groupEnds, Help: "end the job when a rank makes no progress for so long; 0 waits for ever"},
		{Name: "timeout", Value: "DURATION", Group: groupEnds, Help: "end the job after so long; 0 does not"},
		{Name: "straggler-timeout", Value: "DURATION", Group: groupEnds, Help: "say who still runs so long after the first rank has ended; 0 does not"},
		{Name: "stop-before", Value: "DURATION", Group: groupEnds, Help: "stop so long before the scheduler's time limit; 0 does not"},
		{Name: "success", Kind: Choice, Choices: []string{"all", "rank0"}, Group: groupEnds, Help: "whose end decides"},
		{Name: "on-usr1", Kind: Choice, Choices: []string{"forward", "drain", "stop"}, Group: groupEnds,
			Help: "what SIGUSR1 does, which Slurm's --signal sends: pass it on to the ranks, which is the default of any program; save and end with 75, the default of our own; or end"},
	}
}

func logFlags() []Flag {
	return []Flag{
		{Name: "log-dir", Kind: Folder, Group: groupLogs, Help: "a folder for what each rank prints, DIR/JOB/attempt_0/rank_000.out and so on, and the report"},
		{Name: "log-max", Value: "SIZE", Group: groupLogs, Help: "start a rank's file anew at this size and keep the one before, as in 100M; 0 does not"},
		{Name: "show", Value: "RANKS", Group: groupLogs,
			Help: "which ranks are shown here: all, failed, or a list as in 0,4-7; by default 0, and what the others print to stderr"},
		{Name: "prefix", Value: "TEXT", Group: groupLogs,
			Help: "before each rank's line, with {rank}, {local}, {node}, {host}, {stream} and {time}; none for nothing"},
		{Name: "dedup", Kind: Switch, Group: groupLogs, Help: "show a line that several ranks print within a second once"},
		{Name: "redact", Kind: Switch, Group: groupLogs, Help: "blank out secrets in what the ranks print"},
		{Name: "metrics", Value: "ADDR", Group: groupLogs, Help: "serve /metrics (Prometheus), /healthz, /readyz and /status there, as in :9090 for loopback"},
		{Name: "trace", Kind: File, Group: groupLogs, Help: "write a Chrome trace of the launch"},
		{Name: "vram-log", Kind: File, Group: groupLogs, Help: "write what each rank takes of its GPU and of host memory, each second, as lines of JSON"},
	}
}

// RunFlags is the table of `wanrun run`.
func RunFlags() []Flag {
	return slices.Concat([]Flag{
		{Name: "nproc", Other: []string{"nproc-per-node"}, Value: "N|gpu|auto", Group: groupNodes,
			Help: "ranks on each node; auto is one for each GPU, or 1 where there is none"},
	}, launchFlags(), []Flag{
		{Name: "env", Value: "NAME=VALUE", Many: true, Group: groupProgram, Local: true, Help: "set a variable for the ranks; may be repeated"},
		{Name: "env-file", Kind: File, Group: groupProgram, Help: "a file of NAME=VALUE lines"},
		{Name: "chdir", Kind: Folder, Group: groupProgram, Help: "where the ranks start"},
		{Name: "device", Kind: Choice, Choices: []string{"auto", "cpu", "cuda"}, Group: groupProgram,
			Help: "cuda refuses more ranks than there are GPUs, cpu does not look at them"},
		{Name: "report", Kind: File, Group: groupLogs, Help: "a JSON file on how the run went (docs/report.md), also when it failed"},
	}, programFlags())
}

const groupProgram = "The program"
