package launcher

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// linesWhole has four ranks write their lines in halves at the same time.
func linesWhole(t *testing.T) {
	const ranks, each = 4, 15
	l := run(t, setup{}, `i=0; while [ $i -lt 15 ]; do printf "rank $RANK "; sleep 0.02; echo "line $i end"; i=$((i+1)); done`,
		"--nproc", fmt.Sprint(ranks), "--show", "all")
	l.wantCode(0)
	got := linesOf(l.stdout.String())
	whole := 0
	for rank := range ranks {
		for i := range each {
			if slices.Contains(got, fmt.Sprintf("[r%d] rank %d line %d end", rank, rank, i)) {
				whole++
			}
		}
	}
	if whole != ranks*each || len(got) != ranks*each {
		t.Errorf("%d of %d lines are whole, of %d\n%s", whole, ranks*each, len(got), l.said())
	}
}

// burstThenDeath sees that all that a rank said comes through before the report.
func burstThenDeath(t *testing.T) {
	const lines = 2000
	l := run(t, setup{}, `[ $RANK = 1 ] || exec sleep 100
i=0; while [ $i -lt 2000 ]; do echo "word $i" >&2; i=$((i+1)); done; kill -KILL $$`, "--nproc", "4")
	l.wantCode(137)
	got := linesOf(l.stderr.String())
	report := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "wanrun: FAILED") })
	if report < 0 {
		t.Fatalf("no report\n%s", l.said())
	}
	next := 0
	for _, line := range got[:report] {
		if line == fmt.Sprintf("[r1] word %d", next) {
			next++
		}
	}
	if next != lines {
		t.Errorf("%d of %d lines came before the report, in order", next, lines)
	}
}

// lineLatency compares the time in a line with that of its coming.
func lineLatency(t *testing.T) {
	best(t, func() []timing {
		l := run(t, setup{}, "i=0; while [ $i -lt 20 ]; do date +%s%N; sleep 0.02; i=$((i+1)); done", "--nproc", "2", "--show", "all", "--prefix", "none")
		l.wantCode(0)
		var delays []time.Duration
		for _, line := range l.stdout.stamps() {
			ns, err := strconv.ParseInt(line.text, 10, 64)
			if err != nil {
				t.Fatalf("%q is no time", line.text)
			}
			delays = append(delays, line.at.Sub(time.Unix(0, ns)))
		}
		if len(delays) != 40 {
			t.Fatalf("%d lines, want 40", len(delays))
		}
		slices.Sort(delays)
		t.Logf("median %v", delays[len(delays)/2])
		return []timing{{"the slowest line", delays[len(delays)-1], 50 * time.Millisecond}}
	})
}

// index is what the tests read of index.json.
type index struct {
	Schema int
	World  int
	Ranks  []struct {
		Attempt, Rank, Node, Local, Pid, Code, Signal int
		Host, Out, Err                                string
		Started, Ended                                *time.Time
	}
}

func readIndex(t *testing.T, folder string) index {
	t.Helper()
	var x index
	if err := json.Unmarshal([]byte(readFile(t, folder, "index.json")), &x); err != nil {
		t.Fatal(err)
	}
	return x
}

func logFolder(t *testing.T) {
	l := run(t, setup{}, `echo "out $RANK"; echo "err $RANK" >&2`, "--nproc", "12", "--log-dir", "logs", "--job-id", "twelve")
	l.wantCode(0)
	folder := filepath.Join(l.dir, "logs", "twelve")
	for rank := range 12 {
		for _, stream := range []string{"out", "err"} {
			want := fmt.Sprintf("%s %d\n", stream, rank)
			if got := readFile(t, folder, "attempt_0", fmt.Sprintf("rank_%03d.%s", rank, stream)); got != want {
				t.Errorf("rank %d's %s is %q, want %q", rank, stream, got, want)
			}
		}
	}
	x := readIndex(t, folder)
	if x.Schema == 0 || x.World != 12 || len(x.Ranks) != 12 {
		t.Fatalf("index.json: %+v", x)
	}
	for i, r := range x.Ranks {
		if r.Rank != i || r.Local != i || r.Host == "" || r.Pid == 0 || r.Started == nil || r.Ended == nil || r.Out == "" {
			t.Errorf("index.json: rank %d is %+v", i, r)
		}
	}
	for _, name := range []string{"launcher.log", "report.json"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
}

// closedPipe has nobody read what the ranks print: they go on, and the files are complete.
func closedPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	const lines = 20000
	l := run(t, setup{stdout: w}, `i=0; while [ $i -lt 20000 ]; do echo "line $i of a rank that says a lot"; i=$((i+1)); done; echo > $T/done.$RANK`,
		"--nproc", "2", "--show", "all", "--log-dir", "logs", "--job-id", "j")
	l.wantCode(0)
	for rank := range 2 {
		l.read(fmt.Sprintf("done.%d", rank))
		got := linesOf(readFile(t, l.dir, "logs/j/attempt_0", fmt.Sprintf("rank_%03d.out", rank)))
		if len(got) != lines || got[lines-1] != fmt.Sprintf("line %d of a rank that says a lot", lines-1) {
			t.Errorf("rank %d's file has %d lines, want %d", rank, len(got), lines)
		}
	}
	l.clean()
}
