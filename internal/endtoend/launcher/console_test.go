package launcher

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const twoWords = `echo "out $RANK"; echo "err $RANK" >&2; sleep 0.1`

// sorted are the lines that two streams got, each by itself in order.
func sorted(l *launched) (out, err []string) {
	out, err = linesOf(l.stdout.String()), linesOf(l.stderr.String())
	slices.Sort(out)
	slices.Sort(err)
	return out, err
}

// TestShow sees which ranks the console shows, and how: rows 73, 78, 79 and 82.
func TestShow(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    []string
		out, err []string
	}{
		{"default", nil, []string{"[r0] out 0"}, []string{"[r0] err 0", "[r1] err 1", "[r2] err 2"}},
		{"all", []string{"--show", "all"}, []string{"[r0] out 0", "[r1] out 1", "[r2] out 2"}, []string{"[r0] err 0", "[r1] err 1", "[r2] err 2"}},
		{"a list", []string{"--show", "0,2"}, []string{"[r0] out 0", "[r2] out 2"}, []string{"[r0] err 0", "[r2] err 2"}},
		{"failed, and none did", []string{"--show", "failed"}, nil, nil},
		{"no prefix", []string{"--show", "1", "--prefix", "none"}, []string{"out 1"}, []string{"err 1"}},
		{"a template", []string{"--show", "1", "--prefix", "{rank}/{local} {stream}: "}, []string{"1/1 stdout: out 1"}, []string{"1/1 stderr: err 1"}},
		{"dedup", []string{"--show", "all", "--dedup"}, []string{"[r0] out 0", "[r1] out 1", "[r2] out 2"}, []string{"[r0] err 0", "[r1] err 1", "[r2] err 2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := run(t, setup{}, twoWords, append([]string{"--nproc", "3"}, c.flags...)...)
			l.wantCode(0)
			if out, err := sorted(l); !slices.Equal(out, c.out) || !slices.Equal(err, c.err) {
				t.Errorf("want stdout %q and stderr %q\n%s", c.out, c.err, l.said())
			}
		})
	}
}

// TestDedup sees that a line that all ranks print is shown once: row 79.
func TestDedup(t *testing.T) {
	l := run(t, setup{}, "sleep 0.1; echo the same; echo mine $RANK", "--nproc", "4", "--show", "all", "--dedup")
	l.wantCode(0)
	lines, _ := sorted(l)
	if want := []string{"(4 ranks) the same", "[r0] mine 0", "[r1] mine 1", "[r2] mine 2", "[r3] mine 3"}; !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}

// TestJSONLines sees that every line is an object: row 81.
func TestJSONLines(t *testing.T) {
	l := run(t, setup{}, twoWords, "--nproc", "2", "--show", "all", "--log-format", "json")
	l.wantCode(0)
	for _, stream := range []string{l.stdout.String(), l.stderr.String()} {
		lines := linesOf(stream)
		if len(lines) != 2 {
			t.Errorf("%d lines, want 2\n%s", len(lines), l.said())
		}
		for _, line := range lines {
			var x struct {
				T, Level, Host, Stream, Msg string
				Rank, Attempt               *int
			}
			if err := json.Unmarshal([]byte(line), &x); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if x.T == "" || x.Level == "" || x.Host == "" || x.Rank == nil || x.Attempt == nil || !strings.HasSuffix(x.Msg, fmt.Sprint(*x.Rank)) {
				t.Errorf("%s", line)
			}
		}
	}
}

// TestNothingOnSuccess sees that the launcher has nothing to say when all is well: row 82.
func TestNothingOnSuccess(t *testing.T) {
	l := run(t, setup{}, "true", "--nproc", "4")
	l.wantCode(0)
	if l.stdout.String()+l.stderr.String() != "" {
		t.Errorf("it says\n%s", l.said())
	}
	for _, l := range agents(t, 2, setup{}, "true", "--nproc", "1", "--quiet") {
		l.wantCode(0)
		if l.stdout.String()+l.stderr.String() != "" {
			t.Errorf("with --quiet it says\n%s", l.said())
		}
	}
}

