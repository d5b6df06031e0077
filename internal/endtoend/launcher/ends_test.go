package launcher

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	sigTerm = syscall.SIGTERM
	sigInt  = syscall.SIGINT
	sigHup  = syscall.SIGHUP
	sigQuit = syscall.SIGQUIT
	sigUSR1 = syscall.SIGUSR1
	sigUSR2 = syscall.SIGUSR2
)

// starts sees how long it takes until the last rank runs.
func starts(n int) func(*testing.T) {
	return func(t *testing.T) {
		best(t, func() []timing {
			l := run(t, setup{}, "while [ ! -e $T/stop ]; do sleep 0.05; done", "--nproc", fmt.Sprint(n))
			l.pids(n)
			took := time.Since(l.started)
			l.touch("stop")
			l.wantCode(0)
			l.clean()
			return []timing{{"start of the last rank", took, 150*time.Millisecond + time.Duration(n)*5*time.Millisecond}}
		})
	}
}

const (
	rankBar     = 300 * time.Millisecond // from a rank's death to that of the others
	launcherBar = 200 * time.Millisecond // from the last rank's to the launcher's
)

// waitForAll is a script's barrier: all ranks have said their pid.
const waitForAll = "while [ $(ls $T/pid.* | wc -l) -lt $WORLD_SIZE ]; do sleep 0.02; done\n"

// dies lets rank 1 end in a way, while the others work.
func dies(n int, how string, code int, text string) func(*testing.T) {
	return func(t *testing.T) {
		best(t, func() []timing {
			l := run(t, setup{}, "if [ $RANK = 1 ]; then\n"+waitForAll+"echo last words >&2; date +%s%N > $T/died; "+how+"; fi\nexec sleep 100",
				"--nproc", fmt.Sprint(n))
			pids := l.pids(n)
			died := l.moment("died")
			ranks := gone(t, pids)
			l.wantCode(code)
			l.clean()
			wantReport(t, l, text, code)
			return []timing{{"the others' end", ranks.Sub(died), rankBar}, {"the launcher's end", l.at.Sub(ranks), launcherBar}}
		})
	}
}

// wantReport looks at the shape of what is printed of a failure: at most 25 lines, the
// cause first and last, and no stack of the launcher.
func wantReport(t *testing.T, l *launched, text string, code int) {
	t.Helper()
	lines := linesOf(l.stderr.String())
	first := -1
	for i, line := range lines {
		if strings.HasPrefix(line, "wanrun: FAILED") {
			first = i
			break
		}
	}
	if first < 0 {
		t.Fatalf("no report\n%s", l.said())
	}
	report := lines[first:]
	if len(report) > 25 {
		t.Errorf("the report has %d lines, want at most 25\n%s", len(report), l.said())
	}
	last := report[len(report)-1]
	if !strings.Contains(report[0], text) || !strings.Contains(last, text) || !strings.Contains(last, fmt.Sprintf("exit %d", code)) {
		t.Errorf("first and last line do not both say %q\n%s", text, l.said())
	}
	if strings.Contains(l.stderr.String(), "goroutine ") {
		t.Errorf("a stack of the launcher\n%s", l.said())
	}
}

// rootCauseOrder lets the ranks fail 30 ms apart, the last rank first, five times. None of
// them listens to the launcher in between.
func rootCauseOrder(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const ranks = 4
	for range 5 {
		at := time.Now().Add(500 * time.Millisecond)
		l := once(t, setup{env: []string{roleVariable + "=timed", fmt.Sprintf("AT=%d", at.UnixNano()), "STEP_MS=30"}},
			"run", "--nproc", fmt.Sprint(ranks), "--", exe)
		l.wantCode(10 + ranks - 1)
		wantReport(t, l, "rank 3 of 4 exited with code 13", 13)
		l.wantSaid("ranks 0-2 failed by themselves within 5 s, likely a consequence")
		l.clean()
	}
}

// ranksIgnoreTerm sees that the grace is kept, and then no longer.
func ranksIgnoreTerm(t *testing.T) {
	const grace = 10 * time.Second // the default
	l := run(t, setup{}, "[ $RANK = 1 ] && { "+waitForAll+"date +%s%N > $T/died; exit 3; }\ntrap '' TERM\nwhile :; do sleep 1; done", "--nproc", "4")
	pids := l.pids(4)
	died := l.moment("died")
	took := gone(t, pids).Sub(died)
	if took < grace {
		t.Errorf("the others had %v, want %v", took, grace)
	}
	within(t, "the others' end", took, grace+rankBar)
	l.wantCode(3)
	for _, rank := range []int{0, 2, 3} {
		l.wantSaid(fmt.Sprintf("rank %d of 4 (process %d) did not end within", rank, pids[rank]))
	}
	l.clean()
}

