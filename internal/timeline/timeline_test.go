package timeline

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/wanrun/wanrun/internal/node"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

type buffer struct {
	bytes.Buffer
	fail error
}

func (b *buffer) Write(p []byte) (int, error) {
	if b.fail != nil {
		return 0, b.fail
	}
	return b.Buffer.Write(p)
}

func (b *buffer) Close() error { return nil }

func at(seconds float64) time.Time { return began.Add(time.Duration(seconds * float64(time.Second))) }

// onCPU is a rank that takes so much beside a plan of 10 GiB.
func onCPU(phase string, beyond int64) *wanrunv1.Progress {
	return &wanrunv1.Progress{Phase: phase, Done: 1, Total: 4, DeviceBytes: 3 * gib, RssBytes: 12 * gib, Memory: &wanrunv1.Memory{
		RssAnonymous: proto.Int64(10*gib + beyond), ExpectedAnonymous: proto.Int64(10 * gib), Held: proto.Int64(9 * gib), Planned: proto.Int64(4 * gib),
		GpuUnknown: "the rank computes on the CPU"}}
}

func onGPU(phase string, own int64, change func(*wanrunv1.Gpu)) *wanrunv1.Progress {
	g := &wanrunv1.Gpu{Uuid: "GPU-a", Own: proto.Int64(own), Used: proto.Int64(own + gib), Total: proto.Int64(80 * gib), ExpectedOwn: proto.Int64(30 * gib)}
	if change != nil {
		change(g)
	}
	return &wanrunv1.Progress{Phase: phase, Total: 1, RssBytes: gib, Memory: &wanrunv1.Memory{Gpu: g}}
}

func TestLog(t *testing.T) {
	var out buffer
	r := NewRecorder(began, &out, nil)
	r.Progress(at(1.5), 0, 3, onCPU("denoise", 0))
	r.Sample(node.Sample{At: at(2), Rank: 4, RSS: 5, RSSPeak: -1})
	r.Progress(at(3), 1, 5, onGPU("denoise", 20*gib, nil))
	r.Progress(at(4), 1, 6, &wanrunv1.Progress{Phase: "plan", DeviceBytes: 0})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	var lines []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	if len(lines) != 4 {
		t.Fatalf("%d lines, want 4", len(lines))
	}
	for _, tc := range []struct {
		line int
		key  string
		want any
	}{
		{0, "seconds", 1.5}, {0, "rank", 3.0}, {0, "phase", "denoise"}, {0, "arena_bytes", 3.0 * gib}, {0, "reserved_bytes", 9.0 * gib}, {0, "planned_bytes", 4.0 * gib},
		{0, "rss_bytes", 12.0 * gib}, {0, "rss_anonymous_bytes", 10.0 * gib}, {0, "rss_file_bytes", nil}, {0, "gpu", nil},
		{0, "gpu_unknown", "the rank computes on the CPU"},
		{1, "rss_bytes", 5.0}, {1, "rss_peak_bytes", nil}, {1, "arena_bytes", nil}, {1, "gpu", nil},
		{2, "attempt", 1.0}, {2, "rss_anonymous_bytes", nil},
		{3, "arena_bytes", nil}, {3, "rss_bytes", nil}, // 0 of a worker that could not read it
	} {
		if got, there := lines[tc.line][tc.key]; got != tc.want || !there {
			t.Errorf("line %d, %s: %v (there %v), want %v", tc.line, tc.key, got, there, tc.want)
		}
	}
	gpu, ok := lines[2]["gpu"].(map[string]any)
	if !ok || gpu["own_bytes"] != 20.0*gib || gpu["free_bytes"] != nil || gpu["utilization_percent"] != nil || gpu["ecc_uncorrected"] != nil {
		t.Errorf("gpu %v", lines[2]["gpu"])
	}
}

func TestLogFullDisk(t *testing.T) {
	full := errors.New("no space")
	r := NewRecorder(began, &buffer{fail: full}, nil)
	for range 10 {
		r.Progress(at(1), 0, 0, onCPU("denoise", 0))
	}
	if err := r.Close(); !errors.Is(err, full) {
		t.Errorf("closed with %v", err)
	}
}

