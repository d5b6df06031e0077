package launcher

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRefusedBeforeStart sees what is refused before anything starts, in one line that
// says what to do: rows 2, 3, 11, 29.
func TestRefusedBeforeStart(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(config, []byte("nprok: 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		code int
		says []string
	}{
		{"more ranks than GPUs", []string{"CUDA_VISIBLE_DEVICES=0,1,2,3"}, []string{"run", "--nproc", "8", "--device", "cuda", "--", "true"}, 64,
			[]string{"8 ranks wanted, 4 GPUs visible (CUDA_VISIBLE_DEVICES=0,1,2,3)", "--oversubscribe"}},
		{"degrees that do not make the world", nil, []string{"--ulysses", "3", "--nproc", "2", "--prompt", "x"}, 64, []string{"--ulysses 3", "nearest"}},
		{"an unknown key", nil, []string{"run", "--config", config, "--", "true"}, 64, []string{"nprok", "did you mean nproc?"}},
		{"an unknown flag", nil, []string{"run", "--nprocs", "2", "--", "true"}, 64, []string{"--nprocs", "did you mean --nproc?"}},
		{"no program", nil, []string{"run", "--nproc", "2"}, 64, []string{"no program"}},
		{"a node rank beyond the nodes", nil, []string{"run", "--nnodes", "2", "--node-rank", "2", "--rdzv", "127.0.0.1:1", "--", "true"}, 64, []string{"2"}},
		{"a wrong duration", nil, []string{"run", "--grace", "5", "--", "true"}, 64, []string{"--grace", "10s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := once(t, setup{env: c.env}, c.args...)
			l.wantCode(c.code)
			l.wantSaid(c.says...)
			if n := len(linesOf(l.stderr.String())); n != 1 {
				t.Errorf("%d lines, want one\n%s", n, l.said())
			}
		})
	}
	l := once(t, setup{env: []string{"CUDA_VISIBLE_DEVICES=0"}}, "run", "--nproc", "2", "--device", "cuda", "--oversubscribe", "--", "true")
	l.wantCode(0)
}

// TestWhereValuesComeFrom sees flag > environment > file, and torchrun's variables: rows 10
// and 11.
func TestWhereValuesComeFrom(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(config, []byte("nproc: 5\ngrace: 3s\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string // nproc's row: value and origin
	}{
		{"default", nil, nil, "auto default"},
		{"file", nil, []string{"--config", config}, "5 c.yaml:1: nproc"},
		{"environment over file", []string{"WANRUN_NPROC=4"}, []string{"--config", config}, "4 WANRUN_NPROC"},
		{"flag over environment", []string{"WANRUN_NPROC=4"}, []string{"--config", config, "--nproc", "3"}, "3 --nproc"},
		{"torchrun's name of the flag", nil, []string{"--nproc-per-node", "2"}, "2 --nproc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := once(t, setup{env: c.env}, append(append([]string{"run", "--explain"}, c.args...), "--", "true")...)
			l.wantCode(0)
			got := ""
			for _, line := range linesOf(l.stdout.String()) {
				if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nproc" {
					got = strings.Join(fields[1:], " ")
				}
			}
			if got != c.want {
				t.Errorf("--explain says %q, want %q", got, c.want)
			}
		})
	}
	l := run(t, setup{env: []string{"PET_NNODES=1", "PET_NPROC_PER_NODE=3"}}, "true", "--show", "all")
	l.wantCode(0)
	l.pids(3)
}

// TestDryRun sees that it prints the ranks and starts nothing: row 12.
func TestDryRun(t *testing.T) {
	l := run(t, setup{}, "exit 3", "--nproc", "3", "--dry-run", "--json")
	l.wantCode(0)
	var d struct {
		World   int
		Program string
		Ranks   []struct {
			Rank, Node, Local int
			CPUs              string
			Env               map[string]string
		}
	}
	if err := json.Unmarshal([]byte(l.stdout.String()), &d); err != nil {
		t.Fatalf("%v\n%s", err, l.said())
	}
	if d.World != 3 || len(d.Ranks) != 3 || d.Program != "/bin/sh" {
		t.Fatalf("%+v", d)
	}
	for i, r := range d.Ranks {
		if r.Rank != i || r.Local != i || r.CPUs == "" || r.Env["RANK"] != fmt.Sprint(i) || r.Env["WORLD_SIZE"] != "3" {
			t.Errorf("rank %d: %+v", i, r)
		}
	}
	if pids, err := filepath.Glob(filepath.Join(l.dir, "pid.*")); err != nil || len(pids) > 0 {
		t.Errorf("it started %v (%v)", pids, err)
	}
	text := run(t, setup{}, "exit 3", "--nproc", "3", "--dry-run")
	text.wantCode(0)
	for _, want := range []string{"rank 2: node 0", "RANK=2", "CPUs"} {
		if !strings.Contains(text.stdout.String(), want) {
			t.Errorf("the text does not say %q\n%s", want, text.said())
		}
	}
}

