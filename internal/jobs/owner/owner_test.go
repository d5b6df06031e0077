package owner

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTake(t *testing.T) {
	dir := t.TempDir()
	c, err := Take(dir, "j")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Parse(data)
	if err != nil || o.Pid != os.Getpid() || o.Job != "j" || !o.Locked {
		t.Errorf("%s is %+v, %v", data, o, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	lock := func() error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err := lock(); err != unix.EWOULDBLOCK {
		t.Errorf("lock of a claim: %v, want %v", err, unix.EWOULDBLOCK)
	}
	if _, err := Take(dir, "k"); !os.IsExist(err) {
		t.Errorf("second claim: %v, want that there is one", err)
	}
	if err := c.Release(); err != nil {
		t.Error(err)
	}
	if err := lock(); err != nil {
		t.Errorf("lock after the release: %v", err)
	}
}

func TestDead(t *testing.T) {
	self, err := Self("")
	if err != nil {
		t.Fatal(err)
	}
	self.Machine = "m"
	for _, tc := range []struct {
		name   string
		change func(*Owner)
		locked bool
		dead   bool
	}{
		{"lives", func(*Owner) {}, false, false},
		{"number of another", func(o *Owner) { o.Start++ }, false, true},
		{"locked by a stranger", func(o *Owner) { o.Start++ }, true, false},
		{"restarted machine", func(o *Owner) { o.Boot = "b" }, false, true},
		{"restarted machine, but locked", func(o *Owner) { o.Boot = "b" }, true, false},
		{"another machine", func(o *Owner) { o.Boot, o.Machine = "b", "n" }, false, false},
		{"another machine of the same name", func(o *Owner) { o.Boot, o.Machine = "b", "" }, false, false},
		{"another container", func(o *Owner) { o.Namespace, o.Start = "pid:[1]", 1 }, false, false},
		{"another container, lock given up", func(o *Owner) { o.Namespace, o.Start, o.Locked = "pid:[1]", 1, true }, false, true},
	} {
		o := self
		tc.change(&o)
		if dead, why := o.Dead(self, tc.locked); dead != tc.dead || dead == (why != "") {
			t.Errorf("%s: %v, %q, want %v", tc.name, dead, why, tc.dead)
		}
	}
}

func TestAlive(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	start, _, err := StartOf(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !Alive(c.Process.Pid, start) || Alive(c.Process.Pid, start+1) {
		t.Errorf("alive %v, with another start %v", Alive(c.Process.Pid, start), Alive(c.Process.Pid, start+1))
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	if Alive(c.Process.Pid, start) {
		t.Error("alive after its end")
	}
}

func TestParseStat(t *testing.T) {
	const rest = " 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 77 0 0\n"
	for _, tc := range []struct {
		stat  string
		start uint64
		state byte
		ok    bool
	}{
		{"5 (sh) S" + rest, 77, 'S', true},
		{"5 (a) R 1 (b) Z" + rest, 77, 'Z', true},
		{"5 (\n) T" + rest, 77, 'T', true},
		{"5 (sh) S 1 1", 0, 0, false}, {"", 0, 0, false}, {"5 sh", 0, 0, false},
	} {
		start, state, err := parseStat([]byte(tc.stat))
		if start != tc.start || state != tc.state || (err == nil) != tc.ok {
			t.Errorf("%q: %d, %c, %v, want %d, %c, %v", tc.stat, start, state, err, tc.start, tc.state, tc.ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"version":1,"pid":3,"start":4,"boot":"b","pid_namespace":"pid:[1]","host":"h","locked":true,"job":"j"}`, `{"version":2}`, `{}`, `{"version":1,"pid":-3}`, "5 (sh) S 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 77 0 0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := Parse(b); err == nil && (o.Pid < 1 || o.Start == 0 || o.Boot == "" || o.Namespace == "") {
			t.Errorf("%q is %+v", b, o)
		}
		_, _, _ = parseStat(b)
	})
}
