package guard

import (
	"os"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzPackets reads any bytes as each of the packets. What can be read is what
// writing it gives.
func FuzzPackets(f *testing.F) {
	f.Add(append(newPacket(kindStart, 7).b, wireSpec{
		Path: "/bin/true", Args: []string{"true", ""}, Env: []string{"A=b"}, Dir: "/", CPUs: []int{0, 5}, MemNodes: []int{1}, OOMScoreAdj: -3, Present: []int{1, 0},
	}.encode()...))
	f.Add(hello{protocolVersion, "12.345.", 12, "/sys/fs/cgroup/x", "w"}.encode())
	f.Add(started{12, 2, "exec", "/bin/x", []string{"w"}}.encode(7))
	f.Add(exit{3, 0, true, 1 << 60, 1 << 30, 2}.encode(7))
	f.Add(encodeLeft(7, []Remains{{Pid: 1, id: 2, State: "D", Name: "x"}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		if s, err := decodeSpec(p.body); err == nil {
			again, err := decodeSpec(s.encode())
			if err != nil || !reflect.DeepEqual(s, again) {
				t.Errorf("%+v is read back as %+v (%v)", s, again, err)
			}
		}
		if h, err := decodeHello(p.body); err == nil {
			if again, err := decodeHello(h.encode()[headerBytes:]); err != nil || h != again {
				t.Errorf("%+v is read back as %+v (%v)", h, again, err)
			}
		}
		if s, err := decodeStarted(p.body); err == nil {
			if again, err := decodeStarted(s.encode(p.seq)[headerBytes:]); err != nil || !reflect.DeepEqual(s, again) {
				t.Errorf("%+v is read back as %+v (%v)", s, again, err)
			}
		}
		if x, err := decodeExit(p.body); err == nil {
			if again, err := decodeExit(x.encode(p.seq)[headerBytes:]); err != nil || x != again {
				t.Errorf("%+v is read back as %+v (%v)", x, again, err)
			}
		}
		if l, err := decodeLeft(p.body); err == nil {
			if again, err := decodeLeft(encodeLeft(p.seq, l)[headerBytes:]); err != nil || !reflect.DeepEqual(l, again) {
				t.Errorf("%+v is read back as %+v (%v)", l, again, err)
			}
		}
	})
}

// FuzzStat reads any bytes as /proc/PID/stat.
func FuzzStat(f *testing.F) {
	f.Add([]byte("42 (a) R 1) S 7 42 40 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 12345 1000 10 18446744073709551615\n"))
	f.Add([]byte("1 () Z 0 0 0"))
	f.Add([]byte(")1("))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseStat(b) })
}

func TestStat(t *testing.T) {
	const line = "42 (a) R 1) S 7 42 40 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 12345 1000 10 18446744073709551615\n"
	got, err := parseStat([]byte(line))
	want := proc{pid: 42, parent: 7, group: 42, session: 40, start: 12345, state: 'S', name: "a) R 1"}
	if err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	self, err := readProc(os.Getpid())
	if err != nil || self.parent != os.Getppid() || !self.alive() {
		t.Errorf("we are %+v (%v)", self, err)
	}
}

// TestAbove follows parents in trees that changed while they were read.
func TestAbove(t *testing.T) {
	all := tree{1: {pid: 1}, 2: {pid: 2, parent: 1}, 3: {pid: 3, parent: 2}, 5: {pid: 5, parent: 6}, 6: {pid: 6, parent: 5}, 7: {pid: 7, parent: 99}}
	for _, tc := range []struct {
		pid  int
		want []int
	}{{3, []int{3, 2}}, {2, []int{2}}, {1, nil}, {5, nil}, {7, nil}} {
		var got []int
		for _, p := range all.above(all[tc.pid], 1) {
			got = append(got, p.pid)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("above %d (-want +got):\n%s", tc.pid, diff)
		}
	}
}
