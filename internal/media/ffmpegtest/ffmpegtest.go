// Package ffmpegtest lets tests compare with ffmpeg where it is installed.
package ffmpegtest

import (
	"bytes"
	"fmt"
	"os/exec"
	"testing"
)

// Need returns the path of a program, ffmpeg or ffprobe, and skips the test where there is
// none: it is optional for the project. Golden hashes of streams that
// ffmpeg decoded exactly stand in for it.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("no %s in PATH to compare with", program)
	}
	return path
}

// Run runs ffmpeg or ffprobe on stdin and returns what it printed. A line on
// standard error, where only faults appear, is an error too.
func Run(program string, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command(program, append([]string{"-v", "error"}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, log.Bytes())
	}
	if log.Len() > 0 {
		return nil, fmt.Errorf("%s complains: %s", program, log.Bytes())
	}
	return out.Bytes(), nil
}
