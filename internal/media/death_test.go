package media

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deathTestEnv makes the test binary be the process that is killed.
const deathTestEnv = "WANRUN_MEDIA_DEATH_TEST"

// writeUntilKilled writes one frame to the program named by the environment
// and waits.
func writeUntilKilled() {
	opt := options(2, EncoderFFmpeg)
	opt.FFmpeg = os.Getenv(deathTestEnv)
	w, err := Create(filepath.Join(filepath.Dir(opt.FFmpeg), "v.mp4"), opt)
	if err == nil {
		err = w.WriteFrame(frame(opt.W, opt.H, 0))
	}
	if err != nil {
		panic(err)
	}
	select {}
}

func TestFFmpegDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a death signal")
	}
	program := fakeFFmpeg(t, trialWorks, `echo $$ > "$0.pid"; exec sleep 100`)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), deathTestEnv+"="+program)
	var log bytes.Buffer
	parent.Stderr = &log
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for start := time.Now(); pid == 0 && time.Since(start) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(program + ".pid")
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err := parent.Process.Kill(); err != nil {
		t.Error(err)
	}
	parent.Wait()
	if pid == 0 {
		t.Fatalf("the child never started: %s", log.Bytes())
	}
	for start := time.Now(); isRunning(pid); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("process %d outlives its parent", pid)
		}
	}
}

// isRunning is false for a zombie too: nobody may be there to collect it.
func isRunning(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}