// TestHelpExitCodes sees the codes of row 47.
func TestHelpExitCodes(t *testing.T) {
	l := once(t, setup{}, "help", "exit-codes")
	l.wantCode(0)
	for _, code := range []string{"64", "69", "71", "75", "77", "124", "126", "127", "143"} {
		if !strings.Contains(l.stdout.String(), "\n   "+strings.Repeat(" ", 2-min(2, len(code)-1))+code+"  ") && !strings.Contains(l.stdout.String(), " "+code+"  ") {
			t.Errorf("nothing of %s\n%s", code, l.said())
		}
	}
}

// TestEnvironmentFlags sees --env, --env-file, --chdir and --report-bindings: rows 20, 21,
// 24 and 88.
func TestEnvironmentFlags(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "vars")
	if err := os.WriteFile(file, []byte("# comment\nA=file\nB=file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := run(t, setup{env: []string{"A=outer", "OMP_NUM_THREADS=7"}}, "env > $T/env.$RANK; pwd > $T/pwd.$RANK", "--nproc", "2",
		"--env-file", file, "--env", "A=flag", "--chdir", dir, "--report-bindings")
	l.wantCode(0)
	vars := variables(t, l, 1)
	if vars["A"] != "flag" || vars["B"] != "file" || vars["OMP_NUM_THREADS"] != "7" {
		t.Errorf("A=%q B=%q OMP_NUM_THREADS=%q, want flag, file, 7", vars["A"], vars["B"], vars["OMP_NUM_THREADS"])
	}
	if got := strings.TrimSpace(l.read("pwd.1")); got != dir {
		t.Errorf("rank 1 is in %s, want %s", got, dir)
	}
	l.wantSaid("local rank 1: CPUs")
}

// TestGPUVisibility has each rank see one of the GPUs that the launcher may use: row 19.
func TestGPUVisibility(t *testing.T) {
	for _, c := range []struct {
		flag  string
		want  []string // CUDA_VISIBLE_DEVICES by rank
		local []string // LOCAL_RANK
	}{
		{"all", []string{"GPU-aa,MIG-bb", "GPU-aa,MIG-bb"}, []string{"0", "1"}},
		{"one", []string{"GPU-aa", "MIG-bb"}, []string{"0", "0"}},
	} {
		t.Run(c.flag, func(t *testing.T) {
			l := run(t, setup{env: []string{"CUDA_VISIBLE_DEVICES=GPU-aa,MIG-bb"}}, "env > $T/env.$RANK", "--nproc", "2", "--gpu-visibility", c.flag)
			l.wantCode(0)
			for rank := range 2 {
				vars := variables(t, l, rank)
				if vars["CUDA_VISIBLE_DEVICES"] != c.want[rank] || vars["LOCAL_RANK"] != c.local[rank] || vars["RANK"] != fmt.Sprint(rank) {
					t.Errorf("rank %d: CUDA_VISIBLE_DEVICES=%q LOCAL_RANK=%q", rank, vars["CUDA_VISIBLE_DEVICES"], vars["LOCAL_RANK"])
				}
			}
		})
	}
	l := run(t, setup{env: []string{"CUDA_VISIBLE_DEVICES="}}, "true", "--gpu-visibility", "one")
	l.wantCode(64)
}

// TestErrorFile sees that what a rank writes about its error is in the report: row 43.
func TestErrorFile(t *testing.T) {
	l := run(t, setup{}, `[ $RANK = 1 ] && { echo '{"message": {"message": "shapes do not fit", "extraInfo": {}}}' > $WANRUN_ERROR_FILE; exit 1; }
exec sleep 100`, "--nproc", "2")
	l.wantCode(1)
	l.wantSaid("rank 1 of 2 exited with code 1", "shapes do not fit")
}

// TestCost sees what the launcher itself costs: row 97.
func TestCost(t *testing.T) {
	l := run(t, setup{}, "exec sleep 100", "--nproc", "8")
	l.pids(8)
	time.Sleep(500 * time.Millisecond)
	var kib int
	for _, p := range l.overhead() {
		kib += statusOf(t, p.pid, "VmRSS")
	}
	t.Logf("launcher and guard: %.1f MiB resident", float64(kib)/1024)
	if kib > 30<<10 {
		t.Errorf("launcher and guard have %d KiB, want at most 30 MiB", kib)
	}
	// Idle, they wake for the sample of each second and for nothing else: in how many of
	// 50 ms at a time does anything happen?
	const span, slot = 4 * time.Second, 50 * time.Millisecond
	best(t, func() []timing {
		overhead := l.overhead()
		count := func() (n int) {
			for _, p := range overhead {
				n += wakeUps(t, p.pid)
			}
			return n
		}
		busy, last := 0, count()
		for range int(span / slot) {
			time.Sleep(slot)
			now := count()
			if now != last {
				busy++
			}
			last = now
		}
		// A sample takes some milliseconds, so that it can be seen in two of them.
		return []timing{{"awake", time.Duration(busy) * slot, 2 * slot * time.Duration(span/time.Second)}}
	})
	l.signal(sigTerm)
	l.wantCode(143)
}
