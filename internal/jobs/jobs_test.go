package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wanrun/wanrun/internal/node"
)

func TestFolder(t *testing.T) {
	for _, tc := range []struct{ runtime, want string }{
		{"/run/user/7", "/run/user/7/wanrun"}, {"", "/tmp/wanrun-7"}, {"relative", "/tmp/wanrun-7"},
	} {
		if got := Folder(tc.runtime, "/tmp", 7); got != tc.want {
			t.Errorf("Folder(%q) = %q, want %q", tc.runtime, got, tc.want)
		}
	}
}

func TestAsk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wanrun")
	age, rss := 1.5, int64(1<<30)
	want := Status{Schema: Schema, ID: "train 7", State: Running, World: 1, Started: time.Unix(100, 0).UTC(), Now: time.Unix(200, 0).UTC(),
		Nodes: []Node{{Name: "gpu-07", Joined: true, Age: &age}}, Ranks: []Rank{{State: RankUp, Pid: 12, RSS: &rss, Where: "denoise (3 of 12)"}}, Command: []string{"wanrun"}}
	job := &fakeJob{status: want, stacks: func(context.Context) (string, error) { return "/logs/stacks-1", nil }}
	r := register(t, dir, "train 7", job)
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "train%207.sock"): 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: mode %v (%v), want %v", path, st.Mode(), err, mode)
		}
	}
	entries, err := List(t.Context(), dir)
	if err != nil || len(entries) != 1 || entries[0].Err != nil {
		t.Fatalf("List = %+v, %v", entries, err)
	}
	if diff := cmp.Diff(&want, entries[0].Status); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"train 7", "tr", ""} {
		c := open(t, dir, name)
		if err := c.Stop(t.Context(), "wanrun stop of "+name+"\x1b[2J\n"+strings.Repeat("x", 300)); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if folder, err := c.Stacks(t.Context()); err != nil || folder != "/logs/stacks-1" {
			t.Errorf("Stacks = %q, %v", folder, err)
		}
	}
	if len(job.stops) != 3 || !strings.HasPrefix(job.stops[1], "wanrun stop of tr\uFFFD[2J\uFFFDxxx") || len(job.stops[1]) > maxBy {
		t.Errorf("stops %q", job.stops)
	}
	job.stacks = nil
	if _, err := open(t, dir, "").Stacks(t.Context()); err == nil || err.Error() != `job "train 7": no folder for logs; use --log-dir` {
		t.Errorf("Stacks without a folder: %v", err)
	}
	if _, err := Register(dir, "train 7", job); !errors.Is(err, ErrRunning) {
		t.Errorf("second of the id: %v, want ErrRunning", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, err := List(t.Context(), dir); err != nil || len(entries) != 0 {
		t.Errorf("after Close: %v, %v", entries, err)
	}
	if _, err := Open(dir, "train 7"); err == nil {
		t.Error("Open after Close: no error")
	}
	left, _ := filepath.Glob(dir + "/*")
	if hidden, _ := filepath.Glob(dir + "/.*"); len(left) != 1 || len(hidden) != 0 {
		t.Errorf("files after Close: %v %v, want the lock alone", left, hidden)
	}
}

func TestOpenWhich(t *testing.T) {
	dir := t.TempDir()
	must(os.Chmod(dir, 0o700))
	for _, want := range []string{"no job is running"} {
		if _, err := Open(dir, ""); err == nil || err.Error() != want {
			t.Errorf("empty folder: %v, want %q", err, want)
		}
		if _, err := Open(dir+"/none", ""); err == nil || err.Error() != want {
			t.Errorf("no folder: %v, want %q", err, want)
		}
	}
	for _, id := range []string{"a1", "a2", "a", "../x", "."} {
		defer register(t, dir, id, &fakeJob{}).Close()
	}
	for _, tc := range []struct{ id, want, err string }{
		{"a", "a", ""}, {"a1", "a1", ""}, {"../", "../x", ""}, {".", ".", ""},
		{"", "", "5 jobs could be meant, name one: ., ../x, a, a1, a2"},
		{"b", "", `no job "b" is running; wanrun ps lists them`},
	} {
		c, err := Open(dir, tc.id)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("Open(%q): %v, want %q", tc.id, err, tc.err)
			}
			continue
		}
		if err != nil || c.ID != tc.want {
			t.Errorf("Open(%q) = %v, %v, want %q", tc.id, c, err, tc.want)
			continue
		}
		c.Close()
	}
	if above, _ := filepath.Glob(filepath.Dir(dir) + "/*.sock"); len(above) != 0 {
		t.Errorf("a socket outside of the folder: %v", above)
	}
}