// A disk that takes nothing holds nobody up.
func TestLogSlowDisk(t *testing.T) {
	in, out := io.Pipe()
	r := NewRecorder(began, out, nil)
	for range maxWaiting + 100 {
		r.Progress(at(1), 0, 0, onCPU("denoise", 0))
	}
	got := make(chan int)
	go func() {
		data, _ := io.ReadAll(in)
		got <- bytes.Count(data, []byte("\n"))
	}()
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "too fast") {
		t.Errorf("closed with %v", err)
	}
	if n := <-got; n < maxWaiting || n > maxWaiting+1 {
		t.Errorf("%d lines were written, want about %d", n, maxWaiting)
	}
}

func TestWarnings(t *testing.T) {
	type said struct {
		at   float64
		rank int
		p    *wanrunv1.Progress
	}
	both := func(from float64, a, b *wanrunv1.Progress) (all []said) {
		for second := range 6 {
			all = append(all, said{from + float64(second), 0, a}, said{from + float64(second), 1, b}, said{from + float64(second), 2, b})
		}
		return all
	}
	for _, tc := range []struct {
		name  string
		story []said
		want  []string
	}{
		{"as planned", both(0, onCPU("denoise", 0), onCPU("denoise", -gib/8)), nil},
		{"within 3 % and a little", both(0, onCPU("denoise", 10*gib/100*3+60*mib), onCPU("denoise", 300*mib)), nil},
		{"beyond the plan, once", both(0, onCPU("denoise", 500*mib), onCPU("denoise", 0)),
			[]string{"rank 0 takes 10.5 GiB of host memory in denoise, where the plan expects at most 10 GiB: please report this"}},
		{"beyond the plan on a GPU", []said{{0, 4, onGPU("vae_decode", 33*gib, nil)}},
			[]string{"rank 4 takes 33 GiB of its GPU in vae_decode, where the plan expects 30 GiB: please report this"}},
		{"a context on a GPU", []said{{0, 4, onGPU("vae_decode", 31*gib+gib/2, nil)}}, nil},
		{"ranks differ", both(0, onGPU("denoise", 31*gib, nil), onGPU("denoise", 26*gib, nil)),
			[]string{"rank 0 takes 5 GiB more of its GPU in denoise than most ranks do, beyond what the plan says"}},
		{"ranks differ by plan", both(0, onGPU("denoise", 31*gib, nil), onGPU("denoise", 21*gib, func(g *wanrunv1.Gpu) { g.ExpectedOwn = proto.Int64(20 * gib) })), nil},
		{"ranks in different phases", both(0, onGPU("denoise", 31*gib, nil), onGPU("vae_decode", 26*gib, nil))[:3], nil},
		{"ranks differ for a moment", both(0, onGPU("denoise", 31*gib, nil), onGPU("denoise", 26*gib, nil))[:9], nil},
		{"unknown is not a difference", both(0, onGPU("denoise", 31*gib, nil), onGPU("denoise", 0, func(g *wanrunv1.Gpu) { g.Own = nil })), nil},
		{"hot, not only at its power limit", []said{{0, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.Throttling = []string{"power limit"} })},
			{1, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.Throttling = []string{"power limit", "temperature"} })}},
			[]string{"rank 1: the GPU is slowed down: temperature; the whole group waits for it"}},
		{"a link", []said{{0, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.NvlinksUp, g.NvlinksDown = proto.Int32(17), proto.Int32(1) })}},
			[]string{"rank 1: 1 of 18 NVLinks are down; exchanges between GPUs are slow"}},
		{"old memory errors", []said{{0, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.EccUncorrected = proto.Int64(7) })}}, nil},
		{"new memory errors", []said{{0, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.EccUncorrected = proto.Int64(7) })},
			{1, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.EccUncorrected = proto.Int64(9) })}},
			[]string{"rank 1: the GPU has had 2 memory errors that could not be corrected since the run began; the output may be wrong"}},
		{"an event", []said{{0, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.Events = []string{"XID 63: x"} })}, {1, 1, onGPU("denoise", gib, func(g *wanrunv1.Gpu) { g.Events = []string{"XID 63: x"} })}},
			[]string{"rank 1: XID 63: x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			r := NewRecorder(began, nil, func(text string) { got = append(got, text) })
			for _, s := range tc.story {
				r.Progress(at(s.at), 0, s.rank, s.p)
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) || fmt.Sprint(r.Warnings()) != fmt.Sprint(tc.want) {
				t.Errorf("said %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWarningsAreBounded(t *testing.T) {
	n := 0
	r := NewRecorder(began, nil, func(string) { n++ })
	for rank := range 1000 {
		r.Progress(at(1), 0, rank, onCPU("denoise", gib))
	}
	if n != maxWarnings {
		t.Errorf("%d warnings, want %d", n, maxWarnings)
	}
}

// Thinning a series keeps its peak, its order and its bound.
func TestSeriesThins(t *testing.T) {
	s := &series{}
	for i := range 10 * maxPoints {
		p := Point{Seconds: float64(i), Phase: "denoise"}
		rss := int64(1000)
		if i == 777 {
			rss = 5000
		}
		p.RSS = &rss
		s.add(p)
	}
	most := int64(0)
	for i, v := range s.points {
		most = max(most, v.rss)
		if i > 0 && v.seconds <= s.points[i-1].seconds {
			t.Fatalf("point %d at %v s follows one at %v s", i, v.seconds, s.points[i-1].seconds)
		}
		if v.arena != unknown {
			t.Fatalf("point %d: arena %d, want unknown", i, v.arena)
		}
	}
	if most != 5000 || len(s.points) > maxPoints || len(s.spans) != 1 || s.spans[0].peak.rss != 5000 {
		t.Errorf("%d points, peak %d; %d phases", len(s.points), most, len(s.spans))
	}
}

func TestPage(t *testing.T) {
	r := NewRecorder(began, nil, nil)
	r.Progress(at(0), 0, 0, onCPU("tokenize", 0))
	for i := range 20 {
		r.Progress(at(float64(i)), 0, 0, onCPU("denoise", gib))
		r.Progress(at(float64(i)), 0, 1, onGPU("<script>alert(1)</script>", 20*gib, func(g *wanrunv1.Gpu) { g.Name = `"><b>x` }))
	}
	r.Progress(at(30), 1, 0, onCPU("denoise", 0)) // of the next attempt
	var out bytes.Buffer
	if err := r.WritePage(&out, "job <1>"); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	if strings.Contains(page, "<script") || strings.Contains(page, "<b>x") || !strings.Contains(page, "job &lt;1&gt;") {
		t.Error("text of others is not escaped")
	}
	for _, want := range []string{"GPU: unknown: the rank computes on the CPU", "rank 1", "NUMA node unknown", "attempt 1", "please report this", "<td>11 GiB</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!DOCTYPE html>", "", 1)))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta"}, xml.HTMLEntity
	pictures := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well formed: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "svg" {
			pictures++
		}
	}
	if pictures != 2+len(lines) {
		t.Errorf("%d pictures, want one a rank and %d keys", pictures, len(lines))
	}
	// Rank 0 has no GPU: two of the lines are not drawn; rank 1 has those and its RSS.
	if n := strings.Count(page, `fill="none"`); n != 4+3 {
		t.Errorf("%d lines are drawn, want 7", n)
	}
}

func FuzzProgress(f *testing.F) {
	for _, p := range []*wanrunv1.Progress{onCPU("denoise", gib), onGPU("x", gib, nil), {}} {
		data, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, rank int) {
		var p wanrunv1.Progress
		if proto.Unmarshal(data, &p) != nil {
			return
		}
		var out buffer
		r := NewRecorder(began, &out, nil)
		for second := range 5 {
			r.Progress(at(float64(second)), 0, rank, &p)
			r.Progress(at(float64(second)), 0, rank/2, &p)
		}
		if err := r.WritePage(io.Discard, "x"); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(out.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("line %q", line)
			}
			if strings.Contains(line, `_bytes":-`) {
				t.Errorf("bytes below zero: %s", line)
			}
		}
	})
}
