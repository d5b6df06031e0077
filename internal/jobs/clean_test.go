package jobs

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wanrun/wanrun/internal/jobs/owner"
)

func find(t *testing.T, dir, temp string) (found []Leftover, kept []Kept) {
	t.Helper()
	found, kept, err := Find(dir, temp)
	if err != nil {
		t.Fatal(err)
	}
	return found, kept
}

func of(found []Leftover, kind Kind) (of []Leftover) {
	for _, l := range found {
		if l.Kind == kind {
			of = append(of, l)
		}
	}
	return of
}

func byPid(found []Leftover, pid int) *Leftover {
	for _, l := range found {
		if l.Kind == LeftProcess && l.Pid == pid {
			return &l
		}
	}
	return nil
}

// A killed launcher's socket and folder are found and removed, a running one's are not.
func TestCleanFiles(t *testing.T) {
	dir, temp := filepath.Join(t.TempDir(), "w"), t.TempDir()
	c, folder := start(t, "launcher", dir, temp)
	outside := t.TempDir()
	must(os.WriteFile(outside+"/keep", []byte("x"), 0o600))
	must(os.Symlink(outside, folder+"/link"))
	must(os.Mkdir(temp+"/wanrun-unknown", 0o700))
	must(os.Mkdir(temp+"/other-folder", 0o700))
	must(os.Symlink(folder, temp+"/wanrun-link"))
	found, kept := find(t, dir, temp)
	if n := len(of(found, LeftFolder)) + len(of(found, LeftSocket)); n != 0 || len(kept) != 2 {
		t.Errorf("of a running launcher: %+v, kept %+v, want 0 and 2", found, kept)
	}
	must(c.Process.Kill())
	_ = c.Wait()
	found, kept = find(t, dir, temp)
	folders, sockets := of(found, LeftFolder), of(found, LeftSocket)
	if len(folders) != 1 || len(sockets) != 1 || len(kept) != 1 || kept[0].Why != "it does not say whose it is" {
		t.Fatalf("of a dead launcher: %+v, kept %+v", found, kept)
	}
	if f := folders[0]; f.Path != folder || f.Job != "other" || f.Bytes < 5000 || f.Bytes > 6000 {
		t.Errorf("folder %+v", f)
	}
	if s := sockets[0]; s.Path != filepath.Join(dir, "other.sock") || s.Job != "other" {
		t.Errorf("socket %+v", s)
	}
	for _, l := range append(folders, sockets...) {
		if _, err := os.Lstat(l.Path); err != nil {
			t.Errorf("%s is gone before Remove: %v", l.Path, err)
		}
		if err := l.Remove(t.Context()); err != nil {
			t.Errorf("%s: %v", l.Text, err)
		}
		if _, err := os.Lstat(l.Path); !os.IsNotExist(err) {
			t.Errorf("%s is there after Remove: %v", l.Path, err)
		}
		if err := l.Remove(t.Context()); err != nil {
			t.Errorf("%s, again: %v", l.Text, err)
		}
	}
	for _, path := range []string{outside + "/keep", temp + "/wanrun-unknown", temp + "/other-folder"} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

// What was found and has come to life since is left alone.
func TestCleanTooLate(t *testing.T) {
	dir, temp := filepath.Join(t.TempDir(), "w"), t.TempDir()
	c, folder := start(t, "launcher", dir, temp)
	must(c.Process.Kill())
	_ = c.Wait()
	found, _ := find(t, dir, temp)
	must(os.Remove(folder + "/" + owner.FileName))
	claim, err := owner.Take(folder, "new")
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Release()
	defer register(t, dir, "other", &fakeJob{}).Close()
	for _, l := range append(of(found, LeftFolder), of(found, LeftSocket)...) {
		err := l.Remove(t.Context())
		if l.Kind == LeftFolder && (err == nil || !strings.Contains(err.Error(), "stays: process "+strconv.Itoa(os.Getpid()))) {
			t.Errorf("%s: %v", l.Path, err)
		}
		if _, err := os.Lstat(l.Path); err != nil {
			t.Errorf("%s was removed: %v", l.Path, err)
		}
	}
}

// The owner's file decides; without a lock by numbers, and in doubt the folder stays.
func TestFolderOwners(t *testing.T) {
	self, err := owner.Self("j")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := parseMark(deadMark(t))
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	for name, tc := range map[string]struct {
		change func(*owner.Owner)
		found  bool
	}{
		"self":        {func(*owner.Owner) {}, false},
		"dead":        {func(o *owner.Owner) { o.Pid, o.Start = dead.pid, dead.start }, true},
		"same-number": {func(o *owner.Owner) { o.Start-- }, true},
		"container":   {func(o *owner.Owner) { o.Namespace = "pid:[1]" }, false},
		"machine":     {func(o *owner.Owner) { o.Boot, o.Host = "other", "other" }, false},
		"no-pid":      {func(o *owner.Owner) { o.Pid = 0 }, false},
	} {
		o := self
		tc.change(&o)
		path := filepath.Join(temp, "wanrun-"+name)
		must(os.Mkdir(path, 0o700))
		data, err := json.Marshal(o)
		must(err)
		must(os.WriteFile(filepath.Join(path, owner.FileName), data, 0o600))
		found, kept := find(t, temp+"/w", temp)
		is := false
		for _, l := range of(found, LeftFolder) {
			is = is || l.Path == path
		}
		stays := false
		for _, k := range kept {
			stays = stays || k.Path == path && k.Why != ""
		}
		if is != tc.found || stays == tc.found {
			t.Errorf("%s: found %v, kept %v, want %v and the other", name, is, stays, tc.found)
		}
	}
}

// A process is left over if it has a mark, and no mark of it is of a guard that lives.
func TestCleanProcesses(t *testing.T) {
	// Not by os/exec, which keeps one of equal names.
	begin := func(env ...string) *os.Process {
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "300"}, &syscall.ProcAttr{Env: env})
		if err != nil {
			t.Fatal(err)
		}
		c, err := os.FindProcess(pid)
		must(err)
		t.Cleanup(func() { _ = c.Kill(); _, _ = c.Wait() })
		return c
	}
	dead := deadMark(t)
	start, _, err := owner.StartOf(os.Getpid())
	must(err)
	live := strconv.Itoa(os.Getpid()) + "." + strconv.FormatUint(start, 10) + ".1"
	reused := strconv.Itoa(os.Getpid()) + "." + strconv.FormatUint(start-1, 10) + ".1"
	for _, tc := range []struct {
		name  string
		env   []string
		found bool
	}{
		{"dead guard", []string{"A=1", markVariable + "=" + dead, "WANRUN_JOB=train"}, true},
		{"number in use again", []string{markVariable + "=" + reused}, true},
		{"live guard", []string{markVariable + "=" + live}, false},
		{"live guard in a dead one's job", []string{markVariable + "=" + dead, markVariable + "=" + live}, false},
		{"dead guard in a live one's job", []string{markVariable + "=" + live, markVariable + "=" + dead}, false},
		{"no mark", []string{"A=1"}, false},
		{"nonsense", []string{markVariable + "=1"}, false},
		{"not the variable", []string{"X" + markVariable + "=" + dead}, false},
	} {
		c := begin(tc.env...)
		found, _ := find(t, t.TempDir()+"/none", t.TempDir())
		l := byPid(found, c.Pid)
		if (l != nil) != tc.found {
			t.Errorf("%s: found %v, want %v", tc.name, l, tc.found)
		}
		if l == nil {
			continue
		}
		gone := make(chan struct{})
		go func() { _, _ = c.Wait(); close(gone) }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := l.Remove(ctx); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		cancel()
		select {
		case <-gone:
		case <-time.After(5 * time.Second):
			t.Errorf("%s: it lives", tc.name)
		}
	}
	if _, _, ok := Whose(os.Getpid()); ok {
		t.Error("this test has a mark")
	}
	c := begin(markVariable+"="+dead, "WANRUN_JOB=train")
	if job, left, ok := Whose(c.Pid); job != "train" || !left || !ok {
		t.Errorf("Whose = %q, %v, %v", job, left, ok)
	}
}

