package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestRanksEnd(t *testing.T) {
	g := startGuard(t, Options{})
	for _, tc := range []struct {
		name, script string
		code, signal int
	}{
		{"well", "exit 0", 0, 0},
		{"code", "exit 37", 37, 0},
		{"highest code", "exit 255", 255, 0},
		{"killed", "kill -KILL $$", 0, 9},
		{"segmentation fault", "kill -SEGV $$", 0, 11},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := time.Now()
			x := exitOfProcess(t, startShell(t, g, tc.script))
			if x.Code != tc.code || x.Signal != tc.signal {
				t.Errorf("code %d, signal %d, want %d and %d", x.Code, x.Signal, tc.code, tc.signal)
			}
			if x.At.Before(before) || x.At.After(time.Now()) {
				t.Errorf("ended at %v, want between %v and now", x.At, before)
			}
			if x.MaxRSS < 100<<10 || x.MaxRSS > 1<<30 {
				t.Errorf("MaxRSS is %d bytes, want that of a shell", x.MaxRSS)
			}
		})
	}
}

// TestWhatARankGets looks at a rank from within: its files are those passed on, whatever
// the launcher has open, and no socket of the guard is among them.
func TestWhatARankGets(t *testing.T) {
	leak, err := unix.Open("/dev/zero", unix.O_RDONLY, 0) // not closed by exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	g := startGuard(t, Options{})
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.WriteFile(in, []byte("words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	extra, err := os.Open("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	w, read := output(t)
	p, err := g.Start(Spec{
		Path: "/bin/sh", Dir: dir, Env: []string{"A=b c", "PATH=" + os.Getenv("PATH")},
		Args: []string{"own-name", "-c", `cat; pwd; echo "$A $0 $1"; ps -o pgid=,sid= -p $$ | xargs
			exec sleep 100`, "zero", "one"},
		Files: []*os.File{stdin, w, nil, extra},
	})
	if err != nil {
		t.Fatal(err)
	}
	pid := fmt.Sprint(p.Pid())
	until(t, 5*time.Second, func() string {
		if now := find(t, pid); now.name != "sleep" {
			return "it is still " + now.name
		}
		return ""
	})
	files := openFiles(t, p.Pid())
	p.Signal(syscall.SIGTERM)
	exitOfProcess(t, p)
	text := read()
	lines := append(strings.Split(strings.TrimSpace(text), "\n"), files...)
	if len(lines) != 8 {
		t.Fatalf("%d lines, want 8:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if real, err := filepath.EvalSymlinks(dir); err != nil || lines[1] != real {
		t.Errorf("folder %q, want %q (%v)", lines[1], real, err)
	}
	lines[1] = "dir"
	if !strings.HasPrefix(lines[5], "1 pipe:") {
		t.Errorf("file 1 is %q, want a pipe", lines[5])
	}
	lines[5] = "1 pipe"
	want := []string{
		"words", "dir", "b c zero one", fmt.Sprint(p.Pid(), " ", g.Pid()),
		"0 " + in, "1 pipe", "2 /dev/null", "3 /dev/full",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("what the rank sees (-want +got):\n%s", diff)
	}
}

// openFiles lists the files of a process as number and name.
func openFiles(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		name, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the one that read the folder
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Name()+" "+name)
	}
	return list
}

// inherited is this process's own line of ignored signals: Go itself ignores none.
func inherited(t *testing.T) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "SigIgn:") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("no SigIgn in /proc/self/status")
	return ""
}

// TestSignalsAreAsUsual sees that a rank neither ignores nor blocks a signal because
// of Go's runtime, the launcher or the guard, and that its files block.
func TestSignalsAreAsUsual(t *testing.T) {
	g := startGuard(t, Options{})
	w, read := output(t)
	p, err := g.Start(Spec{
		Path: "/bin/grep", Args: []string{"grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"},
		Files: []*os.File{nil, w},
	})
	if err != nil {
		t.Fatal(err)
	}
	flags, err := unix.FcntlInt(w.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags of the output are %#x (%v), want no O_NONBLOCK", flags, err)
	}
	text := read()
	exitOfProcess(t, p)
	// What the tests were started with ignored stays so, as behind nohup.
	want := "SigBlk:\t0000000000000000\n" + inherited(t) + "\n"
	if text != want {
		t.Errorf("signals of a rank are\n%swant\n%s", text, want)
	}
}

