package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/timeline"
)

// Any program's ranks are watched from outside: their memory is in the log, and of a GPU
// nothing is known, which is null.
func TestVRAMLogOfAnyProgram(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "v.jsonl")
	r := call(t, "", "run", "--nproc", "2", "--device", "cpu", "--log-dir", filepath.Join(dir, "logs"), "--job-id", "j", "--vram-log", file, "--", "/bin/sleep", "2.3")
	r.check(t, "run", ends.Done, "", "")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	for line := range bytes.Lines(data) {
		var p timeline.Point
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatal(err)
		}
		seen[p.Rank]++
		if p.RSS == nil || *p.RSS <= 0 || p.GPU != nil || p.GPUUnknown == "" || p.Arena != nil || p.Seconds <= 0 {
			t.Errorf("%s", line)
		}
	}
	if seen[0] == 0 || seen[1] == 0 || len(seen) != 2 {
		t.Errorf("lines by rank: %v", seen)
	}
	page, err := os.ReadFile(filepath.Join(dir, "logs", "j", memoryPage))
	if err != nil || !strings.Contains(string(page), "rank 1") || !strings.Contains(string(page), "GPU: unknown: the launcher does not look at GPUs") {
		t.Errorf("page %s (%v)", page, err)
	}
}

// A log that cannot be written is noticed before anything is started.
func TestVRAMLogCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "started")
	r := call(t, "", "run", "--nproc", "1", "--device", "cpu", "--vram-log", filepath.Join(dir, "none", "v.jsonl"), "--", "/usr/bin/touch", mark)
	r.check(t, "run", ends.OutputLost, "", "--vram-log")
	if exists(mark) {
		t.Error("the program was started")
	}
}

func TestTop(t *testing.T) {
	call(t, "", "top").check(t, "no job", ends.Usage, "", "no job is running")
	call(t, "", "top", "--interval", "1ms").check(t, "interval", ends.Usage, "", "want 100ms to 1h")
	call(t, "", "top", "a", "b").check(t, "two jobs", ends.Usage, "", "usage: wanrun top")

	runtime, temp := t.TempDir(), t.TempDir()
	out := &lockedBuffer{}
	at := func(args ...string) world {
		return world{args: args, env: []string{"XDG_RUNTIME_DIR=" + runtime}, tempDir: temp, stdin: strings.NewReader(""), stdout: out, stderr: out,
			width: func() int { return 80 }, now: time.Now, processors: 2, random: func() int64 { return 1 },
			signals: func() (<-chan os.Signal, func()) { return nil, func() {} }}
	}
	ended := make(chan ends.Code)
	go func() {
		ended <- at("run", "--nproc", "2", "--device", "cpu", "--job-id", "watched", "--", "/bin/sleep", "3").run()
	}()
	var frame string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		show := &lockedBuffer{}
		w := at("top", "--once")
		w.stdout = show
		if w.run() == ends.Done {
			if frame = show.String(); strings.Contains(frame, "2 of 2 ranks up") && strings.Contains(frame, "MiB RSS") {
				break
			}
		}
	}
	for _, want := range []string{"job watched: running", "2 of 2 ranks up", "GPU memory: unknown", "MiB RSS"} {
		if !strings.Contains(frame, want) {
			t.Errorf("the frame lacks %q:\n%s", want, frame)
		}
	}
	// On a terminal it follows the job to its end, and gives the screen back.
	show := &lockedBuffer{}
	w := at("top", "--interval", "100ms")
	w.stdout, w.outTerminal = show, true
	if code := w.run(); code != ends.Done {
		t.Errorf("top ended with %d", code)
	}
	if text := show.String(); !strings.HasPrefix(text, pageOn) || !strings.Contains(text, pageOff) || !strings.HasSuffix(text, "job watched has ended\n") {
		t.Errorf("on a terminal: %q", text)
	}
	if code := <-ended; code != ends.Done {
		t.Errorf("the job ended with %d: %s", code, out.String())
	}
}

// lockedBuffer is written by a job's goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