// TestRedact sees that secrets of the environment and of the command line are nowhere:
// rows 20 and 83.
func TestRedact(t *testing.T) {
	const secret = "hunter2-of-the-rank"
	l := run(t, setup{}, `echo "token $MY_API_TOKEN"`, "--nproc", "1", "--redact", "--env", "MY_API_TOKEN="+secret, "--log-dir", "logs", "--job-id", "j")
	l.wantCode(0)
	if said := l.said(); strings.Contains(said, secret) || !strings.Contains(said, "token <redacted>") {
		t.Errorf("the secret is to be blanked out\n%s", said)
	}
	for _, name := range []string{"report.json", "launcher.log", "index.json"} {
		if strings.Contains(readFile(t, l.dir, "logs/j", name), secret) {
			t.Errorf("the secret is in %s", name)
		}
	}
	for _, flag := range []string{"--dry-run", "--explain"} {
		l := run(t, setup{}, "true", "--nproc", "1", "--env", "MY_API_TOKEN="+secret, flag)
		l.wantCode(0)
		if strings.Contains(l.said(), secret) {
			t.Errorf("the secret is in what %s prints\n%s", flag, l.said())
		}
	}
}

// TestStragglers says who still runs after the first has ended: row 48.
func TestStragglers(t *testing.T) {
	l := run(t, setup{}, "[ $RANK = 1 ] && sleep 1; exit 0", "--nproc", "3", "--straggler-timeout", "200ms")
	l.wantCode(0)
	l.wantSaid("1 of 3 ranks still run: 1")
}

// TestSuccessOfRank0 has the first rank's end decide: row 49.
func TestSuccessOfRank0(t *testing.T) {
	l := run(t, setup{}, "[ $RANK = 0 ] && { sleep 0.2; exit 0; }\nexec sleep 100", "--nproc", "3", "--success", "rank0")
	l.wantCode(0)
	l.clean()
}

// TestOnUSR1 sees what else SIGUSR1 can mean: row 58.
func TestOnUSR1(t *testing.T) {
	for _, c := range []struct {
		what string
		code int
	}{{"drain", 0}, {"stop", 138}} {
		t.Run(c.what, func(t *testing.T) {
			l := run(t, setup{}, "trap 'echo > $T/saved.$RANK; exit 0' TERM USR1\necho > $T/ready.$RANK\nwhile :; do sleep 0.05; done", "--nproc", "2", "--on-usr1", c.what)
			for rank := range 2 {
				l.read(fmt.Sprintf("ready.%d", rank))
			}
			l.signal(sigUSR1)
			l.wantCode(c.code)
			for rank := range 2 {
				l.read(fmt.Sprintf("saved.%d", rank))
			}
			l.clean()
		})
	}
}

// TestJobCommands asks a running job from outside: rows 67, 84, 85 and 87.
func TestJobCommands(t *testing.T) {
	addr := freePort(t)
	l := run(t, setup{}, "echo hello of $RANK; exec sleep 100", "--nproc", "2", "--log-dir", "logs", "--job-id", "watched", "--metrics", addr)
	l.pids(2)
	s := setup{dir: l.dir}
	ps := once(t, s, "ps", "--json")
	ps.wantCode(0)
	if !strings.Contains(ps.stdout.String(), `"watched"`) {
		t.Errorf("ps does not list the job\n%s", ps.said())
	}
	logs := once(t, s, "logs", "watched", "--rank", "1")
	logs.wantCode(0)
	if !strings.Contains(logs.stdout.String(), "hello of 1") || strings.Contains(logs.stdout.String(), "hello of 0") {
		t.Errorf("logs of rank 1\n%s", logs.said())
	}
	for path, want := range map[string]string{"/metrics": "wanrun_ranks_up 2", "/healthz": "ok", "/readyz": "", "/status": `"watched"`} {
		if body := get(t, "http://"+addr+path); !strings.Contains(body, want) {
			t.Errorf("%s does not say %q:\n%s", path, want, body)
		}
	}
	stacks := once(t, s, "stacks", "watched")
	stacks.wantCode(0)
	if found, err := filepath.Glob(filepath.Join(strings.TrimSpace(stacks.stdout.String()), "rank_*")); err != nil || len(found) < 2 {
		t.Errorf("stacks: %v (%v)\n%s", found, err, stacks.said())
	}
	stop := once(t, s, "stop", "watched")
	stop.wantCode(0)
	l.wantCode(143)
	code := once(t, s, "report", "logs/watched", "--exit-code")
	code.wantCode(143)
	l.clean()
}

// TestTrace writes a trace of the launch: row 86.
func TestTrace(t *testing.T) {
	l := run(t, setup{}, "true", "--nproc", "2", "--trace", "trace.json")
	l.wantCode(0)
	var trace any
	if err := json.Unmarshal([]byte(readFile(t, l.dir, "trace.json")), &trace); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(readFile(t, l.dir, "trace.json"), "rank 1") {
		t.Error("the trace has nothing of rank 1")
	}
}
