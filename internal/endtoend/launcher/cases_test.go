package launcher

import "testing"

// cases are the named cases of the comparison with other launchers, in its order.
var cases = []struct {
	name string
	run  func(*testing.T)
}{
	{"start_2", starts(2)},
	{"start_4", starts(4)},
	{"start_8", starts(8)},
	{"start_16", starts(16)},
	{"exit_3", dies(4, "exit 3", 3, "rank 1 of 4 exited with code 3")},
	{"exit_3_of_16", dies(16, "exit 3", 3, "rank 1 of 16 exited with code 3")},
	{"segv", dies(4, "kill -SEGV $$", 139, "rank 1 of 4 was killed by SIGSEGV")},
	{"abort", dies(4, "kill -ABRT $$", 134, "rank 1 of 4 was killed by SIGABRT")},
	{"kill9", dies(4, "kill -KILL $$", 137, "rank 1 of 4 was killed by SIGKILL")},
	{"rank_gets_term", dies(4, "kill -TERM $$", 143, "rank 1 of 4 was killed by SIGTERM")},
	{"root_cause_order", rootCauseOrder},
	{"ranks_ignore_term", ranksIgnoreTerm},
	{"grandchild_same_group", grandchild("sleep 100 &")},
	{"grandchild_own_session", grandchild("setsid sleep 100 &")},
	{"launcher_term", stopped(sigTerm, false, 143)},
	{"launcher_int", stopped(sigInt, false, 130)},
	{"launcher_ctrl_c_group", stopped(sigInt, true, 130)},
	{"launcher_hup", stopped(sigHup, false, 129)},
	{"launcher_quit", stopped(sigQuit, false, 131)},
	{"launcher_term_graceful", termGraceful},
	{"launcher_double_term", doubleTerm},
	{"launcher_usr1", passesOn(sigUSR1, "USR1")},
	{"launcher_usr2", passesOn(sigUSR2, "USR2")},
	{"launcher_kill9", launcherKilled("exec sleep 100")},
	{"launcher_kill9_stubborn", launcherKilled("trap '' TERM HUP INT; sleep 100; sleep 100")},
	{"launcher_kill9_grandchild", launcherKilled("setsid sleep 100 & sleep 100")},
	{"env", environment},
	{"args", arguments},
	{"not_found", notFound},
	{"early_exit_0", earlyExit},
	{"two_jobs", twoJobs},
	{"lines_whole", linesWhole},
	{"burst_then_death", burstThenDeath},
	{"line_latency", lineLatency},
	{"logdir_12", logFolder},
	{"stdin", standardInput},
	{"closed_pipe", closedPipe},
	{"restart", restarts},
	{"stopped_rank", stoppedRank},
	{"oom_kill", outOfMemory},
	{"multi_start", multiStart},
	{"multi_rank_fails", multiRankFails},
	{"multi_agent_killed", multiAgentKilled(1)},
	{"multi_agent0_killed", multiAgentKilled(0)},
	{"multi_node_missing", multiNodeMissing},
}

// TestCase runs them. Bars are those of docs/launcher.md, which are the best of what
// other launchers reach.
func TestCase(t *testing.T) {
	if len(cases) != 45 {
		t.Errorf("%d cases, want 45", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, c.run)
	}
}