// A folder that is not this user's alone is no place for sockets.
func TestForeignFolder(t *testing.T) {
	base := t.TempDir()
	must(os.Mkdir(base+"/wide", 0o755))
	must(os.Mkdir(base+"/own", 0o700))
	must(os.Symlink(base+"/own", base+"/link"))
	must(os.WriteFile(base+"/file", nil, 0o600))
	paths := map[string]string{"wide": "mode 0755, want 0700", "link": "is no folder", "file": "is no folder", "none/deeper": "no such file"}
	if os.Geteuid() == 0 {
		must(os.Mkdir(base+"/other", 0o700))
		must(os.Chown(base+"/other", 12345, 12345))
		paths["other"] = "belongs to user 12345, want 0"
	}
	for name, want := range paths {
		if _, err := Register(filepath.Join(base, name), "j", &fakeJob{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Register in %s: %v, want %q", name, err, want)
		}
		if name == "none/deeper" {
			continue
		}
		if _, err := List(t.Context(), filepath.Join(base, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("List of %s: %v, want %q", name, err, want)
		}
	}
}

// A path of a socket holds 107 bytes; a folder's may be longer.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200))
	defer register(t, dir, strings.Repeat("j", 80), &fakeJob{}).Close()
	if entries, err := List(t.Context(), dir); err != nil || len(entries) != 1 || entries[0].Err != nil {
		t.Errorf("List = %+v, %v", entries, err)
	}
	for _, id := range []string{"", strings.Repeat("j", 81), strings.Repeat("é", 14)} {
		if _, err := Register(dir, id, &fakeJob{}); err == nil || !strings.Contains(err.Error(), "want 1 to 80") {
			t.Errorf("id %q: %v", id, err)
		}
	}
}

// A launcher that is killed leaves a socket that is known to be dead, and one that is
// stopped holds nobody up.
func TestDeadLauncher(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(t.TempDir(), "w"), t.TempDir()
	c, _ := start(t, "launcher", dir, temp)
	defer register(t, dir, "mine", &fakeJob{status: Status{State: Running}}).Close()
	list := func() []Entry {
		entries, err := List(t.Context(), dir)
		if err != nil || len(entries) != 2 || entries[0].Err != nil || entries[0].Status.State != Running {
			t.Fatalf("List = %+v, %v", entries, err)
		}
		return entries
	}
	if e := list()[1]; e.Err != nil {
		t.Errorf("running: %+v", e)
	}
	stop(t, c.Process)
	begun := time.Now()
	if e := list()[1]; !errors.Is(e.Err, context.DeadlineExceeded) || !strings.Contains(e.Err.Error(), "may be stopped") {
		t.Errorf("stopped: %+v", e)
	}
	if took := time.Since(begun); took > statusPatience+2*time.Second {
		t.Errorf("List took %v beside a stopped launcher", took)
	}
	if _, err := Register(dir, "other", &fakeJob{}); !errors.Is(err, ErrRunning) {
		t.Errorf("id of a stopped launcher: %v, want ErrRunning", err)
	}
	must(c.Process.Kill())
	_ = c.Wait()
	if e := list()[1]; e.ID != "other" || !errors.Is(e.Err, ErrStale) {
		t.Errorf("dead: %+v", e)
	}
	if c := open(t, dir, "other"); !errors.Is(c.Stop(t.Context(), "me"), ErrStale) {
		t.Errorf("Stop of a dead one: %v, want ErrStale", c.Stop(t.Context(), "me"))
	}
	if c := open(t, dir, ""); c.ID != "mine" {
		t.Errorf("Open of the only job that runs: %q", c.ID)
	}
	again := register(t, dir, "other", &fakeJob{status: Status{Name: "again"}})
	if e := list()[1]; e.Err != nil || e.Status.Name != "again" {
		t.Errorf("registered again: %+v", e)
	}
	must(again.Close())
}

// stop stops p, and returns when none of its threads runs any more: the signal is only on
// its way when kill returns.
func stop(t *testing.T, p *os.Process) {
	t.Helper()
	must(p.Signal(syscall.SIGSTOP))
	eventually(t, "a stopped process", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		must(err)
		for _, path := range threads {
			if stat, err := os.ReadFile(path); err != nil || !strings.Contains(string(stat), ") T ") {
				return false
			}
		}
		return len(threads) > 0
	})
}

// Close leaves the socket of another launcher alone.
func TestCloseOfAnothers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	r := register(t, dir, "j", &fakeJob{})
	must(os.Remove(filepath.Join(dir, "j.sock")))
	other := register(t, dir, "j", &fakeJob{})
	must(r.Close())
	if c := open(t, dir, "j"); c.Stop(t.Context(), "me") != nil {
		t.Error("the socket of the second is gone")
	}
	must(other.Close())
}

