package plan

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestParseDevices(t *testing.T) {
	for _, tc := range []struct {
		text   string
		count  int
		memory int64
		matMul float64 // TFLOP/s
		want   string  // of the error
	}{
		{"h100x8", 8, 81559 * mib, 642.85, ""},
		{"H100", 1, 81559 * mib, 642.85, ""},
		{"80GiB,80GiB", 2, 80 * gib, 202.8, ""},
		{"24gibx3", 3, 24 * gib, 202.8, ""},
		{"24G:150", 1, 24 * gib, 150, ""},
		{"a100-40x2:100", 2, 40 * gib, 100, ""},
		{"", 0, 0, 0, "neither a size"},
		{"h1000", 0, 0, 0, "neither a size"},
		{"h100x0", 0, 0, 0, "want 1 to 1024"},
		{"h100x9999999", 0, 0, 0, "want 1 to 1024"},
		{"h100x1024,h100", 0, 0, 0, "more than 1024"},
		{"24G:NaN", 0, 0, 0, "TFLOP/s"},
		{"24G:-1", 0, 0, 0, "TFLOP/s"},
		{"-5G", 0, 0, 0, "neither a size"},
		{strings.Repeat("9", 99), 0, 0, 0, "is not a device"},
	} {
		got, err := ParseDevices(tc.text)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
			}
			continue
		}
		if err != nil || len(got) != tc.count || got[0].MemoryBytes != tc.memory || math.Abs(got[0].MatMulFLOPs/1e12-tc.matMul) > 0.01 {
			t.Errorf("%q: %d devices, %+v (%v)", tc.text, len(got), got, err)
		}
	}
}

func FuzzParseDevices(f *testing.F) {
	for _, s := range []string{"h100x8", "80GiB,24G:100", "x", ":", "1e300", "4090x2,5090"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParseDevices(s)
		if err != nil {
			return
		}
		for _, d := range all {
			if d.MemoryBytes < mib || !(d.MatMulFLOPs > 0) || !(d.ConvFLOPs > 0) || len(all) > maxDevices {
				t.Errorf("%q: %+v", s, d)
			}
		}
	})
}

func TestSeconds(t *testing.T) {
	d := Device{MatMulFLOPs: 100, AttentionFLOPs: 50, ConvFLOPs: 10, MemoryRate: 10, LinkRate: 10, FetchRate: 5, FileRate: 1}
	for _, tc := range []struct {
		name string
		p    Phase
		want float64
	}{
		{"arithmetic adds up", Phase{Work: Work{MatMulFLOPs: 100, AttentionFLOPs: 50, ConvFLOPs: 10}}, 3},
		{"memory bounds", Phase{Work: Work{MatMulFLOPs: 100, MemoryBytes: 50}}, 5},
		{"weights beside", Phase{Work: Work{MatMulFLOPs: 400, FromHostBytes: 10}}, 4},
		{"weights take longer", Phase{Work: Work{MatMulFLOPs: 400, FromHostBytes: 10, FromFileBytes: 7}}, 9},
		{"gathering is beside, exchange is not", Phase{Work: Work{MatMulFLOPs: 100},
			Collectives: []Collective{{Purpose: "weights", SentBytes: 30}, {Purpose: "qkv", SentBytes: 10, ReceivedBytes: 20}}}, 5},
	} {
		if got := d.Seconds(tc.p); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("%s: %v s, want %v", tc.name, got, tc.want)
		}
	}
}

// ranksOf makes a plan of ranks that take so much on devices with so much, on one node.
func ranksOf(device, host, has int64, ranks int) *Plan {
	p := &Plan{}
	for i := range ranks {
		p.Devices = append(p.Devices, Device{Name: "d", MemoryBytes: has, LibraryBytes: 10})
		p.Ranks = append(p.Ranks, Rank{Rank: i, DeviceReservedBytes: device,
			Phases: []Phase{{Name: "denoise", DevicePeakBytes: device, DeviceBytes: map[string]int64{"weights": device}, HostAnonymousBytes: host}}})
	}
	p.Finish()
	return p
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name   string
		p      *Plan
		limits Limits
		want   string
	}{
		{"fits to the byte", ranksOf(90, 50, 100, 2), Limits{HostBytes: 100, ArenaBytes: 90}, ""},
		{"libraries count", ranksOf(91, 50, 100, 2), Limits{}, "device memory of rank 0"},
		{"limit of the arenas", ranksOf(90, 50, 100, 2), Limits{ArenaBytes: 89}, "reservation of rank 0"},
		{"the node's ranks together", ranksOf(90, 51, 100, 2), Limits{HostBytes: 101, HostBy: "cgroup /x"}, "host memory of node 0"},
		{"nothing is known", ranksOf(1<<50, 1<<50, 0, 2), Limits{}, ""},
	} {
		tc.p.Judge(tc.limits)
		if tc.p.Fits != (tc.want == "") || !strings.Contains(tc.p.Verdict, tc.want) || (tc.want != "") != strings.Contains(tc.p.Table(), "what changes it") {
			t.Errorf("%s: fits %v, %q\n%s", tc.name, tc.p.Fits, tc.p.Verdict, tc.p.Table())
		}
	}
}

