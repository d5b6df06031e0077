package launcher

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// runReport is what the tests read of report.json.
type runReport struct {
	Schema int
	Exit   struct {
		Code  int
		Class string
		Error string
		Rank  *int
	}
	Ranks []struct {
		Rank, Pid int
		Ended     string
	}
	Attempts []struct {
		Number int
		Cause  string
	}
}

func readReport(t *testing.T, path string) runReport {
	t.Helper()
	var r runReport
	if err := json.Unmarshal([]byte(readFile(t, path)), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func restarts(t *testing.T) {
	best(t, func() []timing {
		l := run(t, setup{}, `echo "$RANK of attempt $WANRUN_RESTART_COUNT, $TORCHELASTIC_RESTART_COUNT"
[ $WANRUN_RESTART_COUNT = 1 ] && { date +%s%N > $T/again.$RANK; exit 0; }
[ $RANK = 1 ] && { sleep 0.3; date +%s%N > $T/died; kill -KILL $$; }
exec sleep 100`, "--nproc", "4", "--max-restarts", "2", "--log-dir", "logs", "--job-id", "j")
		l.wantCode(0)
		died, last := l.moment("died"), time.Time{}
		for rank := range 4 {
			if at := l.moment(fmt.Sprintf("again.%d", rank)); at.After(last) {
				last = at
			}
			for attempt := range 2 {
				want := fmt.Sprintf("%d of attempt %d, %d\n", rank, attempt, attempt)
				if got := readFile(t, l.dir, "logs/j", fmt.Sprintf("attempt_%d", attempt), fmt.Sprintf("rank_%03d.out", rank)); got != want {
					t.Errorf("rank %d wrote %q, want %q", rank, got, want)
				}
			}
		}
		r := readReport(t, filepath.Join(l.dir, "logs/j/report.json"))
		if r.Exit.Code != 0 || len(r.Attempts) != 2 || r.Attempts[0].Cause == "" || r.Attempts[1].Cause != "" {
			t.Errorf("report.json: %+v", r)
		}
		l.clean()
		return []timing{{"restart", last.Sub(died), 500 * time.Millisecond}}
	})
}

// TestRetryOn sees which failures lead to another attempt: row 52.
func TestRetryOn(t *testing.T) {
	for _, c := range []struct {
		name, how string
		flags     []string
		attempts  int
		code      int
	}{
		{"an exit code is the program's word", "exit 3", nil, 1, 3},
		{"a code that is named", "exit 3", []string{"--retry-on", "code=3"}, 2, 3},
		{"another code", "exit 4", []string{"--retry-on", "code=3"}, 1, 4},
		{"a signal", "kill -SEGV $$", nil, 2, 139},
		{"a signal that is not named", "kill -SEGV $$", []string{"--retry-on", "node"}, 1, 139},
		{"any", "exit 3", []string{"--retry-on", "any"}, 2, 3},
		{"usage errors never", "exit 64", []string{"--retry-on", "any"}, 1, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := run(t, setup{}, "[ $RANK = 0 ] && echo $WANRUN_RESTART_COUNT >> $T/attempts\n[ $RANK = 1 ] && "+c.how+"\nexec sleep 100",
				append([]string{"--nproc", "2", "--max-restarts", "1"}, c.flags...)...)
			l.wantCode(c.code)
			if got := len(linesOf(l.read("attempts"))); got != c.attempts {
				t.Errorf("%d attempts, want %d\n%s", got, c.attempts, l.said())
			}
			l.clean()
		})
	}
}

// TestBackoff sees that the second restart waits for a second, and the first does not.
func TestBackoff(t *testing.T) {
	l := run(t, setup{}, "date +%s%N > $T/at.$WANRUN_RESTART_COUNT; kill -KILL $$", "--nproc", "1", "--max-restarts", "2")
	l.wantCode(137)
	first, second := l.moment("at.1").Sub(l.moment("at.0")), l.moment("at.2").Sub(l.moment("at.1"))
	within(t, "the first restart", first, 500*time.Millisecond)
	within(t, "the second restart", second, 1500*time.Millisecond)
	if second < time.Second {
		t.Errorf("the second restart came after %v, want 1 s", second)
	}
	l.wantSaid("attempts   3")
}
