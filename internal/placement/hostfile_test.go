package placement

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHosts(t *testing.T) {
	for text, want := range map[string][]Host{
		"gpu-01 slots=8\n\n# the second\ngpu-02 slots=8 max_slots=8\n": {{"gpu-01", 8}, {"gpu-02", 8}},
		"a:4\nb:4":              {{"a", 4}, {"b", 4}},
		"10.0.0.1\nme@10.0.0.2": {{"10.0.0.1", 0}, {"me@10.0.0.2", 0}},
	} {
		got, err := ParseHosts(text)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%q: %v %s", text, err, d)
		}
	}
	for text, words := range map[string]string{
		"": "no host", "a slots=0": "slots", "a cpus=3": `"cpus=3" is not known`, "a\na": "already, in line 1", "a slots=2\nb slots=3": "as many ranks",
		"-oProxyCommand=x": "line 1", "a;b": "line 1", "a b": `"b" is not known`, strings.Repeat("x\n", 2): "already",
	} {
		if _, err := ParseHosts(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q", text, err, words)
		}
	}
}

func FuzzParseHosts(f *testing.F) {
	f.Add("gpu-01 slots=8\ngpu-02 slots=8 # x")
	f.Add("a:4")
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := ParseHosts(text)
		for _, h := range hosts {
			if err != nil || h.Name == "" || strings.HasPrefix(h.Name, "-") || strings.ContainsAny(h.Name, " ;\n'\"$`") {
				t.Errorf("%q: %+v, %v", text, hosts, err)
			}
		}
	})
}