// grandchild has the rank that fails, and those that work, start processes of their own.
func grandchild(script string) func(*testing.T) {
	return func(t *testing.T) {
		l := run(t, setup{}, script+"\n[ $RANK = 1 ] && { "+waitForAll+"sleep 0.1; exit 3; }\nsleep 100", "--nproc", "4")
		l.wantCode(3)
		l.clean()
	}
}

// stopped signals the launcher, or its whole process group as a terminal does.
func stopped(sig syscall.Signal, wholeGroup bool, code int) func(*testing.T) {
	return func(t *testing.T) {
		best(t, func() []timing {
			l := run(t, setup{}, "sleep 100", "--nproc", "4")
			pids := l.pids(4)
			time.Sleep(20 * time.Millisecond) // they are past their first line
			at := time.Now()
			target := l.cmd.Process.Pid
			if wholeGroup {
				target = -target
			}
			if err := syscall.Kill(target, sig); err != nil {
				t.Fatal(err)
			}
			ranks := gone(t, pids)
			l.wantCode(code)
			l.clean()
			if strings.Contains(l.stderr.String(), "goroutine ") {
				t.Errorf("a stack of the launcher\n%s", l.said())
			}
			bar := rankBar
			if sig == sigQuit {
				bar += 2 * time.Second // it writes the stacks first, with a debugger where there is one
			}
			return []timing{{"the ranks' end", ranks.Sub(at), bar}, {"the launcher's end", l.at.Sub(ranks), launcherBar}}
		})
	}
}

func termGraceful(t *testing.T) {
	l := run(t, setup{}, "trap 'sleep 0.5; echo > $T/cleaned.$RANK; exit 0' TERM\necho > $T/ready.$RANK\nwhile :; do sleep 0.05; done", "--nproc", "4")
	for rank := range 4 {
		l.read(fmt.Sprintf("ready.%d", rank))
	}
	at := l.signal(sigTerm)
	l.wantCode(143)
	for rank := range 4 {
		l.read(fmt.Sprintf("cleaned.%d", rank))
	}
	within(t, "the launcher's end", l.at.Sub(at), time.Second+launcherBar)
	l.clean()
}

func doubleTerm(t *testing.T) {
	best(t, func() []timing {
		l := run(t, setup{}, "trap '' TERM INT\necho > $T/ready.$RANK\nwhile :; do sleep 1; done", "--nproc", "4")
		pids := l.pids(4)
		for rank := range 4 {
			l.read(fmt.Sprintf("ready.%d", rank))
		}
		l.signal(sigTerm)
		time.Sleep(300 * time.Millisecond)
		for _, pid := range pids {
			if !lives(pid) {
				t.Errorf("a rank did not have its grace\n%s", l.said())
			}
		}
		at := l.signal(sigTerm)
		ranks := gone(t, pids)
		l.wantCode(143)
		l.clean()
		return []timing{{"the ranks' end", ranks.Sub(at), rankBar}, {"the launcher's end", l.at.Sub(ranks), launcherBar}}
	})
}

// passesOn sees that a signal reaches every rank, and that the job goes on.
func passesOn(sig syscall.Signal, name string) func(*testing.T) {
	return func(t *testing.T) {
		l := run(t, setup{}, "trap 'echo > $T/got.$RANK' "+name+"\necho > $T/ready.$RANK\nwhile [ ! -e $T/stop ]; do sleep 0.05; done\nexit 0", "--nproc", "2")
		for rank := range 2 {
			l.read(fmt.Sprintf("ready.%d", rank))
		}
		l.signal(sig)
		for rank := range 2 {
			l.read(fmt.Sprintf("got.%d", rank))
		}
		l.touch("stop")
		// The shell's sleep dies of the signal, as the whole group gets it; the shell goes on.
		l.wantCode(0)
		l.clean()
	}
}

// launcherKilled kills the launcher beyond catching, and counts what lives on.
func launcherKilled(script string) func(*testing.T) {
	return func(t *testing.T) {
		best(t, func() []timing {
			l := run(t, setup{}, script, "--nproc", "4")
			l.pids(4)
			time.Sleep(100 * time.Millisecond) // their children run
			at := l.signal(syscall.SIGKILL)
			took := l.allGone().Sub(at)
			l.tidy()
			return []timing{{"the end of everything", took, time.Second}}
		})
	}
}

func earlyExit(t *testing.T) {
	l := run(t, setup{}, "[ $RANK = 2 ] && exit 0\nsleep 0.6; echo > $T/done.$RANK", "--nproc", "4")
	l.wantCode(0)
	for _, rank := range []int{0, 1, 3} {
		l.read(fmt.Sprintf("done.%d", rank))
	}
	l.clean()
}