func TestCannotStart(t *testing.T) {
	g := startGuard(t, Options{})
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(dir, "missing")
	closed, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct {
		name  string
		spec  Spec
		errno syscall.Errno
		text  string
	}{
		{"no file", Spec{Path: missing}, syscall.ENOENT, "exec " + missing},
		{"no folder", Spec{Path: "/bin/true", Dir: missing}, syscall.ENOENT, "chdir " + missing},
		{"not executable", Spec{Path: write("plain", "x", 0o600)}, syscall.EACCES, "plain: permission denied"},
		{"no format", Spec{Path: write("garbage", "\x00\x01\x02", 0o700)}, syscall.ENOEXEC, "exec format error"},
		{"no interpreter", Spec{Path: write("script", "#!/missing/interpreter\n", 0o700)}, syscall.ENOENT, "interpreter or loader"},
		{"a folder", Spec{Path: dir}, syscall.EACCES, dir},
		{"NUL in an argument", Spec{Path: "/bin/true", Args: []string{"a\x00b"}}, syscall.EINVAL, "/bin/true"},
		{"no such CPU", Spec{Path: "/bin/true", CPUs: []int{1023}}, syscall.EINVAL, "CPUs [1023]"},
		{"negative CPU", Spec{Path: "/bin/true", CPUs: []int{-1}}, syscall.EINVAL, "CPUs [-1]"},
		{"arguments too long", Spec{Path: "/bin/true", Args: []string{"true", strings.Repeat("x", 1<<20)}}, syscall.E2BIG, "argument list too long"},
		{"beyond the protocol", Spec{Path: "/bin/true", Args: []string{strings.Repeat("x", maxSpec)}}, syscall.E2BIG, "argument list too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := g.Start(tc.spec)
			var pathErr *fs.PathError
			if !errors.As(err, &pathErr) || pathErr.Err != tc.errno || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("error %v, want %v with %q", err, tc.errno, tc.text)
			}
		})
	}
	t.Run("closed file", func(t *testing.T) {
		_, err := g.Start(Spec{Path: "/bin/true", Files: []*os.File{closed}})
		if err == nil || !strings.Contains(err.Error(), "file 0 for a rank: use of closed file") {
			t.Errorf("error %v, want one that file 0 is closed", err)
		}
	})
	// None of it has harmed the guard.
	if x := exitOfProcess(t, startShell(t, g, "exit 5")); x.Code != 5 {
		t.Errorf("code %d after all errors, want 5", x.Code)
	}
}

// TestLargeEnvironment sends a start in many packets.
func TestLargeEnvironment(t *testing.T) {
	g := startGuard(t, Options{})
	env := []string{"PATH=" + os.Getenv("PATH")}
	for i := range 10 {
		env = append(env, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", 100_000)))
	}
	w, read := output(t)
	p, err := g.Start(Spec{Path: "/bin/sh", Args: []string{"sh", "-c", "echo ${#V0} ${#V9}"}, Env: env, Files: []*os.File{nil, w}})
	if err != nil {
		t.Fatal(err)
	}
	if text := read(); text != "100000 100000\n" {
		t.Errorf("lengths %q, want 100000 twice", text)
	}
	exitOfProcess(t, p)
}

func TestPlacement(t *testing.T) {
	var mask unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mask); err != nil {
		t.Fatal(err)
	}
	var cpus []int
	for i := range 1024 {
		if mask.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	g := startGuard(t, Options{})
	show := func(s Spec) (string, []string) {
		w, read := output(t)
		s.Path, s.Files = "/bin/sh", []*os.File{nil, w}
		s.Args = []string{"sh", "-c", "grep Cpus_allowed_list /proc/self/status | cut -f2; cat /proc/self/oom_score_adj"}
		p, err := g.Start(s)
		if err != nil {
			t.Fatal(err)
		}
		text := read()
		exitOfProcess(t, p)
		return strings.Join(strings.Fields(text), " "), p.Warnings()
	}
	plain, _ := show(Spec{})
	last := cpus[len(cpus)-1]
	bound, warnings := show(Spec{CPUs: []int{last}, OOMScoreAdj: 321})
	if want := fmt.Sprintf("%d 321", last); bound != want || len(warnings) > 0 {
		t.Errorf("CPUs and oom_score_adj %q, want %q (warnings %v)", bound, want, warnings)
	}
	// The guard has taken back what it inherits to one rank.
	if after, _ := show(Spec{}); after != plain {
		t.Errorf("a rank that is not placed has %q after one that was, want %q", after, plain)
	}
	if _, warnings := show(Spec{MemNodes: []int{5000}}); len(warnings) != 1 || !strings.Contains(warnings[0], "NUMA nodes [5000]") {
		t.Errorf("warnings %q, want one of node 5000", warnings)
	}
}

// TestMemoryPolicy needs a kernel that knows policies, and whose filters let them be set.
func TestMemoryPolicy(t *testing.T) {
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil {
		t.Skip("this kernel shows no memory policies: ", err)
	}
	g := startGuard(t, Options{})
	w, read := output(t)
	p, err := g.Start(Spec{Path: "/bin/cat", Args: []string{"cat", "/proc/self/numa_maps"}, Files: []*os.File{nil, w}, MemNodes: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	text := read()
	exitOfProcess(t, p)
	if len(p.Warnings()) > 0 {
		t.Skip(p.Warnings())
	}
	if !strings.Contains(text, "prefer") {
		t.Errorf("memory of the rank is\n%.300s\nwant a policy that prefers node 0", text)
	}
}