// model stands for a worker's plans: weights of 100 over the ranks that share them, and a
// latent of one for each 1000 pixels and frame.
func model(has, host int64) func(Choice) (*Plan, error) {
	return func(c Choice) (*Plan, error) {
		weights, shared, n := int64(100), int64(0), int64(c.Ranks())
		if c.DType == "bf16" {
			weights = 50
		}
		if c.Offload == "host" {
			shared, weights = weights/n, 5
		} else if c.Offload == "file" {
			weights = 5
		} else if c.DiTFSDP {
			weights /= n
		}
		p := ranksOf(weights+c.video()/1000/n, 1+shared, has, int(n))
		p.Seconds = float64(c.video()*int64(c.Steps)) / float64(n)
		if c.Offload == "file" {
			p.Seconds *= 2
		}
		p.Judge(Limits{HostBytes: host})
		return p, nil
	}
}

func TestSearch(t *testing.T) {
	base := Choice{CFG: 1, Ring: 1, Ulysses: 1, Offload: "device", DType: "fp32", Width: 320, Height: 192, Frames: 17, Steps: 20}
	for _, tc := range []struct {
		name      string
		has, host int64
		ranks     int
		fixed     []string
		want      string // changes of the best, "none" if nothing fits
	}{
		{"as it is", 2000, 1000, 1, nil, ""},
		{"shards", 350, 1000, 4, nil, "--nproc 4 --ulysses 4 --ring 1 --cfg-parallel 1 --dit-fsdp=true --t5-fsdp=true"},
		{"host memory", 1075, 1000, 1, nil, "--offload dit=host"},
		{"no host memory for it", 1075, 50, 1, nil, "--offload dit=file"},
		{"what is fixed stays", 1140, 50, 1, []string{"offload"}, "--dtype bf16"},
		{"fewer frames", 800, 1000, 1, nil, "--dtype bf16 --frames 5"},
		{"nothing", 12, 1000, 1, nil, "none"},
	} {
		s := Search{Base: base, MaxRanks: tc.ranks, Heads: 40, Tokens: 1000, First: true, Most: 1, Fixed: map[string]bool{}}
		for _, f := range tc.fixed {
			s.Fixed[f] = true
		}
		got, err := s.Run(model(tc.has, tc.host))
		if err != nil {
			t.Fatal(err)
		}
		changes := "none"
		if len(got) > 0 {
			changes = strings.Join(got[0].Changes, " ")
		}
		if changes != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, changes, tc.want)
		}
	}
}

// TestPareto: no option is beaten by another of the same video.
func TestPareto(t *testing.T) {
	base := Choice{CFG: 1, Ring: 1, Ulysses: 1, Offload: "device", DType: "fp32", Width: 320, Height: 192, Frames: 17, Steps: 40}
	options, err := Search{Base: base, MaxRanks: 4, Heads: 40, Tokens: 1000}.Run(model(1e6, 1e6))
	if err != nil || len(options) < 3 {
		t.Fatalf("%d options (%v)", len(options), err)
	}
	for i, a := range options {
		for k, b := range options {
			if i != k && a.Choice.video() == b.Choice.video() && a.Choice.Steps == b.Choice.Steps && a.Seconds <= b.Seconds && a.DeviceBytes <= b.DeviceBytes && a.HostBytes <= b.HostBytes {
				t.Errorf("%v is no better than %v", b, a)
			}
		}
	}
}

func TestLadder(t *testing.T) {
	c := Choice{Width: 832, Height: 480, Frames: 81}
	rungs := Search{}.Ladder(c)
	if rungs[len(rungs)-1] != c || !slices.IsSortedFunc(rungs, func(a, b Choice) int { return int(a.video() - b.video()) }) {
		t.Errorf("%v", rungs)
	}
	for _, r := range rungs {
		if r.Width%16 != 0 || r.Height%16 != 0 || r.Frames%4 != 1 {
			t.Errorf("%v", r)
		}
	}
	fixed := Search{Fixed: map[string]bool{"size": true, "frames": true}}.Ladder(c)
	if len(fixed) != 1 || fixed[0] != c {
		t.Errorf("all is fixed: %v", fixed)
	}
}
