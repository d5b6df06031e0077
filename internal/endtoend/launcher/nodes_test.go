package launcher

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func multiStart(t *testing.T) {
	best(t, func() []timing {
		all := agents(t, 2, setup{}, "env > $T/env.$RANK\nwhile [ ! -e $T/stop ]; do sleep 0.02; done", "--nproc", "2")
		all[0].pids(4)
		took := time.Since(all[1].started)
		all[0].touch("stop")
		for _, l := range all {
			l.wantCode(0)
		}
		for rank := range 4 {
			vars := variables(t, all[0], rank)
			for name, want := range map[string]int{"RANK": rank, "LOCAL_RANK": rank % 2, "GROUP_RANK": rank / 2, "GROUP_WORLD_SIZE": 2,
				"WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2} {
				if vars[name] != fmt.Sprint(want) {
					t.Errorf("rank %d: %s=%q, want %d", rank, name, vars[name], want)
				}
			}
			if vars["MASTER_ADDR"] != "127.0.0.1" || vars["MASTER_PORT"] == "" {
				t.Errorf("rank %d: MASTER_ADDR=%q MASTER_PORT=%q", rank, vars["MASTER_ADDR"], vars["MASTER_PORT"])
			}
		}
		all[0].clean()
		return []timing{{"start of the last rank, from the last agent's", took, 400 * time.Millisecond}}
	})
}

func multiRankFails(t *testing.T) {
	best(t, func() []timing {
		all := agents(t, 2, setup{}, "if [ $RANK = 3 ]; then\n"+waitForAll+"date +%s%N > $T/died; exit 3; fi\nexec sleep 100", "--nproc", "2")
		pids := all[0].pids(4)
		died := all[0].moment("died")
		ranks := gone(t, pids)
		for _, l := range all {
			l.wantCode(3)
		}
		wantReport(t, all[0], "rank 3 of 4", 3)
		all[0].clean()
		last := all[0].at
		if all[1].at.After(last) {
			last = all[1].at
		}
		return []timing{{"the others' end", ranks.Sub(died), time.Second}, {"the agents' end", last.Sub(ranks), time.Second}}
	})
}

// multiAgentKilled kills one of two agents; the other's ranks end, and it names the node.
func multiAgentKilled(victim int) func(*testing.T) {
	return func(t *testing.T) {
		all := agents(t, 2, setup{}, "exec sleep 100", "--nproc", "2")
		all[0].pids(4)
		at := all[victim].signal(syscall.SIGKILL)
		took := all[0].allGone().Sub(at)
		within(t, "the end of everything", took, 5*time.Second)
		other := all[1-victim]
		other.wantCode(69)
		other.wantSaid(fmt.Sprintf("node %d", victim))
		all[0].tidy()
	}
}

func multiNodeMissing(t *testing.T) {
	l := run(t, setup{}, "exit 0", "--nnodes", "2", "--node-rank", "0", "--nproc", "2", "--rdzv", freePort(t), "--job-id", "j", "--join-timeout", "11s")
	l.wantCode(75)
	var waiting, missing int
	for _, line := range l.stderr.stamps() {
		if strings.Contains(line.text, "1 of 2 nodes, missing node 1") {
			missing++
			if d := line.at.Sub(l.started); d > 9500*time.Millisecond && d < 10500*time.Millisecond {
				waiting++
			}
		}
	}
	if waiting != 1 || missing < 2 {
		t.Errorf("want a line after 10 s, and the same at the end\n%s", l.said())
	}
	l.clean()
}

// TestNodeRanks has two agents say the same number: both are refused, and named. Row 5.
func TestNodeRanks(t *testing.T) {
	addr, s := freePort(t), setup{dir: t.TempDir(), mark: newMark()}
	flags := func(node string) []string {
		return []string{"--nnodes", "3", "--node-rank", node, "--nproc", "1", "--rdzv", addr, "--job-id", "j", "--join-timeout", "4s"}
	}
	zero := run(t, s, "true", flags("0")...)
	one, other := run(t, s, "true", flags("1")...), run(t, s, "true", flags("1")...)
	for _, l := range []*launched{one, other} {
		if code := l.code(); code == 0 {
			t.Errorf("an agent of a number that another has ended with 0\n%s", l.said())
		}
		l.wantSaid("both say that they are node 1")
	}
	zero.wantCode(75)
	zero.wantSaid("both say that they are node 1", "missing node 1")
	zero.clean()
}

// TestForeignAgent has an agent of another job come: refused on both sides, with both
// names, and the job goes on. Row 29.
func TestForeignAgent(t *testing.T) {
	addr, s := freePort(t), setup{dir: t.TempDir(), mark: newMark()}
	flags := func(node, job string) []string {
		return []string{"--nnodes", "2", "--node-rank", node, "--nproc", "1", "--rdzv", addr, "--job-id", job, "--join-timeout", "20s"}
	}
	zero := run(t, s, "true", flags("0", "mine")...)
	foreign := run(t, s, "true", flags("1", "other")...)
	foreign.wantCode(64)
	foreign.wantSaid(`job "other"`, `job "mine"`)
	one := run(t, s, "true", flags("1", "mine")...)
	one.wantCode(0)
	zero.wantCode(0)
	zero.wantSaid(`job "other"`, `job "mine"`)
	zero.clean()
}

