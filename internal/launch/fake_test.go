package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/control"
	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/guard"
	"github.com/wanrun/wanrun/internal/media"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// build is what the tests' launcher and fake workers are.
const build = "test-build"

// TestMain is also the fake worker and the launcher that is killed.
func TestMain(m *testing.M) {
	guard.Main()
	switch mode := os.Getenv("LAUNCH_TEST"); mode {
	case "":
		goleak.VerifyTestMain(m)
	case "launcher":
		doomedLauncher()
	default:
		os.Exit(fakeWorker(mode))
	}
}

// doomedLauncher runs workers that wait, until it is killed.
func doomedLauncher() {
	r := fakeOptions{Worker: os.Args[0], TempDir: os.Getenv("LAUNCH_TEST_DIR"), Env: []string{"LAUNCH_TEST=obedient"}, Grace: time.Minute, Ranks: 3,
		Root: os.DirFS("/")}.run(&watcher{onProgress: func() { fmt.Println("worker runs") }})
	fmt.Println("ended", r.Error)
}

// fakeWorker speaks the protocol and does what the mode says: "happy", or for some ranks
// another, as in "obedient 2=killed". What begins with "later-" waits for SIGUSR1.
func fakeWorker(modes string) int {
	mode, others, _ := strings.Cut(modes, " ")
	for _, other := range strings.Fields(others) {
		if rank, own, _ := strings.Cut(other, "="); rank == os.Getenv("WANRUN_RANK") {
			mode = own
		}
	}
	mode, later := strings.CutPrefix(mode, "later-")
	proceed := make(chan os.Signal, 1)
	signal.Notify(proceed, syscall.SIGUSR1)
	switch mode { // those that never attach
	case "unattached":
		fmt.Println("pid", os.Getpid())
		time.Sleep(time.Hour)
	case "mute":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Hour)
	case "exit0":
		return 0
	case "exit3":
		fmt.Fprintln(os.Stderr, "no such library")
		return 3
	case "killed-early":
		fmt.Println("dies", time.Now().UnixNano())
		die(syscall.SIGKILL)
	}
	rank, err := strconv.Atoi(os.Getenv("WANRUN_RANK"))
	if err != nil || os.Getenv("WANRUN_WORLD_SIZE") == "" {
		fmt.Fprintln(os.Stderr, "bad environment", err)
		return 99
	}
	hello := &wanrunv1.Hello{Rank: int32(rank), Pid: int32(os.Getpid()), Build: build, Token: os.Getenv("WANRUN_TOKEN")}
	switch mode {
	case "wrong-build":
		hello.Build = "another"
	case "wrong-token":
		hello.Token = "guess"
	}
	session, job, err := control.Attach(context.Background(), os.Getenv("WANRUN_CONTROL"), hello, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "attach:", err)
		return int(ends.CodeOf(err))
	}
	session.Progress(&wanrunv1.Progress{Phase: "denoise", Done: 3, Total: 12, ElapsedSeconds: 1.5, DeviceBytes: 1 << 20, RssBytes: 2 << 20})
	time.Sleep(20 * time.Millisecond) // the progress gets on its way
	report := &wanrunv1.Report{ExitClass: "done", Output: job.GetOutput(), OutputBytes: 1234, Width: 64, Height: 48, Frames: 13,
		Seconds: 2, PredictedBytes: 5 << 20, UsedBytes: 5 << 20, RssPeakBytes: 9 << 20, Backend: "cpu", Encoder: "builtin", Seed: job.GetSeed(),
		Phases: []*wanrunv1.Phase{{Name: "denoise", Seconds: 1.5, PredictedBytes: map[string]int64{"weights": 3, "activations": 4},
			UsedBytes: map[string]int64{"weights": 3, "activations": 4}, RssPeakBytes: 99}}}
	if later || others != "" {
		fmt.Println("pid", os.Getpid())
	}
	if later {
		select {
		case <-proceed:
		case <-session.Context().Done():
			mode = "obedient"
		}
	}
	return behave(mode, session, report)
}

func behave(mode string, session *control.Session, report *wanrunv1.Report) int {
	switch mode {
	case "happy":
	case "grandchild":
		// Left running, in our group, with our output open.
		if err := exec.Command("sleep", "3600").Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 98
		}
		cmd := exec.Command("sleep", "3601")
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			return 98
		}
		fmt.Println("grandchild", cmd.Process.Pid)
	case "burst":
		for i := range 2000 {
			fmt.Println("line", i)
		}
		die(syscall.SIGKILL)
	case "bad-input":
		report = &wanrunv1.Report{ExitCode: int32(ends.BadInput), ExitClass: "bad_input", Error: "picture \"a.jpg\": truncated\nat byte 7\x1b[2J", Phase: "tokenize"}
		_ = session.Report(report)
		return int(ends.BadInput)
	case "victim":
		_ = session.Report(&wanrunv1.Report{ExitCode: int32(ends.PeerLost), Error: "all-to-all: a rank is gone", Phase: "denoise"})
		return int(ends.PeerLost)
	case "wild-code":
		_ = session.Report(&wanrunv1.Report{ExitCode: -7, Error: "x"})
		return 1
	case "liar":
		_ = session.Report(report)
		return 5
	case "panic":
		panic("index out of range")
	case "terminated":
		die(syscall.SIGTERM)
	case "killed":
		die(syscall.SIGKILL)
	case "killed-writing":
		if _, err := media.Create(report.GetOutput(), media.Options{W: 16, H: 16, FPS: 8, NumFrames: 9, Encoder: media.EncoderBuiltin}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 96
		}
		die(syscall.SIGKILL)
	case "obedient":
		<-session.Context().Done()
		err := context.Cause(session.Context())
		_ = session.Report(&wanrunv1.Report{ExitCode: int32(ends.CodeOf(err)), Error: err.Error(), Phase: "denoise"})
		return int(ends.CodeOf(err))
	case "deaf": // to abort and to SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("deaf")
		time.Sleep(time.Hour)
	case "terminable": // deaf to abort
		time.Sleep(time.Hour)
	case "lingering":
		signal.Ignore(syscall.SIGTERM)
		_ = session.Report(report)
		time.Sleep(time.Hour)
	case "lost": // closes its stream and stays
		signal.Ignore(syscall.SIGTERM)
		_ = session.Close()
		time.Sleep(time.Hour)
	}
	if err := errors.Join(session.Report(report), session.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 97
	}
	return 0
}

func die(sig syscall.Signal) {
	signal.Reset(sig)
	_ = syscall.Kill(os.Getpid(), sig)
	time.Sleep(time.Hour)
}
