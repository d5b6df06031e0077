package launcher

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// variables reads the environment that a script wrote by env into a file.
func variables(t testing.TB, l *launched, rank int) map[string]string {
	t.Helper()
	vars := map[string]string{}
	for _, line := range linesOf(readFile(t, l.dir, fmt.Sprintf("env.%d", rank))) {
		if name, value, ok := strings.Cut(line, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// environment is row by row what a program of torchrun's finds.
func environment(t *testing.T) {
	l := run(t, setup{env: []string{"MINE=kept", "WANRUN_SECRET=hidden"}},
		"env > $T/env.$RANK\nls -l /proc/$$/fd\ntrue", "--nproc", "4", "--max-restarts", "2", "--log-dir", "logs", "--job-id", "j")
	l.wantCode(0)
	port := ""
	for rank := range 4 {
		vars := variables(t, l, rank)
		for name, want := range map[string]string{
			"RANK": fmt.Sprint(rank), "LOCAL_RANK": fmt.Sprint(rank), "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4",
			"GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1", "ROLE_RANK": fmt.Sprint(rank), "ROLE_WORLD_SIZE": "4", "ROLE_NAME": "default",
			"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "2", "WANRUN_RESTART_COUNT": "0",
			"MINE": "kept", "WANRUN_SECRET": "", "WANRUN_CONTROL": "", "WANRUN_TOKEN": "",
		} {
			if vars[name] != want {
				t.Errorf("rank %d: %s=%q, want %q", rank, name, vars[name], want)
			}
		}
		for _, name := range []string{"TORCHELASTIC_RUN_ID", "WANRUN_ERROR_FILE", "OMP_NUM_THREADS"} {
			if vars[name] == "" {
				t.Errorf("rank %d: %s is not set", rank, name)
			}
		}
		if port == "" {
			port = vars["MASTER_PORT"]
		}
		if vars["MASTER_PORT"] != port || port == "0" {
			t.Errorf("rank %d: MASTER_PORT=%q, rank 0 has %q", rank, vars["MASTER_PORT"], port)
		}
		seen := 0
		for _, line := range linesOf(readFile(t, l.dir, "logs/j/attempt_0", fmt.Sprintf("rank_%03d.out", rank))) {
			fields := strings.Fields(line)
			if len(fields) < 3 || fields[len(fields)-2] != "->" {
				continue
			}
			seen++
			if fd := fields[len(fields)-3]; fd != "0" && fd != "1" && fd != "2" {
				t.Errorf("rank %d has descriptor %s -> %s", rank, fd, fields[len(fields)-1])
			}
		}
		if seen != 3 {
			t.Errorf("rank %d has %d descriptors, want 3", rank, seen)
		}
	}
	// The port was free at the moment of the start, and is now.
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Errorf("MASTER_PORT: %v", err)
	} else {
		listener.Close()
	}
}

func arguments(t *testing.T) {
	words := []string{"a b", "", "--", "--nproc", "ü語", "$HOME", "'\"\\", "-h", "*"}
	args := append([]string{"run", "--nproc", "2", "--", "/bin/sh", "-c", `for a in "$@"; do printf '%s\n' "<$a>"; done > $T/args.$RANK`, "name"}, words...)
	l := once(t, setup{}, args...)
	l.wantCode(0)
	for rank := range 2 {
		got := linesOf(readFile(t, l.dir, fmt.Sprintf("args.%d", rank)))
		if len(got) != len(words) {
			t.Fatalf("rank %d got %q, want %q", rank, got, words)
		}
		for i, w := range words {
			if got[i] != "<"+w+">" {
				t.Errorf("rank %d: argument %d is %s, want <%s>", rank, i, got[i], w)
			}
		}
	}
}

func notFound(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	badInterpreter := filepath.Join(dir, "script")
	if err := os.WriteFile(badInterpreter, []byte("#!/no/such/interpreter\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program string
		code    int
	}{{"./missing", 127}, {"missing-in-path", 127}, {plain, 126}, {dir, 126}} {
		l := once(t, setup{}, "run", "--nproc", "4", "--", c.program)
		l.wantCode(c.code)
		within(t, c.program, l.at.Sub(l.started), time.Second)
		if lines := linesOf(l.stderr.String()); len(lines) != 1 {
			t.Errorf("%d lines, want one\n%s", len(lines), l.said())
		}
	}
	l := once(t, setup{}, "run", "--nproc", "4", "--", badInterpreter)
	l.wantCode(127)
	within(t, "a missing interpreter", l.at.Sub(l.started), time.Second)
	l.clean()
}

// twoJobs run side by side without a flag that keeps them apart.
func twoJobs(t *testing.T) {
	script := "echo $MASTER_PORT > $T/port.$RANK\nwhile [ ! -e $T/stop ]; do sleep 0.02; done"
	a, b := run(t, setup{}, script, "--nproc", "2"), run(t, setup{}, script, "--nproc", "2")
	if pa, pb := a.read("port.0"), b.read("port.0"); pa == pb {
		t.Errorf("both jobs have the port %s", pa)
	}
	for _, l := range []*launched{a, b} {
		l.pids(2)
		l.touch("stop")
		l.wantCode(0)
		l.clean()
	}
}

func standardInput(t *testing.T) {
	l := run(t, setup{stdin: "first\nsecond\n"}, "cat > $T/in.$RANK; readlink /proc/$$/fd/0 > $T/fd.$RANK", "--nproc", "4")
	l.wantCode(0)
	if got := readFile(t, l.dir, "in.0"); got != "first\nsecond\n" {
		t.Errorf("rank 0 read %q", got)
	}
	for rank := 1; rank < 4; rank++ {
		if got := strings.TrimSpace(readFile(t, l.dir, fmt.Sprintf("fd.%d", rank))); got != "/dev/null" {
			t.Errorf("rank %d's input is %s, want /dev/null", rank, got)
		}
	}
}