// TestSkew has an agent with other flags and one with another program come: the
// difference is named, and --allow-skew lets them in. Row 13.
func TestSkew(t *testing.T) {
	for _, c := range []struct {
		name    string
		flags   []string // of both
		other   []string // of node 1 alone
		code    int
		program string // of node 1
		says    string
	}{
		{"other flags", nil, []string{"--timeout", "9s"}, 64, "/bin/sh", "--timeout is given, node 0 has it not"},
		{"another program", nil, nil, 64, "/bin/cat", "program"},
		{"allowed", []string{"--allow-skew"}, []string{"--timeout", "9s"}, 0, "/bin/sh", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, s := freePort(t), setup{dir: t.TempDir(), mark: newMark()}
			args := func(node, program string, more ...string) []string {
				args := append([]string{"run", "--nnodes", "2", "--node-rank", node, "--nproc", "1", "--rdzv", addr, "--job-id", "j",
					"--join-timeout", "3s"}, append(more, c.flags...)...)
				return append(args, "--", program, "-c", "true")
			}
			zero := start(t, s, args("0", "/bin/sh")...)
			one := start(t, s, args("1", c.program, c.other...)...)
			one.wantCode(c.code)
			one.wantSaid(c.says)
			if c.code == 0 {
				zero.wantCode(0)
			} else {
				zero.wantCode(75)
				zero.wantSaid(c.says)
			}
			zero.clean()
		})
	}
}

// TestProgramMissingOnOneNode sees that nothing starts anywhere then. Row 9.
func TestProgramMissingOnOneNode(t *testing.T) {
	addr, s := freePort(t), setup{dir: t.TempDir(), mark: newMark()}
	if err := os.WriteFile(filepath.Join(s.dir, "program"), []byte("#!/bin/sh\necho > $T/started.$RANK\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--nnodes", "2", "--nproc", "1", "--rdzv", addr, "--job-id", "j", "--join-timeout", "10s"}
	zero := start(t, s, append(args, "--node-rank", "0", "--", "./program")...)
	one := start(t, s, append(args, "--node-rank", "1", "--chdir", t.TempDir(), "--", "./program")...)
	zero.wantCode(127)
	one.wantCode(127)
	zero.wantSaid("node 1", "does not exist")
	if started, err := filepath.Glob(filepath.Join(s.dir, "started.*")); err != nil || len(started) > 0 {
		t.Errorf("it started: %v (%v)", started, err)
	}
	zero.clean()
}

// TestSecretOffLoopback sees that nobody listens beyond this machine without a secret, and
// that nodes with different ones do not meet. Row 33.
func TestSecretOffLoopback(t *testing.T) {
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	l := run(t, setup{}, "true", "--nnodes", "2", "--node-rank", "0", "--nproc", "1", "--rdzv", "0.0.0.0:"+port, "--job-id", "j", "--join-timeout", "2s")
	l.wantCode(64)
	l.wantSaid("without a secret")
	addr, s := freePort(t), setup{dir: t.TempDir(), mark: newMark(), env: []string{"WANRUN_SECRET=a secret that is long enough 1"}}
	flags := func(node string) []string {
		return []string{"--nnodes", "2", "--node-rank", node, "--nproc", "1", "--rdzv", addr, "--job-id", "j", "--join-timeout", "3s"}
	}
	zero := run(t, s, "true", flags("0")...)
	s.env = []string{"WANRUN_SECRET=a secret that is long enough 2"}
	one := run(t, s, "true", flags("1")...)
	zero.wantCode(75)
	if code := one.code(); code == 0 {
		t.Errorf("an agent with another secret ended with 0\n%s", one.said())
	}
	one.wantSaid("secret")
	zero.clean()
}

// TestThreeNodes has the ranks in order over three agents that start in any order, all
// lines at node 0, with the nodes' names, and one count of restarts. Rows 6, 18, 26, 73, 80.
func TestThreeNodes(t *testing.T) {
	addr, s := freePort(t), setup{dir: t.TempDir(), mark: newMark()}
	var all [3]*launched
	for _, node := range []int{2, 0, 1} {
		all[node] = run(t, s, "[ $RANK$WANRUN_RESTART_COUNT = 40 ] && kill -KILL $$\n[ $WANRUN_RESTART_COUNT = 1 ] || exec sleep 100\n"+
			"echo \"$RANK $GROUP_RANK $LOCAL_RANK $TORCHELASTIC_RESTART_COUNT\"", "--nnodes", "3", "--node-rank", fmt.Sprint(node), "--nproc", "2", "--rdzv", addr,
			"--job-id", "j", "--show", "all", "--max-restarts", "1", "--log-dir", "logs")
	}
	for _, l := range all {
		l.wantCode(0)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	got := linesOf(all[0].stdout.String())
	slices.Sort(got)
	var want []string
	for rank := range 6 {
		want = append(want, fmt.Sprintf("[r%d %s:%d] %d %d %d 1", rank, host, rank%2, rank, rank/2, rank%2))
	}
	if !slices.Equal(got, want) {
		t.Errorf("node 0 shows %q, want %q\n%s", got, want, all[0].said())
	}
	for rank := range 6 {
		text := readFile(t, s.dir, "logs/j/attempt_1", fmt.Sprintf("rank_%03d.out", rank))
		if text != fmt.Sprintf("%d %d %d 1\n", rank, rank/2, rank%2) {
			t.Errorf("rank %d's file has %q", rank, text)
		}
	}
	all[0].clean()
}

// TestSecondAgentStopped has one node's agent told to end: all end, and the node is named.
func TestSecondAgentStopped(t *testing.T) {
	all := agents(t, 2, setup{}, "exec sleep 100", "--nproc", "2")
	all[0].pids(4)
	at := all[1].signal(sigTerm)
	within(t, "the end of everything", all[0].allGone().Sub(at), 5*time.Second)
	all[1].wantCode(143)
	all[0].wantCode(69)
	all[0].wantSaid("node 1")
}
