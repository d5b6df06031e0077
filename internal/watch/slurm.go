package watch

import (
	"context"
	"strings"

	"github.com/wanrun/wanrun/internal/slurm"
)

// slurmReason returns what Slurm says of a job that is being killed, "" if it knows of
// nothing. It asks scontrol, which answers as long as the job is there.
func slurmReason(ctx context.Context, run slurm.Command, job string) string {
	if strings.Trim(job, "0123456789") != "" {
		return ""
	}
	out, err := run(ctx, "scontrol", "show", "job", job, "-o")
	if err != nil {
		return ""
	}
	return parseReason(string(out[:min(len(out), 1<<16)]), job)
}

// parseReason reads JobState= and Reason= of "JobId=7 JobName=wan … JobState=COMPLETING
// Reason=TimeLimit …". The state of a job that Slurm still cleans up is COMPLETING; its
// reason stays.
func parseReason(out, job string) string {
	var state, reason, preempted string
	for _, field := range strings.Fields(out) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "JobState":
			state = value
		case "Reason":
			reason = value
		case "PreemptTime":
			preempted = value
		}
	}
	said := " (scontrol: JobState=" + printable(state, 32) + " Reason=" + printable(reason, 64) + ")"
	switch {
	case state == "TIMEOUT" || reason == "TimeLimit":
		return "Slurm ended job " + job + " at its time limit" + said + "; ask for more with --time"
	case state == "PREEMPTED" || preempted != "" && preempted != "None":
		return "Slurm preempted job " + job + said
	case state == "OUT_OF_MEMORY" || reason == "OutOfMemory":
		return "Slurm ended job " + job + " for memory" + said + "; ask for more with --mem"
	case state == "NODE_FAIL" || reason == "NodeDown":
		return "Slurm lost a node of job " + job + said
	case state == "DEADLINE" || reason == "DeadLine":
		return "Slurm ended job " + job + " at its deadline" + said
	case state == "CANCELLED":
		return "job " + job + " was cancelled, by scancel or by Slurm itself" + said
	case state == "COMPLETING" || state == "STOPPED" || state == "SUSPENDED":
		return "Slurm is ending or has stopped job " + job + said
	}
	return ""
}