// What is not a request is answered or cut, and the next one is served.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "w")
	job := &fakeJob{}
	r := register(t, dir, "j", job)
	defer r.Close()
	path := filepath.Join(dir, "j.sock")
	for _, tc := range []struct{ name, send, want string }{
		{"garbage", "\x00\x01\x02\r\n\r\n", "400 Bad Request"},
		{"long header", "GET /v1/status HTTP/1.1\r\nHost: job\r\nA: " + strings.Repeat("a", 32<<10) + "\r\n\r\n", "431 "},
		{"wrong method", "GET /v1/stop HTTP/1.1\r\nHost: job\r\n\r\n", "405 "},
		{"no such path", "GET /v1/../etc HTTP/1.1\r\nHost: job\r\n\r\n", "307 "},
		{"stop without a body", "POST /v1/stop HTTP/1.1\r\nHost: job\r\nContent-Length: 0\r\n\r\n", "400 "},
		{"stop of 1 MiB", "POST /v1/stop HTTP/1.1\r\nHost: job\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("b", 1<<20), "400 "},
		{"half a header", "GET /v1/st", ""},
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		must(conn.SetDeadline(time.Now().Add(8 * time.Second)))
		begun := time.Now()
		go func() { _, _ = io.WriteString(conn, tc.send) }()
		got := make([]byte, 64)
		n, err := io.ReadAtLeast(conn, got, 20)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: nothing within %v", tc.name, time.Since(begun))
		}
		if tc.want != "" && !strings.Contains(string(got[:n]), " "+tc.want) {
			t.Errorf("%s: %q (%v), want %q", tc.name, got[:n], err, tc.want)
		}
		conn.Close()
	}
	// More connections than there is room for, and all silent: they are cut, and then it goes on.
	var idle []net.Conn
	for range maxConnections + 20 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	c := open(t, dir, "j")
	eventually(t, "an answer beside silent connections", func() bool { _, err := c.Status(t.Context()); return err == nil })
	for _, conn := range idle {
		conn.Close()
	}
	if len(job.stops) != 0 {
		t.Errorf("stopped by %q", job.stops)
	}
}

// A launcher that ends cuts a Stacks that does not, and all who follow get the end.
func TestCloseEndsAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	inside := make(chan bool, 1)
	r := register(t, dir, "j", &fakeJob{stacks: func(ctx context.Context) (string, error) {
		inside <- true
		<-ctx.Done()
		return "", errors.New("the job ends")
	}})
	c := open(t, dir, "j")
	stacks, followed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := c.Stacks(context.Background()); stacks <- err }()
	<-inside
	if _, err := open(t, dir, "j").Stacks(t.Context()); err == nil || !strings.Contains(err.Error(), "for somebody else") {
		t.Errorf("second Stacks: %v", err)
	}
	lines := make(chan string, 100)
	go func() {
		_, err := c.Log(context.Background(), true, func(l node.Line) error { lines <- l.Text; return nil })
		followed <- err
	}()
	r.Log(node.Line{Stream: "stdout", Text: "first"})
	if got := <-lines; got != "first" {
		t.Errorf("line %q", got)
	}
	r.Log(node.Line{Stream: "stdout", Text: "last words"})
	begun := time.Now()
	must(r.Close())
	if took := time.Since(begun); took > 500*time.Millisecond {
		t.Errorf("Close took %v", took)
	}
	if err := <-stacks; err == nil || !strings.Contains(err.Error(), "the job ends") {
		t.Errorf("Stacks: %v", err)
	}
	if err := <-followed; err != nil || len(lines) != 1 || <-lines != "last words" {
		t.Errorf("Log: %v", err)
	}
}

// Many launchers register and leave at the same time; each is there when it says so.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "w")
	done := make(chan error)
	const workers, rounds = 8, 25
	for w := range workers {
		go func() {
			done <- func() error {
				for i := range rounds {
					id := fmt.Sprintf("job-%d", w)
					r, err := Register(dir, id, &fakeJob{status: Status{Attempt: i}})
					if err != nil {
						return err
					}
					entries, err := List(t.Context(), dir)
					if err != nil {
						return err
					}
					found := false
					for _, e := range entries {
						if errors.Is(e.Err, ErrStale) && e.ID == id {
							return fmt.Errorf("%s is stale although it runs", id)
						}
						found = found || e.ID == id && e.Err == nil && e.Status.Attempt == i
					}
					if !found {
						return fmt.Errorf("%s round %d is not in %+v", id, i, entries)
					}
					if err := r.Close(); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
