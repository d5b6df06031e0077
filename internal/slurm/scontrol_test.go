package slurm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// answers is a Command that knows some command lines.
func answers(known map[string]string) Command {
	return func(_ context.Context, name string, args ...string) ([]byte, error) {
		if out, ok := known[name+" "+strings.Join(args, " ")]; ok {
			return []byte(out), nil
		}
		return nil, errors.New("exit status 1")
	}
}

func TestAddress(t *testing.T) {
	const getaddrs, show = "scontrol getaddrs gpu-01", "scontrol show node gpu-01 -o"
	for _, tc := range []struct {
		name  string
		known map[string]string
		want  string // or the error's part after "!"
	}{
		{"24.11", map[string]string{getaddrs: "gpu-01: 127.0.0.1:16818\n"}, "127.0.0.1"},
		{"IPv6", map[string]string{getaddrs: "gpu-01: [fd00::1]:6818\n"}, "fd00::1"},
		{"22.05, no getaddrs", map[string]string{show: "NodeName=gpu-01 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=vm Port=16551\n"}, "127.0.0.1"},
		{"another node's line", map[string]string{getaddrs: "gpu-02: 10.0.0.2:6818\n", show: "NodeAddr=10.0.0.1"}, "10.0.0.1"},
		{"a name", map[string]string{show: "NodeName=gpu-01 NodeAddr=gpu-01.cluster Port=6818"}, "gpu-01.cluster"},
		{"cloud node without address", map[string]string{show: "NodeName=gpu-01 NodeAddr=0.0.0.0"}, "!no usable address"},
		{"a list", map[string]string{show: "NodeAddr=gpu-[01-02]"}, "!no usable address"},
		{"no scontrol", nil, "!ask scontrol for the address of node gpu-01: exit status 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Address(t.Context(), answers(tc.known), "gpu-01")
			if want, ok := strings.CutPrefix(tc.want, "!"); ok {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q, %v, want error %q", got, err, want)
				}
			} else if err != nil || got != tc.want {
				t.Errorf("%q, %v, want %q", got, err, tc.want)
			}
		})
	}
	for _, node := range []string{"", "--help", "gpu-[01-02]", "a b", "gpu-01;x"} {
		if got, err := Address(t.Context(), answers(nil), node); err == nil || !strings.Contains(err.Error(), "is no node name") {
			t.Errorf("Address(%q) = %q, %v", node, got, err)
		}
	}
}

func TestEnd(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	for out, want := range map[string]string{
		"JobId=7 StartTime=2026-11-23T20:11:54 EndTime=2026-11-23T20:21:54 Deadline=N/A": "2026-11-23T19:21:54Z",
		"JobId=7 EndTime=Unknown":  "0001-01-01T00:00:00Z",
		"JobId=7 EndTime=tomorrow": "!is no time",
		"":                         "!no EndTime",
	} {
		end, err := End(t.Context(), answers(map[string]string{"scontrol show job 7 -o": out}), "7", zone)
		if part, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v, %v, want error %q", out, end, err, part)
			}
		} else if got := end.UTC().Format(time.RFC3339); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", out, got, err, want)
		}
	}
	if _, err := End(t.Context(), answers(nil), "7; rm", time.UTC); err == nil {
		t.Error("job \"7; rm\" was asked for")
	}
}

func FuzzScontrol(f *testing.F) {
	f.Add([]byte("gpu-01: 127.0.0.1:16818\n"))
	f.Add([]byte("NodeName=gpu-01 NodeAddr=127.0.0.1 EndTime=2026-11-23T20:21:54"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, parse := range []func([]byte, string) (string, error){parseGetaddrs, parseShowNode} {
			if address, err := parse(out, "gpu-01"); err == nil && (address == "" || strings.ContainsAny(address, " \n/[")) {
				t.Errorf("address %q from %q", address, out)
			}
		}
		_, _ = parseEnd(out, time.UTC)
	})
}