// The real case: launcher and guard are both killed, so that nobody is there to end what
// a rank had started in a session of its own.
func TestCleanAfterGuard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, guardPid := start(t, "guarded", dir)
	var pid int
	eventually(t, "the rank's child", func() bool {
		text, err := os.ReadFile(dir + "/pid")
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	})
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	// What it was started with is there once it has become sleep.
	eventually(t, "sleep", func() bool { return nameOf(pid) == "sleep" })
	if job, left, ok := Whose(pid); job != "train 7" || left || !ok {
		t.Errorf("while it runs: Whose = %q, %v, %v", job, left, ok)
	}
	found, _ := find(t, dir+"/none", dir)
	if l := byPid(found, pid); l != nil {
		t.Errorf("while it runs: %+v", l)
	}
	guardNumber, err := strconv.Atoi(guardPid)
	must(err)
	stop(t, c.Process) // or it would sweep
	must(syscall.Kill(guardNumber, syscall.SIGKILL))
	eventually(t, "a dead guard", func() bool { _, state, err := owner.StartOf(guardNumber); return err != nil || state == 'Z' })
	must(c.Process.Kill())
	_ = c.Wait()
	found, _ = find(t, dir+"/none", dir)
	l := byPid(found, pid)
	if l == nil {
		t.Fatalf("process %d is not in %+v", pid, found)
	}
	if want := "process " + strconv.Itoa(pid) + ` (sleep) of job "train 7", `; !strings.HasPrefix(l.Text, want) || !strings.HasSuffix(l.Text, "its guard "+guardPid+" is dead") || l.Bytes <= 0 {
		t.Errorf("%q of %d bytes, want %q…", l.Text, l.Bytes, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := l.Remove(ctx); err != nil {
		t.Error(err)
	}
	if start, state, err := owner.StartOf(pid); err == nil && state != 'Z' && state != 'X' && start == l.process.start {
		t.Errorf("process %d is in state %c", pid, state)
	}
}
