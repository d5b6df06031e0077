package worker

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
)

// held is what a process holds that a job might leave behind.
type held struct {
	anonymous, mappings, files, threads, goroutines int64
}

func holds(t *testing.T) held {
	t.Helper()
	debug.FreeOSMemory()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	// Arenas are mappings, so that one left behind is a line more.
	return held{statusBytes("RssAnon:"), int64(bytes.Count(maps, []byte{'\n'})), int64(len(files)), int64(len(threads)), int64(runtime.NumGoroutine())}
}

// TestSoak runs 100 jobs one after the other in this process: nothing that it holds
// grows with their number.
func TestSoak(t *testing.T) {
	if os.Getenv("WANRUN_TEST_MEMORY") == "" {
		t.Skip("runs 100 jobs: set WANRUN_TEST_MEMORY=1 (make test-memory)")
	}
	const jobs, every = 100, 10
	var seen []held
	for i := range jobs {
		dir := t.TempDir()
		job := demoJob(dir)
		job.Steps, job.FrameNum, job.CkptDir, job.Output = 1, 1, "../../examples/demo-model/checkpoint", filepath.Join(dir, "out.png")
		if _, err := run(t, job, nil); err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
		if (i+1)%every == 0 {
			seen = append(seen, holds(t))
		}
	}
	t.Logf("after each %d jobs: %+v", every, seen)
	// The first jobs fill what is kept for good: threads, the runtime's own tables.
	first, last := seen[2], seen[len(seen)-1]
	since := int64(jobs - 3*every)
	if last.files > first.files || last.goroutines > first.goroutines || last.threads > first.threads+1 || last.mappings > first.mappings+4 {
		t.Errorf("after %d jobs more %+v, before %+v", since, last, first)
	}
	// A job's arenas take 10 MiB and its smallest buffers some KiB.
	if perJob := (last.anonymous - first.anonymous) / since; perJob > 16<<10 {
		t.Errorf("resident memory grows by %d bytes a job: %+v", perJob, seen)
	}
}
